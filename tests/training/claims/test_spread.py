"""Means and spreads of seeds, and Spearman's rank correlation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip_training.claims.ranks import rank_correlation
from sayclip_training.claims.spread import Claim, Spread, at, over

NUMBERS = st.floats(-1e6, 1e6).map(lambda number: round(number, 3))


@given(st.lists(NUMBERS, min_size=2, max_size=20))
def test_mean_and_sample_deviation(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert spread.deviation == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)
    assert spread.n == len(values)


def test_how_it_is_shown() -> None:
    assert Spread.of([0.9, 0.91, 0.92]).plain() == "0.91 ± 0.01"
    assert Spread.of([0.5]).plain() == "0.50"
    assert Spread.of([0.281, 0.283]).points() == "+28.2 ± 0.1"
    assert Spread.of([-0.0001]).points() == "+0.0", "no minus before nothing"
    assert Spread.of([-0.02]).points() == "-2.0"
    with pytest.raises(ValueError, match="no seed"):
        Spread.of([])


def test_figures_are_found_by_their_path() -> None:
    seeds = [{"a": {"b": 1}}, {"a": {"b": 3}}]
    assert at(seeds[1], "a", "b") == 3
    assert over(seeds, "a", "b").mean == 2


def test_verdicts() -> None:
    verdicts = [Claim("c", "w", "s", holds).cells()[-1] for holds in (True, False, None)]
    assert verdicts == ["holds", "**does not hold**", "reported"]
    assert Claim("c", "w", "s", True, barely=True).cells()[-1] == "holds within the spread"
    assert Claim("c", "w", "s", False, barely=True).cells()[-1] == "**does not hold**"


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_rank_correlation_is_pearsons_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    one, other = zip(*pairs, strict=True)

    def mean_ranks(values: tuple[int, ...]) -> list[float]:
        below = [sum(v < value for v in values) for value in values]
        return [low + (sum(v == value for v in values) + 1) / 2 for low, value in zip(below, values, strict=True)]

    a, b = mean_ranks(one), mean_ranks(other)
    constant = len(set(one)) == 1 or len(set(other)) == 1
    wanted = 0.0 if constant else float(np.corrcoef(a, b)[0, 1])
    assert rank_correlation(one, other) == pytest.approx(wanted, abs=1e-9)


def test_rank_correlation_asks_for_the_order_alone() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    assert rank_correlation(values, [math.exp(value) for value in values]) == pytest.approx(1)
    assert rank_correlation(values, [-value for value in values]) == pytest.approx(-1)
