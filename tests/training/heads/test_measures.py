"""Boundaries matched one to one, the middle of pauses, and the word that a unit lies on."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip_training.heads.measures import TOLERANCE, Agreement, between_words, compare, overlapping

TIMES = st.lists(st.integers(0, 40).map(lambda number: number * 0.02), max_size=4, unique=True).map(sorted)


@given(found=TIMES, are=TIMES)
def test_as_many_boundaries_match_as_can(found: list[float], are: list[float]) -> None:
    best = 0
    for count in range(min(len(found), len(are)) + 1):
        for some in combinations(found, count):
            for others in permutations(are, count):
                if all(abs(a - b) <= TOLERANCE + 1e-9 for a, b in zip(some, others, strict=True)):
                    best = max(best, count)
    assert compare(found, are) == Agreement(len(found), len(are), best)


def test_f1_is_over_all_utterances_together() -> None:
    both = compare([0.1, 0.5], [0.12]) + compare([], [0.3])
    assert (both.found, both.are, both.match) == (2, 2, 1)
    assert (both.precision, both.recall, both.f1) == (0.5, 0.5, 0.5)
    assert Agreement().f1 == 1.0


def test_a_boundary_lies_in_the_middle_of_a_pause() -> None:
    assert between_words([(0.0, 0.3), (0.4, 0.8), (0.8, 1.0)]) == pytest.approx([0.35, 0.8])
    assert between_words([(0.0, 0.3)]) == []


def test_a_unit_lies_on_the_word_it_shares_most_time_with() -> None:
    spans = [(0.0, 0.3), (0.35, 0.8)]
    assert overlapping([0.0, 0.32, 0.6, 0.9, 1.0], spans) == [0, 1, 1, None]
    assert overlapping([0.0, 1.0], []) == [None]
