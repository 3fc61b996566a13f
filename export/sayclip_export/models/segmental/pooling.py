"""Frames to the means of their segments, in fixed slots, as one product: no loop, no shape that depends on the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sayclip_export.models.segmental.precision import single


def pool(frames: Tensor, starts: Tensor, mask: Tensor, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means of segments f32 [B,M,W], 0 past their count i32 [B], and edges f32 [B,M+1] in frames, M = ``slots``.

    ``frames`` f32 [B,T,W]; ``starts`` f32 [B,T] is 1 on the first frame of every segment but the first, ``mask`` f32
    [B,T] 1 on real frames, of which a count of at least 1 needs one. Slot k lies between edges k and k + 1; edges past
    the last segment stay at the end. A segment whose number is ``slots`` or more is lost, so there must be none.
    Computed in fp32, under autocast too; gradients reach the frames.
    """
    with single(frames.device):
        number = torch.cumsum(starts.float(), 1)
        slot = torch.arange(slots, device=frames.device, dtype=number.dtype)[None, :, None]
        inside = ((number[:, None] - slot).abs() < 0.5).to(number.dtype) * mask.float()[:, None]
        size = inside.sum(2)
        values = (inside @ frames.float()) / size.clamp(min=1)[:, :, None]
        return values, (size > 0).sum(1).to(torch.int32), pad(torch.cumsum(size, 1), (1, 0))
