"""One layer at a time: what int8 makes of its output, on rows of real activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import GraphView
from .minmax import LEVELS, SMALLEST_SCALE, scale_of
from .placement import Site
from .scales import METHODS, Histogram

Rows = NDArray[np.float32]
COMPENSATED = 0.2  # of a weight's rounding error, what about is left of it in the outputs by `compensate`


@dataclass(frozen=True)
class Threshold:
    """The largest magnitude to represent, the method that gave it, and the relative squared error it leads to."""

    method: str
    absmax: float
    error: float


def matrix(view: GraphView, site: Site) -> Rows:
    """The weight of a MatMul or Gemm as [products, channels]."""
    weight: Rows = view.constant(site.weight)
    return weight if site.axis == 1 else weight.T


def rounded(values: Rows, absmax: float) -> Rows:
    """``values`` as int8 holds them: symmetric, 127 levels up to ``absmax``, clipped beyond."""
    scale = scale_of(absmax)
    result: Rows = np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale
    return result


def rounded_columns(weight: Rows) -> Rows:
    """A weight [products, channels] as int8 holds it, with one scale a channel."""
    absmax = np.abs(weight).max(axis=0)
    scale = np.maximum(np.where(absmax == 0, 1.0, absmax).astype(np.float32) / np.float32(LEVELS), SMALLEST_SCALE)
    result: Rows = np.clip(np.rint(weight / scale), -LEVELS, LEVELS) * scale
    return result


def relative_error(seen: Rows, columns: Sequence[Rows], wanted: Sequence[Rows], powers: Sequence[float]) -> float:
    """Squared error of products to ``wanted``, each layer's relative to its ``powers``, summed over the layers."""
    total = 0.0
    for weight, output, power in zip(columns, wanted, powers, strict=True):
        total += float(np.square(seen @ weight - output, dtype=np.float64).sum()) / max(power, 1e-30)
    return total


def error_by_row(rows: Rows, weights: Sequence[Rows], wanted: Sequence[Rows], powers: Sequence[float]) -> float:
    """``relative_error`` where each row is divided by its largest magnitude first and multiplied by it after."""
    peaks = peaks_of(rows)
    return relative_error(rounded(rows / peaks, 1.0) * peaks, compensated(weights), wanted, powers)


def peaks_of(rows: Rows) -> Rows:
    """Largest magnitude of each row, f32 [n, 1], 1 for a row of zeros."""
    peaks: Rows = np.abs(rows).max(axis=1, keepdims=True)
    peaks[peaks < SMALLEST_SCALE] = 1.0
    return peaks


def compensated(weights: Sequence[Rows]) -> list[Rows]:
    """Weights about as ``compensate`` leaves them, without the time it takes."""
    return [weight + COMPENSATED * (rounded_columns(weight) - weight) for weight in weights]


def frame_error(rows: Rows, absmax: float) -> float:
    """Mean over ``rows`` [n, C] of each one's squared error in int8, relative to its own square.

    A row that is nearly silent counts as one of a thousandth of their mean.
    """
    power = np.square(rows, dtype=np.float64).sum(axis=1)
    lost = np.square(rounded(rows, absmax).astype(np.float64) - rows).sum(axis=1)
    return float((lost / np.maximum(power, max(1e-3 * power.mean(), 1e-30))).mean())


def best_threshold(
    rows: Rows,
    channels: Rows,
    weights: Sequence[Rows],
    wanted: Sequence[Rows],
    histogram: Histogram | None = None,
    methods: Sequence[str] = tuple(METHODS),
    powers: Sequence[float] | None = None,
) -> Threshold:
    """The method whose threshold harms the layers that read an activation least; the earlier one of equals.

    ``rows`` [n, C]: what the layers read; ``channels`` [C]: its largest magnitudes over all inputs; ``weights`` each
    [C, channels out]; ``wanted``: their products in float. ``histogram`` None: that of ``rows``.
    ``powers``: what errors are relative to, None for the squares of ``wanted``.
    """
    if powers is None:
        powers = [float(np.square(output, dtype=np.float64).sum()) for output in wanted]
    if histogram is None:
        histogram = Histogram()
        histogram.add(rows)
        histogram.absmax = max(histogram.absmax, float(channels.max()))
    columns = compensated(weights)
    best: Threshold | None = None
    for method in methods:
        absmax = METHODS[method](histogram)
        error = relative_error(rounded(rows, absmax), columns, wanted, powers)
        if best is None or error < best.error:
            best = Threshold(method, absmax, error)
    assert best is not None
    return best
