"""What every head makes of frames, and the face that all of them have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Heard:
    """Embeddings f32 [B,D], not normalised, and the units behind one of them; None for what a head does not have.

    ``parallel``: from the frames directly; ``cascaded``: read from units by the text side. ``units`` f32 [B,K,W_t]
    before they are snapped to rows of the token table. ``ids`` i32 [B,K] and ``scores`` f32 [B,K]: row of the highest
    cosine and that cosine. ``count`` i32 [B]: how many of the K there are, None for all; past it ids and scores are 0
    and units mean nothing. ``edges`` f32 [B,K+1] in frames: unit k lies between edges k and k + 1; past the last they
    stay at the end. ``extras``: what a loss may want, see the heads.
    """

    parallel: Tensor | None = None
    cascaded: Tensor | None = None
    units: Tensor | None = None
    ids: Tensor | None = None
    scores: Tensor | None = None
    count: Tensor | None = None
    edges: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


class Head(Protocol):
    """``head(frames f32 [B,T,W], count i32 [B], target f32 [B] or None) -> Heard``; the first ``count`` are real."""

    def __call__(self, frames: Tensor, count: Tensor, target: Tensor | None = None) -> Heard: ...
