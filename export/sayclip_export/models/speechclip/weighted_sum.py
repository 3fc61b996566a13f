"""The learnt mixture of HuBERT's layers (arXiv 2210.00705, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class WeightedSum(nn.Module):
    """States f32 [B,T,W], one a layer, to their sum under softmaxed weights f32 [B,T,W].

    ``normalise``: each state first goes through a layer norm without scale and shift (SpeechCLIP large).
    """

    def __init__(self, states: int, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        self.weights = nn.Parameter(torch.zeros(states))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        weights = torch.softmax(self.weights, 0)
        parts = [layer_norm(x, x.shape[-1:]) if self.normalise else x for x in states]
        total = parts[0] * weights[0]
        for i, part in enumerate(parts[1:], start=1):
            total = total + part * weights[i]
        return total
