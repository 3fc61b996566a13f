"""Names as somebody might write them who goes by ear: with the same phonemes, and after some were misheard.

A spelling is kept only if espeak-ng reads it as the wanted phonemes. Misheard phonemes are the neighbours in
`sayclip_training.synthesis.mispronounce`. What reads as another name, or is a word that exists, is no misspelling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sayclip_training import hashed
from sayclip_training.synthesis import arpabet
from sayclip_training.synthesis.mispronounce import NEAR
from sayclip_training.testbed import reading
from sayclip_training.testbed.spelling import spellings

LEVELS = (0, 1, 3)
"""How many phonemes are changed."""
WANTED = 3  # spellings of a name at a level
FUNCTION_WORDS = frozenset(
    ["a", "an", "the", "of", "and", "with", "without", "in", "on", "or", "for", "to", "from", "at", "by", "no", "not"]
)
_CANDIDATES = 150  # spellings of a word that are read before it is given up
_TRIES = 24  # choices of phonemes for a name, at a level

# espeak-ng's English phonemes in ARPAbet, and what a changed one becomes.
_ARPABET = {ipa: symbol for symbol, ipa in arpabet.IPA.items()} | {
    "iː": "iy", "uː": "uw", "ɑː": "aa", "ɔː": "ao", "ɜː": "er", "ᵻ": "ih", "ɐ": "ax", "ɾ": "t",
}  # fmt: skip
_IPA = arpabet.IPA | {"iy": "iː", "uw": "uː", "aa": "ɑː", "ao": "ɔː", "er": "ɜː", "ah": "ʌ"}


class Misspelling(NamedTuple):
    """``ipa``: espeak-ng's reading of ``spelling``, without stress."""

    spelling: str
    ipa: str


def near(unit: str) -> list[str]:
    """The phonemes for which ``unit`` may be misheard, as espeak-ng's units; none for one that stays."""
    symbol = _ARPABET.get(unit, unit)
    return [_IPA.get(other, other) for other in NEAR.get(symbol, "")]


class Misspeller:
    """``misspelt(name, level)``; ``existing``: words that are no misspellings of others, in lower case."""

    def __init__(self, names: Collection[str], existing: Collection[str], seed: int = 0) -> None:
        self._existing, self._seed = frozenset(existing), seed
        self._sounds = frozenset(reading.broad(name) for name in names)

    def misspelt(self, name: str, level: int) -> list[Misspelling]:
        """Up to `WANTED` different ones; empty where the name has no word, or too few phonemes, to change."""
        words = name.split()
        said = reading.units(name)
        if len(said) != len(words):  # espeak-ng says some words as one, and some marks as words
            return []
        rng = np.random.default_rng(hashed.number(f"{self._seed} misspelt {name} {level}"))
        made = self._by_ear(words, said, rng) if level == 0 else self._misheard(words, said, level, rng)
        found: dict[str, Misspelling] = {}
        for spelling in made:
            found.setdefault(spelling, Misspelling(spelling, reading.ipa(spelling)))
            if len(found) == WANTED:
                break
        return list(found.values())

    def _by_ear(self, words: Sequence[str], said: Sequence[Sequence[str]], rng: np.random.Generator) -> Iterator[str]:
        """All words spelled by ear that can be, the most usual spellings first."""
        options = [
            self._spelled(tuple(units), word.lower()) if changeable(word) else ()
            for word, units in zip(words, said, strict=True)
        ]
        wanted = reading.broad(" ".join(words))
        for turn in range(WANTED * 3):
            chosen = [
                row[min(turn, len(row) - 1)] if row and (turn < WANTED or rng.random() < 0.6) else word
                for word, row in zip(words, options, strict=True)
            ]
            if chosen != list(words) and reading.broad(" ".join(chosen)) == wanted:
                yield " ".join(chosen)

    def _misheard(
        self, words: Sequence[str], said: Sequence[Sequence[str]], level: int, rng: np.random.Generator
    ) -> Iterator[str]:
        """``level`` phonemes changed; the words that hold them spelled by ear, the others left."""
        places = [
            (word, place)
            for word, units in enumerate(said)
            if changeable(words[word])
            for place, unit in enumerate(units)
            if near(unit)
        ]
        if len(places) < level:
            return
        for _ in range(_TRIES):
            heard = [list(units) for units in said]
            for at in rng.choice(len(places), level, replace=False):
                word, place = places[at]
                heard[word][place] = str(rng.choice(near(said[word][place])))
            wanted = reading.broadened("".join("".join(units) for units in heard))
            if wanted in self._sounds:
                continue  # another name
            chosen = list(words)
            for word, units in enumerate(heard):
                if units != list(said[word]):
                    options = self._spelled(tuple(units), words[word].lower())
                    chosen[word] = options[min(int(rng.geometric(0.6)) - 1, len(options) - 1)] if options else ""
            if all(chosen) and reading.broad(" ".join(chosen)) == wanted:
                yield " ".join(chosen)

    def _spelled(self, units: tuple[str, ...], word: str) -> tuple[str, ...]:
        """Spellings that espeak-ng reads as ``units``, the most usual first; ``word`` itself is none."""
        return tuple(spelling for spelling in _read_as(units) if spelling != word and spelling not in self._existing)


def changeable(word: str) -> bool:
    """Whether a word of a name is spelled anew: letters alone, no abbreviation, no function word."""
    return (
        word.isalpha()
        and word.isascii()
        and not word[1:].isupper()
        and word.lower() not in FUNCTION_WORDS
        and len(word) > 1
    )


@lru_cache(maxsize=1 << 16)
def _read_as(units: tuple[str, ...]) -> tuple[str, ...]:
    wanted = reading.broadened("".join(units))
    found = []
    for spelling in spellings(units)[:_CANDIDATES]:
        if reading.broad(spelling) == wanted:
            found.append(spelling)
            if len(found) == 2 * WANTED:
                break
    return tuple(found)
