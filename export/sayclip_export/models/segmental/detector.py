"""Where one word-like unit ends and the next begins: peaks in how unlike neighbouring frames are.

The detector of SCPC (Bhati et al. 2021, arXiv 2106.02170; its peaks as two independent re-implementations have them),
written without loops and without shapes that depend on the data. Three things are ours. A boundary is the comparison
``p > eps``, when training too: the published tanh(1000 p) is a fraction for 0 < p < 7e-3, the running sum of boundaries
is then no whole number, and every later frame is lost. A recording whose cosines all lie within ``FLAT`` has no
boundaries, where the plain scaling would blow rounding errors up to the full range. And of more boundaries than there
are slots for, the highest stay.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad, relu

from sayclip_export.models.layers import MASKED
from sayclip_export.models.segmental.precision import single

FLAT = 1e-4  # cosines of fp32 frames are wrong by up to some 1e-6
AS_THEY_ARE = 1.0  # cosines that were learnt to mean something are not scaled up: one word alone stays one


def boundaries(
    frames: Tensor, mask: Tensor, threshold: float, eps: float, slots: int, flat: float = FLAT
) -> tuple[Tensor, Tensor]:
    """Where segments begin, f32 [B,T] of 0 and 1, and how far each peak stands out, f32 [B,T] from 0 to 1.

    ``frames`` f32 [B,T,W]; ``mask`` f32 [B,T] is 1 on the real ones, which come first. A 1 marks the first frame of a
    new segment; frame 0, which begins one in any case, has none, so segments are numbered from 0 by the running sum.
    ``flat``: differences of cosines that are not scaled up. ``eps``: 1e-3 is far over what rounding moves a distance by
    and far under any threshold of use; of two neighbours that are equally far but for rounding, neither is a peak.
    There are at most ``slots - 1`` boundaries: of more the highest stay, of equally high ones the first. All in fp32,
    under autocast too. The boundaries have no gradient, the prominences have one.
    """
    with single(frames.device):
        distance, pairs = dissimilarity(frames.float(), mask.float(), flat)
        prominence = peaks(distance, pairs, threshold)
        found = (prominence > eps) & highest(prominence, slots - 1)
        return found.to(prominence.dtype), prominence


def dissimilarity(frames: Tensor, mask: Tensor, flat: float = FLAT) -> tuple[Tensor, Tensor]:
    """How unlike its predecessor each frame is, f32 [B,T], and which have one, f32 [B,T] of 0 and 1.

    1 minus the cosine, scaled to [0, 1] by the least and the greatest of each recording, as far as these lie more than
    ``flat`` apart; 0 where there is no pair.
    """
    cosine = neighbours(frames)
    pairs = pad(mask, (1, 0))[:, :-1] * mask
    hidden = (1 - pairs) * MASKED
    most, least = (cosine + hidden).amax(1, keepdim=True), (cosine - hidden).amin(1, keepdim=True)
    # A floor, where the papers add 1e-8: for the reason above, and since exporters take adding 1e-8 for nothing.
    return (1 - (cosine - least) / (most - least).clamp(min=flat)) * pairs, pairs


def neighbours(frames: Tensor) -> Tensor:
    """The cosine of each of the frames f32 [B,T,W] with its predecessor, f32 [B,T]; 0 for the first."""
    direction = normalize(frames, dim=-1, eps=1e-6)
    return (pad(direction, (0, 0, 1, 0))[:, :-1] * direction).sum(-1)


def peaks(distance: Tensor, pairs: Tensor, threshold: float) -> Tensor:
    """How far each peak of ``distance`` f32 [B,T] stands out over ``threshold``, f32 [B,T], 0 where there is none.

    A peak is higher than its neighbours, by more than the threshold than these or than the next but one. A neighbour
    that is missing counts as a rise of 0, so the first and the last pair cannot be peaks.
    """
    near, wide = rises(distance, pairs)
    return torch.minimum(relu(torch.maximum(near, wide) - threshold), near) * pairs


def rises(distance: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """How much higher each pair is than both neighbours, f32 [B,T], and than both next but one; 0 where it is not."""
    near, wide = (
        torch.minimum(_rise(distance, pairs, step, before=True), _rise(distance, pairs, step, before=False))
        for step in (1, 2)
    )
    return near, wide


def _rise(distance: Tensor, pairs: Tensor, step: int, before: bool) -> Tensor:
    """How much higher each pair is than the one ``step`` before or after it, f32 [B,T]; 0 where that is no pair."""
    side = (step, 0) if before else (0, step)
    window = slice(None, -step) if before else slice(step, None)
    return relu(distance - pad(distance, side)[:, window]) * pad(pairs, side)[:, window]


def highest(values: Tensor, count: int) -> Tensor:
    """Which of ``values`` f32 [B,T] are among the ``count`` highest, bool [B,T]; of equal ones the first."""
    here, there = values[:, :, None], values[:, None, :]
    place = torch.arange(values.shape[1], device=values.device)
    ahead = (there > here) | ((there == here) & (place[None, :] < place[:, None]))
    return ahead.to(values.dtype).sum(2) < count
