"""Channels of activations moved and scaled so that int8 resolves them, and the layers that read them changed alike.

Scaled as SmoothQuant does (Xiao et al. 2023, arXiv 2211.10438): channel j is divided by
``s_j = a_j^alpha / w_j^(1 - alpha)``, with a_j and w_j its and its weights' largest magnitudes, and the weights' row j
is multiplied by it. Moved as Outlier Suppression+ does (Wei et al. 2023, arXiv 2304.09145): what is subtracted from a
channel, times the weights in float, goes to the layers' biases. So what all inputs have in common is not rounded, and
one-sided channels use both signs. Where either can be done for nothing is what ``groups`` finds. Rows are divided by
their largest magnitudes, as ``rowscaled`` does it, where that pays for the nodes it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .graph import GraphView
from .groups import Group
from .layers import best_threshold, error_by_row, matrix
from .statistics import Statistics

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GAIN = 0.95  # a group is changed only where that lowers its layers' squared error by a twentieth or more
_LIMIT = 1e3  # largest ratio of two channels' factors: beyond it fp16 weights would lose their small rows
_QUIET = 0.1  # of the median channel's range: what a channel counts as having at least
_METHODS = ("minmax", "mse")  # enough to tell ways apart
# Dividing rows takes a product more for each layer that reads them, about a hundredth of an encoder's time: it is done
# where the squared error falls to this share, divided by how many layers there are.
BY_ROW = 0.7

Channels = NDArray[np.float32]


@dataclass(frozen=True)
class Smoothing:
    """What one group's channels become, ``(x - centres) / factors``, both f32 [C].

    ``alpha``: the exponent that gave the factors, 0 where all are 1. ``moved``: whether a centre is not 0. ``by_row``:
    whether each row is divided by its largest magnitude after that.
    """

    group: Group
    alpha: float
    factors: Channels
    centres: Channels
    by_row: bool = False

    @property
    def moved(self) -> bool:
        return bool(np.any(self.centres))

    @property
    def label(self) -> str:
        """The node that takes it in, or else the activation."""
        return self.group.norm or self.group.value or self.group.activation


def choose(view: GraphView, found: Sequence[Group], statistics: dict[str, Statistics]) -> list[Smoothing]:
    """Centres and exponent of each group that lower the error of its layers on the kept rows most; where they do.

    What no norm or projection takes in costs a subtraction and a product a value, little beside the layer's own.
    """
    return [one for group in found if (one := _best(view, group, statistics[group.activation])) is not None]


def _best(view: GraphView, group: Group, seen: Statistics) -> Smoothing | None:
    if seen.lows is None or seen.highs is None or not (np.any(seen.lows) or np.any(seen.highs)):
        return None
    weights: list[Channels] = [matrix(view, site) for site in group.sites]
    rows = seen.rows
    powers = [float(np.square(rows @ weight, dtype=np.float64).sum()) for weight in weights]
    lows, highs = seen.lows, seen.highs

    def error(centres: Channels, factors: Channels, by_row: bool) -> float:
        near: Channels = (rows - centres) / factors
        scaled: list[Channels] = [weight * factors[:, None] for weight in weights]
        wanted: list[Channels] = [near @ weight for weight in scaled]
        if by_row:
            return error_by_row(near, scaled, wanted, powers)
        largest = np.maximum(highs - centres, centres - lows) / factors
        return best_threshold(near, largest, scaled, wanted, methods=_METHODS, powers=powers).error

    whole, lost = _least(group, weights, seen, lambda centres, factors: error(centres, factors, False))
    rowed, less = _least(group, weights, seen, lambda centres, factors: error(centres, factors, True))
    if less < BY_ROW / len(weights) * lost:
        return replace(rowed, by_row=True)
    return whole if whole.alpha or whole.moved else None


def _least(
    group: Group, weights: Sequence[Channels], seen: Statistics, error: Callable[[Channels, Channels], float]
) -> tuple[Smoothing, float]:
    """Centres and exponent that lower ``error`` most, each only where it does so by a share of ``GAIN``; and it."""
    lows, highs = seen.lows, seen.highs
    assert lows is not None
    assert highs is not None
    ones, zeros = np.ones_like(lows), np.zeros_like(lows)
    least = plain = error(zeros, ones)
    centres = zeros
    tries: list[Channels] = [np.float32(0.5) * (lows + highs), seen.rows.mean(axis=0, dtype=np.float32)]
    for tried in tries:
        lost = error(tried, ones)
        if lost < min(least, GAIN * plain):
            centres, least = tried, lost
    largest: Channels = np.maximum(highs - centres, centres - lows)
    best = Smoothing(group, 0.0, ones, centres)
    for alpha in ALPHAS:
        factors = _factors(largest, weights, alpha)
        lost = error(centres, factors)
        if lost < min(least, GAIN * plain):
            best, least = Smoothing(group, alpha, factors, centres), lost
    return best, least


def _factors(channels: Channels, weights: Sequence[NDArray[np.float32]], alpha: float) -> Channels:
    largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0).astype(np.float64)
    seen = channels.astype(np.float64)
    silent = (largest == 0) | (seen == 0)
    largest[silent] = seen[silent] = 1.0
    # A channel that was nearly silent here may not be on other inputs.
    seen = np.maximum(seen, _QUIET * np.median(seen[~silent])) if not silent.all() else seen
    factors = seen**alpha / largest ** (1 - alpha)
    factors[silent] = np.median(factors)
    factors /= np.exp(np.mean(np.log(factors)))
    limited: Channels = np.clip(factors, _LIMIT**-0.5, _LIMIT**0.5).astype(np.float32)
    return limited
