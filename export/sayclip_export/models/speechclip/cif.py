"""Continuous integrate-and-fire (Dong and Xu 2020, arXiv 1905.11235), as SpeechCLIP+ uses it to find keywords.

Frames bring weights; each time these add up to 1 a slot is full. The sum over frames is written as one product with
the matrix of overlaps, weight s covering [c_(s-1), c_s] of the running sum c and slot t covering [t, t + 1], so that
neither loops nor shapes depend on the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.hubert import Padding, inside

FAINT = 1e-3  # a lighter frame is passed as one of this weight: an edge must not leap over it for a rounding error


@dataclass(frozen=True)
class Slots:
    """``values`` f32 [B,K,W], 0 past ``count`` i32 [B] (at least 1); ``alpha``: weights of the frames f32 [B,T].

    ``edges`` f32 [B,K+1], in frames: slot k lies between edges k and k + 1; edges past the last slot stay at the end.
    """

    values: Tensor
    count: Tensor
    alpha: Tensor
    edges: Tensor


class Cif(nn.Module):
    """Frames f32 [B,T,W] and their count to at most ``slots`` keyword vectors.

    What is left at the end makes a slot of its own, scaled up, from a weight of ``tail`` on.
    """

    def __init__(self, width: int, layers: int, kernel: int, slots: int, tail: float) -> None:
        super().__init__()
        self.slots, self.tail = slots, tail
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers))
        self.weight = nn.Linear(width, 1)

    def weights(self, frames: Tensor, count: Tensor, padding: Padding = "exact") -> Tensor:
        """The share of a slot that each frame brings, f32 [B,T] in [0, 1]; 0 past ``count``."""
        valid = inside(count, frames.shape[1]).to(frames.dtype)
        x = frames.transpose(1, 2)
        for conv in self.convs:
            if padding == "exact":
                x = x * valid[:, None, :]
            x = torch.relu(conv(x))
        return torch.sigmoid(self.weight(x.transpose(1, 2)))[:, :, 0] * valid

    def forward(self, frames: Tensor, count: Tensor, padding: Padding = "exact") -> Slots:
        return self.fire(frames, self.weights(frames, count, padding), count)

    def fire(self, frames: Tensor, alpha: Tensor, count: Tensor) -> Slots:
        """The slots that frames fill whose weights are ``alpha`` f32 [B,T], 0 past ``count``."""
        after = torch.cumsum(alpha, 1)
        before = after - alpha
        slot = torch.arange(self.slots, device=frames.device, dtype=alpha.dtype)[None, :, None]
        overlap = (torch.minimum(after[:, None], slot + 1) - torch.maximum(before[:, None], slot)).clamp(min=0)
        full = torch.floor(alpha.sum(1, keepdim=True)).clamp(1, self.slots)
        filled, index = overlap.sum(2), slot[:, :, 0]
        is_full = (index < full).to(alpha.dtype)
        is_tail = ((index == full) & (filled >= self.tail)).to(alpha.dtype)
        scale = is_full + is_tail / filled.clamp(min=self.tail)
        values = (overlap @ frames) * scale[:, :, None]
        valid = inside(count, frames.shape[1]).to(alpha.dtype)
        number = torch.arange(self.slots + 1, device=frames.device, dtype=alpha.dtype)[None, :, None]
        passed = ((number - before[:, None]) / alpha.clamp(min=FAINT)[:, None]).clamp(0, 1) * valid[:, None]
        return Slots(values, (is_full + is_tail).sum(1).to(torch.int32), alpha, passed.sum(2))
