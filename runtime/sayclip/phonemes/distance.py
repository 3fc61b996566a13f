"""How far apart two segments of the IPA chart are.

The Euclidean distance of attribute vectors, with three refinements that bring it nearer to what the ear confuses:

- place of articulation counts along its axis from the lips to the glottis, so that ``p`` is nearer to ``t`` than to
  ``k``: as running sums of shares, one step costs 0.2 (squared), the whole axis as much as another manner;
- shares of manner count by their square roots, so that an affricate is near to its two parts only, not to everything;
  a manner of two words is half of each, so that ``l`` is near to ``ɹ`` and ``ɬ`` to ``s``;
- the rhotic flag counts half, and joins ``r``, ``ɹ``, ``ɝ`` and their kin.

Voiced against voiceless is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PLACE_PREFIX = "place."
MANNER_PREFIX = "manner."
_STEP = 0.2
_RHOTIC = 0.5


def metric_coordinates(vectors: NDArray[np.float32], attributes: Sequence[str]) -> NDArray[np.float64]:
    """Points whose Euclidean distances are the distances of the segments.

    ``vectors``: float32 [N, K] attribute vectors; ``attributes``: their K names, places of articulation being named
    ``place.…`` from front to back, manners ``manner.…``. Returns float64 [N, P].
    """
    values = np.asarray(vectors, dtype=np.float64)
    places = [column for column, name in enumerate(attributes) if name.startswith(PLACE_PREFIX)]
    manners = [column for column, name in enumerate(attributes) if name.startswith(MANNER_PREFIX)]
    others = [column for column in range(len(attributes)) if column not in places and column not in manners]

    by_word: dict[str, NDArray[np.float64]] = {}
    for column in manners:
        words = attributes[column].removeprefix(MANNER_PREFIX).split()
        for word in words:
            by_word[word] = by_word.get(word, 0.0) + values[:, column] / len(words)
    weights = np.array([_RHOTIC if attributes[column] == "rhotic" else 1.0 for column in others])
    parts = [
        values[:, others] * np.sqrt(weights),
        np.cumsum(values[:, places], axis=1) * np.sqrt(_STEP),
        *(np.sqrt(share)[:, np.newaxis] for share in by_word.values()),
    ]
    points: NDArray[np.float64] = np.concatenate(parts, axis=1)
    return points


def distances(point: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of ``point`` [P] from each of ``points`` [N, P]: float64 [N], rounded so that equal ones are equal."""
    gaps: NDArray[np.float64] = np.linalg.norm(points - point, axis=1).round(6)
    return gaps
