"""What the learnt detector looks at: each frame with those around it, brought to where words are told apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu

from sayclip_export.models.segmental.detector import AS_THEY_ARE, FLAT
from sayclip_export.models.segmental.precision import single

LAYERS, KERNEL = 3, 5  # a vector knows 6 frames on either side
NOISE = 0.3  # of the frames that it learns from, unless it is told otherwise: what it is taught is often wrong


class Surroundings(nn.Module):
    """``forward(frames f32 [B,T,W], mask f32 [B,T]) -> f32 [B,T,width/2]``, in fp32, under autocast too.

    Convolutions over time, each added to what went in, as frames past the mask were not there. Neighbours are to be
    unlike each other where one word ends and the next begins: the detector does the rest.
    """

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(width if layer else frames, width, KERNEL, padding=KERNEL // 2) for layer in range(LAYERS)
        )
        self.out = nn.Linear(width, max(1, width // 2))
        self.noise = NOISE

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        with single(frames.device):
            valid = mask.float()[:, None]
            x = frames.float().transpose(1, 2)
            for number, layer in enumerate(self.layers):
                found = gelu(layer(dropout(x, self.noise, self.training) * valid))
                x = x + found if number else found
            out: Tensor = self.out(torch.transpose(x, 1, 2))
            return out


def looked_at(net: Surroundings | None, frames: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    """What a detector is given behind ``net``, or of the frames as they are: vectors f32 [B,T,W'], and ``flat``."""
    return (frames, FLAT) if net is None else (net(frames, mask), AS_THEY_ARE)
