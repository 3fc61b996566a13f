"""Captions of two to six words for scenes of one or two things, such as "red apple above a blue car"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey")
SIZES = ("small", "big")
RELATIONS = ("above", "below", "beside", "behind", "left of", "right of", "and")
ARTICLES = ("a", "an")

# A: colour or size, N: noun, r: relation of one word, R: of two, a: article. None stands behind R: espeak-ng says
# "of a" as one word.
PATTERNS = {
    2: ("A N",),
    3: ("a A N", "N r N"),
    4: ("A N r N", "N r A N", "N r a N", "N R N", "a N r N"),
    5: ("A N r A N", "N r a A N", "A N r a N", "A N R N", "a N r a N", "a N R N"),
    6: ("A N r a A N", "a A N r a N", "A N R A N", "a N r a A N", "a N R A N"),
}
_BEFORE_AN = re.compile("[aio]|e(?!w)|u(?!ni|ku|te|se)")  # an umbrella, a unicorn; an egg, a ewe
_OPPOSITE = {"below": "above", "right of": "left of"}
_SYMMETRIC = ("beside", "and")
_TRIES = 200  # in vain, in a row: then there are no more


@dataclass(frozen=True)
class Thing:
    """One thing of a scene: its noun, and the colour or size that the caption gives it, or ``""``."""

    noun: str
    adjective: str = ""


@dataclass(frozen=True)
class Scene:
    """``things``: one, or two of which the first stands in ``relation`` to the second."""

    caption: str
    things: tuple[Thing, ...]
    relation: str = ""

    @property
    def bonds(self) -> frozenset[tuple[str, str]]:
        """The combinations of words that it is made of: adjective and noun, and the first noun and its relation."""
        pairs = {(thing.adjective, thing.noun) for thing in self.things if thing.adjective}
        if self.relation:
            pairs.add((self.things[0].noun, self.relation))
        return frozenset(pairs)

    @property
    def meaning(self) -> tuple[str, tuple[Thing, ...]]:
        """Equal for captions that say the same in other words: "a red apple", or "car below apple" the other way."""
        things, relation = self.things, self.relation
        if relation in _OPPOSITE:
            return _OPPOSITE[relation], things[::-1]
        if relation in _SYMMETRIC:
            return "beside", tuple(sorted(things, key=lambda thing: (thing.noun, thing.adjective)))
        return relation, things


def scenes(nouns: Sequence[str], number: int, seed: int, taken: frozenset[str] = frozenset()) -> list[Scene]:
    """``number`` different scenes, as many of each length, no caption in ``taken``; fewer where there are no more."""
    found: list[Scene] = []
    meanings = set()
    vain = 0
    for scene in _endless(nouns, seed):
        if len(found) == number or vain == _TRIES:
            break
        vain += 1
        if scene.meaning not in meanings and scene.caption not in taken:
            meanings.add(scene.meaning)
            found.append(scene)
            vain = 0
    return found


def _endless(nouns: Sequence[str], seed: int) -> Iterator[Scene]:
    for number in count():
        rng = np.random.default_rng([seed, number])
        length = 2 + number % 5
        yield _fill(str(rng.choice(PATTERNS[length])).split(), nouns, rng)


def _fill(pattern: Sequence[str], nouns: Sequence[str], rng: np.random.Generator) -> Scene:
    chosen = [str(noun) for noun in rng.choice(nouns, pattern.count("N"), replace=False)]
    words: list[str] = []
    things: list[Thing] = []
    relation = adjective = ""
    for place in pattern:
        if place == "N":
            noun = chosen[len(things)]
            things.append(Thing(noun, adjective))
            words.append(noun)
            adjective = ""
        elif place == "A":
            adjective = str(rng.choice(COLOURS if rng.random() < 0.8 else SIZES))
            words.append(adjective)
        elif place == "a":
            words.append("a")
        else:
            relation = str(rng.choice([name for name in RELATIONS if (" " in name) == (place == "R")]))
            words += relation.split()
    return Scene(" ".join(_articles(words)), tuple(things), relation)


def _articles(words: Sequence[str]) -> Iterator[str]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        yield "an" if word == "a" and _BEFORE_AN.match(following) else word
