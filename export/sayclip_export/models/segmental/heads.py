"""SpeechCLIP's heads at the sizes of small frames, and ``build_head``, which makes a head of any kind.

parallel     1 token   -> embedding                        (Shih et al. 2022, arXiv 2210.00705)
cascaded     8 tokens  -> 8 keywords -> embedding
hybrid       1 + 8 tokens: both                            (Wang et al. 2024, arXiv 2402.06959)
cif          no token, frames -> CIF -> keywords -> embedding
segmental    see ``SegmentalHead``
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sayclip_export.models.hubert import additive_mask, inside
from sayclip_export.models.segmental.config import KINDS, HeadConfig
from sayclip_export.models.segmental.head import SegmentalHead
from sayclip_export.models.segmental.heard import Heard
from sayclip_export.models.segmental.precision import single
from sayclip_export.models.segmental.units import UnitReader
from sayclip_export.models.speechclip.attention import AttentionNorm, EncoderLayer
from sayclip_export.models.speechclip.cif import Cif, Slots
from sayclip_export.models.text_side import TextSide

SLOW = -2.0  # bias of CIF's weights before training: a frame brings an eighth of a unit, so 30 ms a quarter second


def build_head(kind: str, config: HeadConfig, text: TextSide | None = None) -> BranchHead | SegmentalHead:
    """A head of ``kind``, one of ``KINDS``, for training or to load weights into.

    ``text``: the frozen text side, of the sizes ``config.text``, whose weights are copied; without it that is random.
    Raises ValueError for another kind, or a text side of other sizes.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, wanted one of {', '.join(KINDS)}")
    return SegmentalHead(config, text) if kind == "segmental" else BranchHead(kind, config, text)


class BranchHead(nn.Module):
    """``forward(frames f32 [B,T,W], count i32 [B], target f32 [B] or None) -> Heard``.

    ``target``, when training cif: how many units there are to be; weights are scaled to add up to it. ``extras`` of
    cif: ``alpha`` f32 [B,T], the weights before that, and ``alpha_sum`` f32 [B], for the loss on the quantity. When
    training keywords, ``attended``, see ``Read``.
    """

    def __init__(self, kind: str, config: HeadConfig, text: TextSide | None = None) -> None:
        super().__init__()
        self.kind, self.config = kind, config
        width, heads = config.width, config.heads
        first = kind in ("parallel", "hybrid")
        self.keywords = config.keywords if kind in ("cascaded", "hybrid") else 0
        self.tokens = nn.Parameter(torch.randn(1, int(first) + self.keywords, width) * 0.02)
        self.block: AttentionNorm | EncoderLayer = (
            EncoderLayer(width, heads, config.hidden, 1e-5) if config.hidden else AttentionNorm(width, heads, 1e-5)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.parallel = nn.Linear(width, config.text.embedding) if first else None
        self.reader = None if kind == "parallel" else UnitReader(config, self.keywords or 1, "quantise", text)
        self.cif: Cif | None = None
        if kind == "cif":
            self.cif = Cif(width, config.cif_layers, config.cif_kernel, config.slots, config.tail)
            nn.init.constant_(self.cif.weight.bias, SLOW)

    def forward(self, frames: Tensor, count: Tensor, target: Tensor | None = None) -> Heard:
        rows = self.attend(self.dropout(frames), count)
        parallel = None if self.parallel is None else self.parallel(rows[:, 0])
        if self.reader is None:
            return Heard(parallel)
        if self.cif is None:
            read = self.reader(rows[:, rows.shape[1] - self.keywords :])
            found, edges, extras = None, None, {}
        else:
            alpha, slots = self.fire(self.cif, rows, count, target)
            read = self.reader(slots.values, slots.count)
            found, edges, extras = slots.count, slots.edges, {"alpha": alpha, "alpha_sum": alpha.sum(1)}
        if read.attended is not None:
            extras["attended"] = read.attended
        return Heard(parallel, read.embedding, read.units, read.ids, read.scores, found, edges, extras)

    def attend(self, frames: Tensor, count: Tensor) -> Tensor:
        """The rows of the attention block that somebody reads: of the tokens, or for cif of the frames, f32 [B,Q,W]."""
        tokens = self.tokens.shape[1]
        x = torch.cat([self.tokens.expand(frames.shape[0], -1, -1), frames], dim=1) if tokens else frames
        mask = additive_mask(inside(count + tokens, x.shape[1]).to(x.dtype))
        return self.block(x[:, :tokens] if tokens else x, x, mask)

    def fire(self, cif: Cif, rows: Tensor, count: Tensor, target: Tensor | None) -> tuple[Tensor, Slots]:
        """The weights of the frames f32 [B,T] and the slots that they fill, which when training are ``target``."""
        with single(rows.device):
            rows = rows.float()
            alpha = cif.weights(rows, count)
            scaled = alpha
            if self.training and target is not None:
                scaled = alpha * (target.to(alpha.dtype) / alpha.sum(1).clamp(min=1e-6))[:, None]
            return alpha, cif.fire(rows, scaled, count)

    def fold(self) -> BranchHead:
        """Fold the batch norm, in place; for evaluation and export."""
        self.eval()
        if self.reader is not None:
            self.reader.fold()
        return self
