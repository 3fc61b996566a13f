"""The two attention blocks of SpeechCLIP's heads, and the projections behind them.

Both take queries [B,Q,W] that are rows of the keys [B,T,W], so that only the rows somebody reads are computed.
"""

from __future__ import annotations

from torch import Tensor, nn

from sayclip_export.models.layers import Attention, PostNorm


class AttentionNorm(nn.Module):
    """LN(x + MHA(x)), without a feed-forward part (``MultiheadAttentionAndNorm``, the cascaded branch)."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, heads), nn.LayerNorm(width, eps)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.norm(queries + self.attention(queries, keys, mask))


class EncoderLayer(PostNorm):
    """One post-norm transformer layer and a further LayerNorm (``TransformerEncoder``, the parallel branch)."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__(width, heads, hidden, eps)
        self.norm = nn.LayerNorm(width)

    def layer(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Without the last norm."""
        return super().forward(queries, keys, mask)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.layer(queries, keys, mask))


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """A linear layer, or where ``hidden`` is not 0 two of them with a ReLU between."""
    if not hidden:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
