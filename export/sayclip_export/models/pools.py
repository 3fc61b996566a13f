"""Frames to one vector: attention and maximum pooling, batch norm, projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import MASKED


class Pools(nn.Module):
    """``forward(frames f32 [B,T,W], mask f32 [B,T,1]) -> f32 [B,D]``; ``mask`` is 1 on real frames.

    Pooled by ``pools`` learnt weightings and by the maximum. Batch norm makes utterances differ from the first steps
    on, where a plain mean over frames hardly does.
    """

    def __init__(self, width: int, pools: int, embedding: int) -> None:
        super().__init__()
        self.weights = nn.Linear(width, pools)
        self.norm: nn.Module = nn.BatchNorm1d((pools + 1) * width)
        self.projection = nn.Linear((pools + 1) * width, embedding)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        hidden = (1 - mask) * MASKED
        weights = torch.softmax(self.weights(frames) + hidden, dim=1)
        means = (weights.transpose(1, 2) @ frames).flatten(1)
        return self.projection(self.norm(torch.cat([means, (frames + hidden).amax(1)], dim=1)))

    def fold(self) -> None:
        """Fold the batch norm into the projection, in place; for evaluation and export only."""
        if isinstance(self.norm, nn.BatchNorm1d):
            norm, linear = self.norm, self.projection
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.data / torch.sqrt(norm.running_var + norm.eps)
            linear.bias.data += linear.weight.data @ (norm.bias.data - norm.running_mean * scale)
            linear.weight.data *= scale
            self.norm = nn.Identity()
