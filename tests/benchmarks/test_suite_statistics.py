"""Medians, intervals and speed-ups of turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip_benchmarks.suite.statistics import speedup, summary

TURNS = st.lists(st.lists(st.floats(0.01, 1000.0), min_size=4, max_size=9), min_size=2, max_size=8)


@given(TURNS)
def test_percentiles_are_in_order_and_the_interval_holds_the_median(turns: list[list[float]]) -> None:
    seen = summary(turns, batch=3)
    assert seen["p50_ms"] <= seen["p90_ms"] <= seen["p99_ms"]
    low, high = seen["ci_ms"]
    assert low <= seen["p50_ms"] <= high
    assert seen["n"] == sum(map(len, turns))
    assert len(seen["turn_p50_ms"]) == len(turns)


@given(TURNS, st.floats(0.1, 10.0))
def test_a_candidate_twice_as_slow_has_half_the_speed(turns: list[list[float]], times: float) -> None:
    other = [[value * times for value in turn] for turn in turns]
    ratio, (low, high) = speedup(turns, other)
    assert ratio == pytest.approx(1 / times)
    assert low <= ratio <= high
    again, _ = speedup(other, turns)
    assert ratio * again == pytest.approx(1.0)


def test_a_batch_is_counted_by_its_items() -> None:
    assert summary([[10.0] * 4] * 3, batch=8)["per_second"] == pytest.approx(800.0)


@pytest.mark.parametrize(("last", "noisy"), [(10.5, False), (13.0, True)])
def test_turns_that_differ_are_noisy(last: float, noisy: bool) -> None:
    assert summary([[10.0] * 5, [10.0] * 5, [last] * 5])["noisy"] is noisy


def test_the_interval_is_narrow_where_turns_agree_and_wide_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    steady, wild = ([rng.normal(10, spread, 9).tolist() for _ in range(7)] for spread in (0.05, 3.0))
    width = [high - low for low, high in (summary(turns)["ci_ms"] for turns in (steady, wild))]
    assert width[0] < 0.2 < width[1]
