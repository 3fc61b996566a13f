"""The strings that the demo's encoders learn, and which pictures each of them means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayclip_training.demo_data.names import Emoji, Split

OWN_SHARE = 0.65
COMMON = 3


@dataclass(frozen=True)
class Strings:
    """Trained strings: names first, then keywords.

    ``target`` f32 [S,P], rows that sum to one: the pictures that a string was shown for; a name that is also a keyword
    of others gives most of its weight to its own picture. ``ignored`` bool [S,P]: pictures that are neither shown nor
    denied for it (held-out names and held-out pairs), so that the held-out figures measure generalisation.
    """

    texts: tuple[str, ...]
    is_name: NDArray[np.bool_]
    target: NDArray[np.float32]
    ignored: NDArray[np.bool_]

    @property
    def common(self) -> NDArray[np.bool_]:
        """Keywords of at least ``COMMON`` pictures, bool [S]: those that people say rather than type."""
        return ~self.is_name & ((self.target > 0).sum(1) >= COMMON)

    @property
    def names(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.is_name)


def trained_strings(emoji: list[Emoji], split: Split) -> Strings:
    """Names and keywords outside the held-out sets; equal strings (case folded) are one."""
    own = {item.name.casefold(): i for i, item in enumerate(emoji) if i not in split.held_out_names}
    spelled = {item.name.casefold(): item.name for i, item in enumerate(emoji) if i not in split.held_out_names}
    shown: dict[str, set[int]] = {key: set() for key in own}
    for i, word in sorted(split.trained_pairs):
        if i not in split.held_out_names:
            shown.setdefault(word.casefold(), set()).add(i)
            spelled.setdefault(word.casefold(), word)
    keys = list(shown)
    row = {key: number for number, key in enumerate(keys)}
    target = np.zeros((len(keys), len(emoji)), np.float32)
    for key, pictures in shown.items():
        others = sorted(pictures - {own.get(key, -1)})
        if key in own:
            target[row[key], own[key]] = OWN_SHARE if others else 1.0
        if others:
            target[row[key], others] = (1 - OWN_SHARE if key in own else 1.0) / len(others)
    ignored = np.zeros(target.shape, bool)
    ignored[:, sorted(split.held_out_names)] = True
    for i, item in enumerate(emoji):
        for word in item.keywords:
            if word.casefold() in row:
                ignored[row[word.casefold()], i] = True
    ignored &= target == 0
    return Strings(tuple(spelled[key] for key in keys), np.array([key in own for key in keys]), target, ignored)
