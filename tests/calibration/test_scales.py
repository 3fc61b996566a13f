"""Thresholds over histograms: the kernels by property, their choices on distributions whose best is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from sayclip_calibration.layers import best_threshold, relative_error, rounded, rounded_columns
from sayclip_calibration.minmax import SMALLEST_SCALE
from sayclip_calibration.scales import BINS, METHODS, Histogram, entropy, minmax, mse, percentile

FLOATS = hnp.arrays(
    np.float32, st.integers(1, 300), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
)


def histogram(*pieces: NDArray[Any]) -> Histogram:
    made = Histogram()
    for piece in pieces:
        made.add(piece)
    return made


@example([np.float32([2.0**25]), np.float32([2.0**25 + 4])], 0)  # a limit met exactly, then passed
@given(st.lists(FLOATS, min_size=1, max_size=4), st.integers(0, 3))
@settings(deadline=None)
def test_counts_do_not_depend_on_how_the_values_come(pieces: Sequence[NDArray[np.float32]], turn: int) -> None:
    whole = histogram(np.concatenate(pieces))
    parts = histogram(*pieces[turn % len(pieces) :], *pieces[: turn % len(pieces)])
    assert parts.absmax == whole.absmax == np.abs(np.concatenate(pieces)).max()
    assert parts.limit == whole.limit >= whole.absmax
    assert np.array_equal(parts.counts, whole.counts)
    assert parts.counts.sum() == sum(piece.size for piece in pieces)


@given(FLOATS, st.sampled_from(sorted(METHODS)))
@settings(deadline=None)
def test_a_threshold_is_positive_and_at_most_the_largest_value(values: NDArray[np.float32], method: str) -> None:
    made = histogram(values)
    threshold = METHODS[method](made)
    assert 0.0 <= threshold <= made.absmax
    assert (threshold > 0.0) == (made.absmax > 0.0) or method == "percentile"


def test_each_method_does_what_its_name_says() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values[:20] = 40.0
    made = histogram(values)
    assert minmax(made) == 40.0
    inner = np.sort(np.abs(values))
    assert percentile(made, 99.0) == pytest.approx(inner[int(0.99 * len(inner))], abs=2 * made.limit / BINS)
    # Twenty values in 200,000 are worth clipping: rounding all the others four times finer is worth more.
    best = mse(made)
    errors = {limit: np.square(rounded(values, limit) - values).mean() for limit in (best, 3.0, 40.0, 1.0)}
    assert min(errors, key=lambda limit: float(errors[limit])) == best
    assert 3.0 < entropy(made) < 40.0


def test_mse_is_near_the_best_of_all_thresholds() -> None:
    values = np.random.default_rng(1).laplace(size=50_000).astype(np.float32)
    made = histogram(values)
    grid = np.linspace(0.05, 1.0, 200) * made.absmax
    least = min(float(np.square(rounded(values, float(limit)) - values).mean()) for limit in grid)
    assert float(np.square(rounded(values, mse(made)) - values).mean()) <= 1.03 * least


@given(hnp.arrays(np.float32, (7, 5), elements=st.floats(-100, 100, width=32)))
def test_rounded_columns_are_within_half_a_step(weight: NDArray[np.float32]) -> None:
    step = np.maximum(np.abs(weight).max(axis=0) / 127, SMALLEST_SCALE)
    assert (np.abs(rounded_columns(weight) - weight) <= 0.5001 * step + 1e-30).all()


def test_the_threshold_is_chosen_by_what_the_layers_make_of_it() -> None:
    """One channel is huge and read with weight zero: clipping it costs nothing, keeping it costs everything."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((200, 16)).astype(np.float32)
    rows[:, 3] *= 1000
    blind = rng.standard_normal((16, 8)).astype(np.float32)
    blind[3] = 0
    chosen = best_threshold(rows, np.abs(rows).max(axis=0), [blind], [rows @ blind])
    seeing = rng.standard_normal((16, 8)).astype(np.float32)
    kept = best_threshold(rows, np.abs(rows).max(axis=0), [seeing], [rows @ seeing])
    assert chosen.absmax < 0.5 * kept.absmax
    power = float(np.square(rows @ seeing, dtype=np.float64).sum())
    assert kept.error < relative_error(rounded(rows, chosen.absmax), [seeing], [rows @ seeing], [power])
