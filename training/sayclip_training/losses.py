"""Losses against a bank of embeddings, and retrieval scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def bank_loss(logits: Tensor, target: Tensor, ignored: Tensor) -> Tensor:
    """Cross-entropy of logits f32 [B,P] with target distributions [B,P]; ``ignored`` bool [B,P] leaves the softmax."""
    log_probability = torch.log_softmax(logits.masked_fill(ignored, -1e4), dim=-1)
    return -(target * log_probability).sum(-1).mean()


def recall(scores: NDArray[np.float32], right: NDArray[np.bool_], k: int) -> float:
    """Share of rows of scores [N,P] that have a ``right`` column [N,P] among their best ``k``."""
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return float(np.take_along_axis(right, best, axis=1).any(1).mean())
