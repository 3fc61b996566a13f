"""The batch norm in front of the token table, which brings units where tokens lie (arXiv 2210.00705, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UnitNorm(nn.Module):
    """``forward(units f32 [B,K,D], valid bool [B,K] or None) -> f32 [B,K,D]``.

    ``places`` K: every place has statistics of its own; 1: all units share them. Only valid units count. In training
    mode a real batch norm, otherwise a scale and a shift; ``fold`` leaves only these.
    """

    scale: nn.Parameter | None
    shift: nn.Parameter | None

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.places, self.width = places, width
        self.batch_norm: nn.BatchNorm1d | None = nn.BatchNorm1d(places * width)
        self.register_parameter("scale", None)
        self.register_parameter("shift", None)

    def start_at(self, table: Tensor) -> None:
        """Begin with the mean and the standard deviation of the rows of ``table`` [V,D], as the paper does."""
        assert self.batch_norm is not None, "folded norms are for evaluation only"
        with torch.no_grad():
            self.batch_norm.weight.copy_(table.std(0).repeat(self.places))
            self.batch_norm.bias.copy_(table.mean(0).repeat(self.places))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift f32 [places,D] of evaluation."""
        if self.batch_norm is None:
            assert self.scale is not None
            assert self.shift is not None
            return self.scale, self.shift
        norm = self.batch_norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shape = (self.places, self.width)
        return scale.view(shape), (norm.bias - norm.running_mean * scale).view(shape)

    def forward(self, units: Tensor, valid: Tensor | None = None) -> Tensor:
        if self.training and self.batch_norm is not None:
            if self.places > 1:
                rows = units.flatten(1)
                return self.batch_norm(rows).view_as(units) if len(rows) > 1 else self.still(units)
            rows = units.flatten(0, 1) if valid is None else units[valid]
            if len(rows) < 2:  # of which there is no variance
                return self.still(units)
            normed = self.batch_norm(rows)
            if valid is None:
                return normed.view_as(units)
            whole = normed.new_zeros(units.shape)
            whole[valid] = normed
            return whole
        return self.still(units)

    def still(self, units: Tensor) -> Tensor:
        """By the running statistics."""
        scale, shift = self.affine()
        return units * scale + shift

    def fold(self) -> None:
        """Keep scale and shift only, in place; for evaluation and export."""
        if self.batch_norm is not None:
            scale, shift = self.affine()
            self.scale, self.shift = (nn.Parameter(value.detach().clone(), False) for value in (scale, shift))
            self.batch_norm = None
