"""Phonemes to letters: the spellings that the table of graphemes allows, the usual ones first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sayclip_training.testbed.graphemes import CONSONANTS, GROUPS, SHORT, VOWELS

_WIDTH = 400  # beginnings of a word that are kept at every phoneme
_UNUSUAL = 1.0  # cost of every step down in the table
_SINGLE = 0.5  # cost of one consonant letter between a short vowel and another one, where two are usual
_LIKE_DOUBLED = ("ck", "tch", "dge")
_DOUBLED_AT_THE_END = (*_LIKE_DOUBLED, "ll", "ss", "ff", "zz")
_SPLIT = "_"
_E = "e"


class _Option(NamedTuple):
    letters: str
    cost: float
    first: bool
    """At the beginning of a word only."""
    last: bool
    """At its end only."""
    inner: bool
    """Never at its beginning."""


def spellings(units: Sequence[str]) -> list[str]:
    """Spellings of one word's phonemes (as `sayclip_training.testbed.reading.units` gives them), most usual first.

    Empty where a phoneme is not in the table. A pure function: the same phonemes give the same list.
    """
    count = len(units)
    beams: list[dict[tuple[str, bool], float]] = [{} for _ in range(count + 1)]
    beams[0][("", False)] = 0.0
    for start in range(count):
        kept = sorted(beams[start].items(), key=lambda item: (item[1], item[0]))[:_WIDTH]
        for size in range(1, _longest() + 1):
            end = start + size
            options = _table().get(tuple(units[start:end]), ()) if end <= count else ()
            for option in options:
                if (option.first and start) or (option.inner and not start) or (option.last and end != count):
                    continue
                doubling = _doubling(option.letters, units, start, end)
                if doubling is None:
                    continue
                for (letters, owed), cost in kept:
                    _extend(beams[end], letters, owed, option, cost + option.cost + doubling, units, start, end)
    ready = {letters: cost for (letters, owed), cost in beams[count].items() if not owed}
    return sorted(ready, key=lambda letters: (ready[letters], letters))


def _extend(
    beam: dict[tuple[str, bool], float], letters: str, owed: bool, option: _Option, cost: float,
    units: Sequence[str], start: int, end: int,
) -> None:  # fmt: skip
    """Add an option behind ``letters``; ``owed``: their vowel still waits for the ``e`` behind the next consonant."""
    written = letters + option.letters
    if owed:
        if start + 1 != end or end != len(units) or units[start] not in CONSONANTS or option.letters.endswith(_E):
            return
        key = (written + _E, False)
    elif option.letters.endswith(_SPLIT + _E):
        if end != len(units) - 1:
            return
        key = (letters + option.letters[: -len(_SPLIT + _E)], True)
    else:
        key = (written, False)
    if cost < beam.get(key, float("inf")):
        beam[key] = cost


def _doubling(letters: str, units: Sequence[str], start: int, end: int) -> float | None:
    """What a single letter costs where a doubled one is usual; None for a doubled one where English has none."""
    if units[start] not in CONSONANTS or end != start + 1:
        return 0.0
    after_short = start > 0 and units[start - 1] in SHORT
    before_vowel = end < len(units) and units[end] not in CONSONANTS
    if len(letters) > 1 and (letters[0] == letters[1] or letters in _LIKE_DOUBLED):
        usual = before_vowel or (end == len(units) and letters in _DOUBLED_AT_THE_END)
        return 0.0 if after_short and usual else None
    return _SINGLE if after_short and before_vowel else 0.0


@cache
def _table() -> dict[tuple[str, ...], tuple[_Option, ...]]:
    rows = {(unit,): row for part in (CONSONANTS, VOWELS) for unit, row in part.items()} | GROUPS
    return {key: tuple(_option(text, place) for place, text in enumerate(row.split())) for key, row in rows.items()}


@cache
def _longest() -> int:
    return max(map(len, _table()))


def _option(text: str, place: int) -> _Option:
    return _Option(text.strip("^$-"), _UNUSUAL * place, text.startswith("^"), text.endswith("$"), text.startswith("-"))
