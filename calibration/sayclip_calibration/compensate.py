"""Rounding a weight so that what one row loses the later rows make good, on what the layer really reads.

GPTQ (Frantar et al. 2022, arXiv 2210.17323): rows are rounded one after another, and the error each makes in the
layer's output, measured by the second moment of its inputs, is taken back by the rows not rounded yet. The scales are
those of plain rounding, so nothing about the graph changes. The moment is that of the inputs as int8 holds them: what
rounding adds to each channel keeps the weights from leaning on differences that int8 does not resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .graph import GraphView
from .layers import matrix
from .minmax import LEVELS, Range
from .placement import Placement
from .qdq import Rounded, quantise_weight
from .statistics import Statistics

DAMPING = 0.01  # of the mean second moment: keeps channels that were hardly seen near plain rounding
_BLOCK = 128


def round_weights(
    view: GraphView,
    placement: Placement,
    statistics: Mapping[str, Statistics],
    ranges: Mapping[str, Range],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rounded:
    """Rounded weights of every layer of ``placement``; plainly where there is no moment of its inputs."""
    rounded: Rounded = {}
    spread: tuple[str, NDArray[np.intp], NDArray[np.float32]] | None = None  # layers of one input are neighbours
    for done, site in enumerate(placement.sites, start=1):
        levels, scale = quantise_weight(view.constant(site.weight), site.axis)
        seen = statistics[site.activation]
        if site.op != "Conv" and seen.moment is not None:
            if spread is None or spread[0] != site.activation:
                step = float(ranges[site.activation].scale)
                found = spreading(seen.moment, seen.count * seen.peak_power * step**2 / 12)
                spread = None if found is None else (site.activation, *found)
            if spread is not None:
                better = round_compensated(matrix(view, site), scale, spread[1], spread[2])
                levels = np.ascontiguousarray(better if site.axis == 1 else better.T)
        rounded[site.weight, site.axis] = levels, scale
        progress(done, len(placement.sites))
    return rounded


def spreading(moment: NDArray[np.float32], noise: float) -> tuple[NDArray[np.intp], NDArray[np.float32]] | None:
    """The order of rows, and how much of each one's error every later row takes, f32 [K, K]; None if there is no way.

    ``moment`` f32 [K, K]; ``noise`` is added to its diagonal, beside ``DAMPING``. Rows of larger moment come first.
    """
    seen = moment.diagonal().astype(np.float64)
    if not np.isfinite(moment).all() or seen.mean() <= 0:
        return None
    order = np.argsort(-seen, kind="stable")
    damped = moment[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * seen.mean() + noise
    try:
        upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        return None
    return order, (upper / upper.diagonal()[:, None]).astype(np.float32)


def round_compensated(
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    order: NDArray[np.intp],
    factors: NDArray[np.float32],
) -> NDArray[np.int8]:
    """int8 [K, N] of ``weight`` f32 [K, N] with ``scale`` f32 [N]; ``order`` and ``factors`` as ``spreading`` gives."""
    left = weight[order].astype(np.float32)
    levels = np.empty(weight.shape, np.int8)
    for start in range(0, len(left), _BLOCK):
        stop = min(start + _BLOCK, len(left))
        errors = np.empty((stop - start, weight.shape[1]), np.float32)
        for row in range(start, stop):
            chosen = np.clip(np.rint(left[row] / scale), -LEVELS, LEVELS)
            levels[order[row]] = chosen
            error = errors[row - start] = left[row] - chosen * scale
            left[row + 1 : stop] -= factors[row, row + 1 : stop, None] * error
        left[stop:] -= factors[start:stop, stop:].T @ errors
    return levels
