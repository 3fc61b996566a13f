"""What a test bed will hold: decided in a second, from the seed and the installed packages, the same at every start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sayclip_training.demo_data import names
from sayclip_training.demo_data.names import Emoji
from sayclip_training.testbed import captions, nouns, scenes, voices
from sayclip_training.testbed.captions import Caption
from sayclip_training.testbed.scenes import Scene
from sayclip_training.testbed.voices import Recording


@dataclass(frozen=True)
class Size:
    """How much of everything: pictures (None: all), nouns of scenes, scenes, voices of a scene."""

    pictures: int | None = None
    nouns: int = nouns.COUNT
    scenes: int = 600
    voices: int = voices.DEFAULT_VOICES


QUICK = Size(pictures=40, nouns=12, scenes=20, voices=3)


@dataclass(frozen=True)
class Contents:
    """``nouns``: noun to number of its picture in ``emoji``; ``captions`` of pictures and scenes alike."""

    emoji: Sequence[Emoji]
    nouns: Mapping[str, int]
    scenes: Sequence[Scene]
    captions: Sequence[Caption]
    recordings: Sequence[Recording]


def contents(size: Size, seed: int) -> Contents:
    """Raises MissingDependencyError where Unicode's list or CLDR is not installed."""
    emoji = names.read_emoji()
    things = nouns.nouns(emoji, seed, size.nouns)
    if size.pictures is not None:
        emoji = _some(emoji, sorted(things.values()), size.pictures)
        things = nouns.nouns(emoji, seed, size.nouns)
    taken = frozenset(item.name for item in emoji)
    composed = scenes.scenes(list(things), size.scenes, seed, taken)
    rows = captions.captions(emoji, things, composed, seed)
    return Contents(emoji, things, composed, rows, voices.plan(rows, size.voices, seed))


def _some(emoji: Sequence[Emoji], needed: Sequence[int], count: int) -> list[Emoji]:
    """The pictures that scenes need, and others from everywhere in the list, ``count`` in all."""
    others = [number for number in range(len(emoji)) if number not in set(needed)]
    more = max(0, count - len(needed))
    spread = [others[place * len(others) // more] for place in range(more)]
    return [emoji[number] for number in sorted([*needed, *spread])]
