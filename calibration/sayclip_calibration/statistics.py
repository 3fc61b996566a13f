"""What each activation does over real inputs: a histogram, the largest of each channel, and rows to try things on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from sayclip.errors import InputError

from .layers import peaks_of
from .minmax import Range, with_outputs
from .scales import Histogram
from .session import Feed, Runner

ROWS = 384  # rows kept of a tensor: enough that a layer's error on them ranks its settings as the whole set does


@dataclass
class Statistics:
    """One float tensor over all calibration inputs; ``rows`` hold its channels, the last axis of all but images.

    ``lows``, ``highs``: smallest and largest of each channel, f32 [C]; None for what convolutions read, whose channels
    come second.
    ``rows``: f32 [at most ROWS, C], chosen by seed, evenly from all inputs. ``moment``: f32 [C, C], the sum of all
    rows' outer products with themselves.
    """

    histogram: Histogram = field(default_factory=Histogram)
    low: float = np.inf
    high: float = -np.inf
    lows: NDArray[np.float32] | None = None
    highs: NDArray[np.float32] | None = None
    pieces: list[NDArray[np.float32]] = field(default_factory=list)
    moment: NDArray[np.float32] | None = None
    count: int = 0
    """How many rows there were in all."""
    peak_power: float = 1.0
    """Mean square of what rows were divided by before they are rounded; ``moment`` is that of what they were before."""

    @property
    def range(self) -> Range:
        return Range(self.low, self.high)

    @property
    def channels(self) -> NDArray[np.float32] | None:
        """Largest magnitude of each channel, f32 [C], or None."""
        return None if self.lows is None or self.highs is None else np.maximum(self.highs, -self.lows)

    @property
    def rows(self) -> NDArray[np.float32]:
        return np.concatenate(self.pieces)

    def by_row(self) -> Statistics:
        """Those of the same tensor with each row divided by its largest magnitude."""
        rows = self.rows
        peaks = peaks_of(rows)
        power = float(np.square(peaks, dtype=np.float64).mean())
        return replace(self, low=-1.0, high=1.0, lows=None, highs=None, pieces=[rows / peaks], peak_power=power)

    def add(
        self, values: NDArray[Any], count: int, random: np.random.Generator, by_channel: bool, moments: bool
    ) -> None:
        """Take in one input's values; ``count`` rows of it are kept."""
        self.histogram.add(values)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if not by_channel:  # [B, C, ...] of a convolution
            values = np.moveaxis(values, 1, -1) if values.ndim > 2 else values
        rows = values.reshape(-1, values.shape[-1])
        if not by_channel:
            chosen = np.sort(random.permutation(len(rows))[:count])
            self.pieces.append(rows[chosen].copy())
            return
        low, high = rows.min(axis=0), rows.max(axis=0)
        self.lows = low if self.lows is None else np.minimum(self.lows, low)
        self.highs = high if self.highs is None else np.maximum(self.highs, high)
        chosen = np.sort(random.permutation(len(rows))[:count])
        self.pieces.append(rows[chosen].copy())
        self.count += len(rows)
        if moments:
            product = rows.T @ rows
            self.moment = product if self.moment is None else np.add(self.moment, product, out=self.moment)


def collect(
    model: ModelProto,
    feeds: Sequence[Feed],
    tensors: Sequence[str],
    by_channel: Sequence[str],
    *,
    moments: bool = False,
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Statistics]:
    """Statistics of each of ``tensors`` over ``feeds``, in one pass; rows and channels of those in ``by_channel``.

    ``moments``: theirs too, which takes most of the time.

    ``feeds`` as in ``minmax.collect_ranges``. The same feeds and seed give the same numbers to the bit. Raises
    InputError for bad feeds and for an activation that overflows, BundleError for a graph that lacks a tensor.
    """
    wanted = list(dict.fromkeys(tensors))
    inputs = {value.name for value in model.graph.input}
    inner = [tensor for tensor in wanted if tensor not in inputs]
    runner = Runner.from_files(with_outputs(model, inner), threads=threads)
    found = {tensor: Statistics() for tensor in wanted}
    rows = set(by_channel)
    each = max(1, ROWS // max(1, len(feeds)))
    for number, feed in enumerate(runner.checked(feeds)):
        values = dict(zip(inner, runner.run(feed, inner), strict=True)) if inner else {}
        for tensor in wanted:
            seen = values.pop(tensor) if tensor in values else feed[tensor]
            if not np.isfinite(seen).all():
                raise InputError(
                    f"feed {number} makes {tensor} NaN or infinite", "leave this feed out or check the weights"
                )
            random = np.random.default_rng([seed, number, zlib.crc32(tensor.encode())])
            found[tensor].add(seen, each, random, tensor in rows, moments)
        progress(number + 1, len(feeds))
    return found
