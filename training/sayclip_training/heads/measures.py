"""How word-like units are: boundaries, their number, and what they are called."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.04  # seconds
Units = Sequence[Sequence[float]]  # of each utterance the edges of its units in seconds, ascending
Spoken = Sequence[Sequence[tuple[float, float]]]  # of each utterance the spans of its words in seconds; none unknown


@dataclass(frozen=True)
class Agreement:
    """Counts over utterances: boundaries ``found``, those that there ``are``, and how many ``match``."""

    found: int = 0
    are: int = 0
    match: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.found + other.found, self.are + other.are, self.match + other.match)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 where there is nothing to find and nothing found."""
        return 2 * self.match / (self.found + self.are) if self.found + self.are else 1.0

    @property
    def precision(self) -> float:
        return self.match / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.match / self.are if self.are else 1.0


def compare(found: Sequence[float], are: Sequence[float], tolerance: float = TOLERANCE) -> Agreement:
    """Boundaries in seconds, ascending, matched one to one within ``tolerance``, as many as can be.

    Going through both in order and taking the earliest that fits is optimal on a line.
    """
    match = place = 0
    for boundary in found:
        while place < len(are) and are[place] < boundary - tolerance - 1e-9:
            place += 1
        if place < len(are) and are[place] <= boundary + tolerance + 1e-9:
            match += 1
            place += 1
    return Agreement(len(found), len(are), match)


def between_words(spans: Sequence[tuple[float, float]]) -> list[float]:
    """Where one word ends and the next begins, in seconds, for the spans of words; the middle of a pause between."""
    return [(before[1] + after[0]) / 2 for before, after in itertools.pairwise(spans)]


def agreement(edges: Units, spoken: Spoken, tolerance: float = TOLERANCE) -> Agreement:
    """Boundaries of units between ``edges``, in seconds, against those between words, over all utterances."""
    found = Agreement()
    for at, spans in zip(edges, spoken, strict=True):
        if spans:
            found += compare(at[1:-1], between_words(spans), tolerance)
    return found


def more_than_words(edges: Units, spoken: Spoken) -> list[int]:
    """How many more units than words every utterance with words has; fewer are negative."""
    return [len(at) - 1 - len(spans) for at, spans in zip(edges, spoken, strict=True) if spans]


def boundaries(edges: Units, spoken: Spoken) -> dict[str, float]:
    """``f1``, ``precision`` and ``recall`` within 40 ms; ``near``: share of as many units as words, give or take one.

    Utterances without words do not count; without any there is nothing.
    """
    more = more_than_words(edges, spoken)
    if not more:
        return {}
    all_of_them = agreement(edges, spoken)
    found = {"f1": all_of_them.f1, "precision": all_of_them.precision, "recall": all_of_them.recall}
    return found | {"near": sum(abs(number) <= 1 for number in more) / len(more)}


def overlapping(edges: Sequence[float], spans: Sequence[tuple[float, float]]) -> list[int | None]:
    """For each unit between two ``edges`` (seconds, ascending) the word that it shares most time with, or None."""
    chosen: list[int | None] = []
    for start, end in itertools.pairwise(edges):
        shared = [min(end, stop) - max(start, begin) for begin, stop in spans]
        best = int(np.argmax(shared)) if shared else 0
        chosen.append(best if shared and shared[best] > 0 else None)
    return chosen
