"""Which captions training may see: words and combinations of words are kept out by hash, so that each can be scored.

``word``: a caption with a word that no caption for training holds, in the singular or the plural. ``composition``: one
with a combination (`sayclip_training.testbed.scenes.Scene.bonds`) that none holds, of words that they do hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from sayclip_training import hashed
from sayclip_training.demo_data.names import SHOWN
from sayclip_training.testbed.scenes import ARTICLES, COLOURS, RELATIONS, SIZES

TRAIN, VALIDATION, WORD, COMPOSITION, VOICE = SPLITS = ("train", "validation", "word", "composition", "voice")
HELD_OUT_WORDS = 0.06
HELD_OUT_NOUNS = 0.08  # of scenes
HELD_OUT_BONDS = 0.08
HELD_OUT_CAPTIONS = 0.06  # for validation
FEW = 10
"""A word of more captions is never kept out: ``face`` would take too many with it."""

_WORD = re.compile(r"[^\W_]+")
_NEVER = frozenset(
    [*ARTICLES, *COLOURS, *SIZES, *" ".join([*RELATIONS, *SHOWN]).split(), "the", "with", "without", "in", "on", "over",
     "under", "for", "from", "to", "at", "by", "no", "not", "out", "up", "down", "off"]
)  # fmt: skip


def stems(caption: str) -> frozenset[str]:
    """The words of a caption, small and in the singular; a crude rule: it must find too many equal, not too few."""
    return frozenset(_stem(word) for word in _WORD.findall(caption.casefold()))


def held_out_words(captions: Iterable[str], nouns: Collection[str], seed: int) -> frozenset[str]:
    """Stems kept out of training: some of those of ``captions``, more of the scenes' ``nouns``."""
    often = Counter(stem for caption in captions for stem in stems(caption))
    of_scenes = {_stem(noun) for noun in nouns}
    never = {_stem(word) for word in _NEVER}
    return frozenset(
        stem
        for stem in sorted(often.keys() | of_scenes)
        if stem not in never
        and stem.isalpha()
        and len(stem) > 2
        and often[stem] <= FEW
        and _share(seed, "word", stem) < (HELD_OUT_NOUNS if stem in of_scenes else HELD_OUT_WORDS)
    )


def split_of(
    caption: str, held_out: Collection[str], seed: int, bonds: Collection[tuple[str, str]] = (), always: bool = False
) -> str:
    """The split of a caption; ``always``: never in ``validation``, because others need its words in training."""
    if stems(caption) & set(held_out):
        return WORD
    if any(_share(seed, "bond", " ".join(bond)) < HELD_OUT_BONDS for bond in sorted(bonds)):
        return COMPOSITION
    if not always and _share(seed, "caption", caption.casefold()) < HELD_OUT_CAPTIONS:
        return VALIDATION
    return TRAIN


def _stem(word: str) -> str:
    word = word.casefold()
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _share(seed: int, kind: str, key: str) -> float:
    """A number in [0, 1) that depends on the seed and the string alone."""
    return hashed.share(f"{seed}\t{kind}\t{key}")
