"""Words out of the keywords that a speech encoder hears: tokens of one word become one again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sayclip.text.keywords import Keyword

_INSIDE = "-"


@dataclass(frozen=True)
class HeardWord:
    """A word, the lowest score among its tokens, and where it was heard, in seconds; None where that is not told."""

    word: str
    score: float
    start_s: float | None = None
    end_s: float | None = None


def heard_words(units: Iterable[Keyword]) -> list[HeardWord]:
    """The words that ``units`` spell, in their order: tokens of one word are joined.

    A token that does not end a word ends in a hyphen, one that does not begin a word has a hyphen in front, see
    ``keywords``. What is nothing but hyphens is a word of its own, and a word whose end or beginning was not heard
    keeps its hyphen.
    """
    words: list[HeardWord] = []
    open_word = False
    for unit in units:
        goes_on = _goes_on(unit.word)
        if open_word or (words and goes_on):
            begun = words.pop()
            word = begun.word.removesuffix(_INSIDE) + (unit.word[1:] if goes_on else unit.word)
            words.append(HeardWord(word, min(begun.score, unit.score), begun.start_s, unit.end_s))
        else:
            words.append(HeardWord(unit.word, unit.score, unit.start_s, unit.end_s))
        open_word = unit.word.endswith(_INSIDE) and unit.word.strip(_INSIDE) != ""
    return words


def _goes_on(word: str) -> bool:
    """Whether a token goes on with the word before it; marks such as ``->`` do not."""
    return word[:1] == _INSIDE and word[1:2].isalnum()
