"""Blocks shared by the towers: eager attention, so that exported graphs hold plain MatMul and Softmax nodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e4  # finite, and survives fp16


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, CLIP's activation (Radford et al. 2021, arXiv 2103.00020)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


# Nothing in the weights tells which one a checkpoint was trained with; the wrong one costs about two points of recall.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class Attention(nn.Module):
    """Multi-head attention, queries [B,Q,W] on keys [B,T,W] under an additive mask that broadcasts to [B,heads,Q,T].

    Without a mask every query sees every key.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self._split(self.q_proj(queries)) * self.head_width**-0.5
        k, v = self._split(self.k_proj(keys)), self._split(self.v_proj(keys))
        scores = q @ k.transpose(-2, -1)
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer layer as in CLIP's towers: x + MHA(LN(x)), then x + MLP(LN(x)); default: QuickGELU."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float = 0.0,
        activation: Callable[[], nn.Module] = QuickGELU,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.ln_1(x)
        return self.finish(x, self.attention(y, y, mask))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer, on the rows ``x`` and what attention gave for them."""
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.ln_2(x)))


class PostNorm(nn.Module):
    """Post-norm transformer layer: LN(x + MHA(x)), then LN(x + MLP(x)); default: GELU.

    Takes queries [B,Q,W] that are rows of the keys [B,T,W], so that only the rows somebody reads are computed.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, eps: float, activation: Callable[[], nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.activation = activation()

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(queries + self.attention(queries, keys, mask))
        return self.norm2(x + self.linear2(self.activation(self.linear1(x))))


def first_row(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """What ``blocks`` of ``Block`` make of the first row of x [B,T,W], f32 [B,W].

    Nothing else is read, so the last block computes the query and the feed-forward part of that row alone.
    """
    for block in blocks[:-1]:
        x = block(x)
    last = blocks[-1]
    assert isinstance(last, Block)
    y = last.ln_1(x)
    return last.finish(x[:, :1], last.attention(y[:, :1], y))[:, 0]


def unit(x: Tensor) -> Tensor:
    """L2-normalise the last dimension (eps 1e-12 against a zero vector)."""
    return functional.normalize(x, dim=-1, eps=1e-12)
