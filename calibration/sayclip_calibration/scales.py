"""Where to clip an activation: min-max, percentile, entropy and mean squared error, over a histogram of magnitudes.

Every method gives the largest absolute value that int8 represents exactly; the scale is that over 127. They are chosen
from |x| alone because the master is symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .minmax import LEVELS

BINS = 4096
PERCENTILE = 99.99
_CANDIDATES = 96  # thresholds that `mse` and `entropy` look at


@dataclass
class Histogram:
    """Counts of |x| in ``BINS`` equal bins over [0, ``limit``), for values that arrive in pieces.

    ``limit`` is a power of two that doubles when a value not below it comes, two bins becoming one: so the counts do
    not depend on how the values were cut into pieces.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    limit: float = 0.0
    absmax: float = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Count finite float values of any shape."""
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        if magnitudes.size == 0:
            return
        largest = float(magnitudes.max())
        self.absmax = max(self.absmax, largest)
        if largest > 0.0 and largest >= self.limit:
            self._widen(largest)
        if self.limit == 0.0:  # zeros only, so far
            self.counts[0] += magnitudes.size
            return
        places = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)  # a power of two: exact
        self.counts += np.bincount(places, minlength=BINS)

    def _widen(self, largest: float) -> None:
        wanted = 2.0 ** math.frexp(max(largest, 2.0**-100))[1]  # the next power of two above it
        while self.limit and self.limit < wanted:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
        self.limit = wanted

    @property
    def centres(self) -> NDArray[np.float64]:
        """Magnitude in the middle of each bin."""
        centres: NDArray[np.float64] = (np.arange(BINS, dtype=np.float64) + 0.5) * (self.limit / BINS)
        return centres


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return histogram.absmax


def percentile(histogram: Histogram, share: float = PERCENTILE) -> float:
    """The magnitude under which ``share`` per cent of the values lie."""
    counted = np.cumsum(histogram.counts)
    place = int(np.searchsorted(counted, counted[-1] * share / 100.0))
    return min((place + 1) * histogram.limit / BINS, histogram.absmax)


def mse(histogram: Histogram) -> float:
    """The threshold with the least mean squared error of rounding and clipping together."""
    filled = np.flatnonzero(histogram.counts)
    values, counts = histogram.centres[filled], histogram.counts[filled].astype(np.float64)

    def error(threshold: float) -> float:
        step = threshold / LEVELS
        rounded = np.minimum(np.rint(values / step), LEVELS) * step
        # A bin is wider than a step where the tail is long; what rounding costs inside it is a twelfth of its square.
        inside = np.minimum(step, histogram.limit / BINS) ** 2 / 12
        return float((counts * ((rounded - values) ** 2 + inside)).sum())

    return _best(histogram, error)


def entropy(histogram: Histogram) -> float:
    """The threshold whose quantised distribution loses least information (Kullback-Leibler, as TensorRT 8 describes).

    S. Migacz, "8-bit Inference with TensorRT", GTC 2017: the part beyond the threshold is added to the last bin of the
    reference, the candidate spreads each of 128 levels evenly over its non-empty bins.
    """
    counts = histogram.counts.astype(np.float64)
    counts[0] = counts[1]  # exact zeros (ReLU, padding) are no part of the shape

    def divergence(threshold: float) -> float:
        bins = min(max(round(threshold / histogram.limit * BINS), LEVELS + 1), BINS)
        reference = counts[:bins].copy()
        reference[-1] += counts[bins:].sum()
        kept = counts[:bins]
        level = (np.arange(bins) * (LEVELS + 1)) // bins
        full = (kept > 0).astype(np.float64)
        totals, occupied = np.bincount(level, kept), np.bincount(level, full)
        spread = np.divide(totals, occupied, out=np.zeros_like(totals), where=occupied > 0)[level] * full
        total, spread_total = reference.sum(), spread.sum()
        if total == 0 or spread_total == 0:
            return np.inf
        p, q = reference / total, np.maximum(spread / spread_total, 1e-12)
        seen = p > 0
        return float((p[seen] * np.log(p[seen] / q[seen])).sum())

    return _best(histogram, divergence)


def _best(histogram: Histogram, cost: Callable[[float], float]) -> float:
    """The cheapest of evenly spaced thresholds (in the logarithm, down to a hundredth); the larger of equals."""
    if histogram.absmax == 0.0:
        return 0.0
    thresholds = histogram.absmax * np.logspace(0.0, -2.0, _CANDIDATES)
    costs = [cost(float(threshold)) for threshold in thresholds]
    return float(thresholds[int(np.argmin(costs))])


METHODS: dict[str, Callable[[Histogram], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
