"""From the embeddings of a recording's segments to the one of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EPS = 1e-10  # added to every norm, as CLIP4VLA does


def pool_segments(embeddings: NDArray[Any], counts: Sequence[int]) -> NDArray[np.float32]:
    """Embeddings [sum of counts, D] of consecutive segments to float32 [len(counts), D], L2-normalised.

    Each recording's vector is the mean of its segments' normalised ones, normalised again (CLIP4VLA, Ruan et al. 2023,
    arXiv 2303.06591, its ``feat_avg``). Every count is at least 1.
    """
    segments = _unit(embeddings.astype(np.float64))
    ends = np.cumsum(counts)
    if len(ends) == 0:
        return np.empty((0, segments.shape[1]), np.float32)
    means = [segments[end - count : end].mean(axis=0) for end, count in zip(ends, counts, strict=True)]
    pooled: NDArray[np.float32] = _unit(np.stack(means)).astype(np.float32)
    return pooled


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + _EPS)
    return unit
