"""Weights rounded so that later rows make good what earlier ones lose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sayclip_calibration.compensate import round_compensated, spreading
from sayclip_calibration.qdq import quantise_weight


def correlated(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    return (
        rng.standard_normal((count, 6)) @ rng.standard_normal((6, width)) + 0.05 * rng.standard_normal((count, width))
    ).astype(np.float32)


@given(st.integers(0, 1000), st.integers(16, 200), st.integers(16, 40))
@settings(deadline=None, max_examples=25)
def test_outputs_come_nearer_than_by_plain_rounding(seed: int, width: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    rows = correlated(rng, 400, width)
    weight = rng.standard_normal((width, channels)).astype(np.float32)
    levels, scale = quantise_weight(weight, 1)
    found = spreading(rows.T @ rows, 0.0)
    assert found is not None
    better = round_compensated(weight, scale, *found)
    assert better.dtype == np.int8
    assert np.abs(better.astype(int)).max() <= 127
    plain, compensated = (float(np.square(rows @ (values * scale - weight)).sum()) for values in (levels, better))
    assert compensated <= 1.1 * plain
    if width > 64:
        assert compensated < 0.5 * plain


def test_independent_inputs_are_rounded_plainly() -> None:
    weight = np.random.default_rng(1).standard_normal((64, 16)).astype(np.float32)
    levels, scale = quantise_weight(weight, 1)
    found = spreading(np.eye(64, dtype=np.float32), 0.0)
    assert found is not None
    assert np.array_equal(round_compensated(weight, scale, *found), levels)


def test_a_moment_that_says_nothing_is_refused() -> None:
    assert spreading(np.zeros((8, 8), np.float32), 0.0) is None
    assert spreading(np.full((8, 8), np.nan, np.float32), 0.0) is None
    assert spreading(np.full((8, 8), -1.0, np.float32), 0.0) is None


def test_more_noise_means_less_is_passed_on() -> None:
    moment = correlated(np.random.default_rng(2), 200, 48)
    moment = moment.T @ moment
    quiet, loud = (spreading(moment, noise) for noise in (0.0, 1e4))
    assert quiet is not None
    assert loud is not None
    assert np.abs(np.triu(loud[1], 1)).max() < 0.1 * np.abs(np.triu(quiet[1], 1)).max()
