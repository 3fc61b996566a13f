"""The segmental head: detector, means of segments, a small transformer over these, and the frozen text side.

After the abstracts of Bhati et al. (Interspeech 2023; arXiv 2309.04628): a sequence of word-like units goes into CLIP's
pretrained text encoder as word embeddings, past the token table. What lies between is ours.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from sayclip_export.models.hubert import additive_mask, inside
from sayclip_export.models.layers import Block
from sayclip_export.models.segmental.config import HeadConfig
from sayclip_export.models.segmental.detector import boundaries
from sayclip_export.models.segmental.heard import Heard
from sayclip_export.models.segmental.pooling import pool
from sayclip_export.models.segmental.surroundings import Surroundings, looked_at
from sayclip_export.models.segmental.units import UnitReader
from sayclip_export.models.text_side import TextSide

Self = TypeVar("Self", bound="SegmentalHead")


class SegmentalHead(nn.Module):
    """``forward(frames f32 [B,T,W], count i32 [B], target=None) -> Heard``, with ``cascaded`` and ``edges``.

    The segmentation follows from the frames alone, so ``target`` says nothing here. No gradient goes through it: what
    is lost behind it reaches the frames through the means. What a learnt detector looks at, ``detector``, is learnt
    beforehand, and stays as it is in training mode too. ``extras``: ``starts`` f32 [B,T] of 0 and 1 and ``prominence``
    f32 [B,T], see the detector; when training with a vocabulary, ``attended`` f32 [B,K,W_t], see ``Read``.
    """

    def __init__(self, config: HeadConfig, text: TextSide | None = None) -> None:
        super().__init__()
        self.config = config
        self.detector = Surroundings(config.width, config.detector) if config.detector else None
        self.positions = nn.Parameter(torch.randn(config.slots, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.segment_hidden, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.reader = UnitReader(config, 1, config.vocabulary, text)

    def forward(self, frames: Tensor, count: Tensor, target: Tensor | None = None) -> Heard:
        config = self.config
        mask = inside(count, frames.shape[1]).float()
        vectors, flat = looked_at(self.detector, frames, mask)
        starts, prominence = boundaries(vectors, mask, config.threshold, config.eps, config.slots, flat)
        means, segments, edges = pool(frames, starts, mask, config.slots)
        x = self.dropout(means) + self.positions
        attention_mask = additive_mask(inside(segments, config.slots).to(x.dtype))
        for block in self.blocks:
            x = block(x, attention_mask)
        read = self.reader(self.norm(x), segments)
        extras = {"starts": starts, "prominence": prominence}
        if read.attended is not None:
            extras["attended"] = read.attended
        return Heard(None, read.embedding, read.units, read.ids, read.scores, segments, edges, extras)

    def train(self: Self, mode: bool = True) -> Self:
        """As ever, but for the detector: where segments begin must not hang on chance."""
        super().train(mode)
        if self.detector is not None:
            self.detector.eval()
        return self

    def fold(self) -> SegmentalHead:
        """Fold the batch norm, in place; for evaluation and export."""
        self.eval().reader.fold()
        return self
