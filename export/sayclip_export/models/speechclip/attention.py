"""The two attention blocks of SpeechCLIP's heads, and the projections behind them.

Both take queries [B,Q,W] that are rows of the keys [B,T,W], so that only the rows somebody reads are computed.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu

from sayclip_export.models.layers import Attention


class AttentionNorm(nn.Module):
    """LN(x + MHA(x)), without a feed-forward part (``MultiheadAttentionAndNorm``, the cascaded branch)."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, heads), nn.LayerNorm(width, eps)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.norm(queries + self.attention(queries, keys, mask))


class EncoderLayer(nn.Module):
    """One post-norm transformer layer and a further LayerNorm (``TransformerEncoder``, the parallel branch)."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.norm = nn.LayerNorm(width)

    def layer(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Without the last norm."""
        x = self.norm1(queries + self.attention(queries, keys, mask))
        return self.norm2(x + self.linear2(gelu(self.linear1(x))))

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.layer(queries, keys, mask))


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """A linear layer, or where ``hidden`` is not 0 two of them with a ReLU between."""
    if not hidden:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
