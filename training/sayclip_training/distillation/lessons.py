"""What is learnt: pronunciations as rows of ids, each with the text that the teacher reads for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip_training.distillation.captions import Caption
from sayclip_training.distillation.symbols import Symbols

FIRST = 0.75  # how often a caption is said in the first of its languages; else in any of them
_SHOWN = 5  # captions of a batch that a message names


@dataclass(frozen=True)
class Lessons:
    """R captions in M pronunciations.

    ``ids`` i32 [M,L], padded with 0, and ``length`` i32 [M]; those of caption r are the ``count[r]`` ones from
    ``first[r]`` on. ``read`` i64 [R]: which text of the teacher's; ``places`` where each stands.
    """

    ids: NDArray[np.int32]
    length: NDArray[np.int32]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    read: NDArray[np.int64]
    captions: Sequence[Caption]
    language: Sequence[str]

    def __len__(self) -> int:
        return len(self.read)

    def batch(self, seed: int, number: int, size: int) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """Ids i32 [B,L], lengths i32 [B] and captions i64 [B] of step ``number``, the same every time."""
        rng = np.random.default_rng([seed, number])
        rows = rng.integers(len(self), size=size)
        later = rng.random(size) >= FIRST
        chosen = self.first[rows] + np.where(later, rng.integers(self.count[rows]), 0)
        length = self.length[chosen]
        ids = self.ids[chosen, : int(length.max())]
        return torch.from_numpy(ids), torch.from_numpy(length), rows

    def describe(self, seed: int, number: int, size: int) -> str:
        """The captions of that batch, for a message."""
        rows = self.batch(seed, number, size)[2]
        named = [self.captions[row].place for row in dict.fromkeys(rows.tolist())]
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        return f"the batch of {'; '.join(named[:_SHOWN])}{more}"


def gather(
    captions: Sequence[Caption],
    spoken: Sequence[Sequence[tuple[str, str]]],
    symbols: Symbols,
    context: int,
    texts: dict[str, int],
) -> Lessons:
    """Lessons of ``captions``, each once, as they are ``spoken``: (language, IPA) of each.

    ``texts`` gets a number for each text of the teacher's. Captions with nothing to say are left out.
    """
    said: list[list[int]] = []
    first, count, read = list[int](), list[int](), list[int]()
    kept, languages = list[Caption](), list[str]()
    known: dict[str, list[int]] = {}
    seen: set[tuple[str, tuple[tuple[int, ...], ...]]] = set()
    for caption, said_in in zip(captions, spoken, strict=True):
        for _, ipa in said_in:
            if ipa not in known:
                known[ipa] = symbols.encode(ipa, context)
        options = [known[ipa] for _, ipa in said_in if known[ipa]]
        key = caption.read, tuple(map(tuple, options))
        if not options or key in seen:
            continue
        seen.add(key)
        first.append(len(said))
        count.append(len(options))
        said += options
        read.append(texts.setdefault(caption.read, len(texts)))
        kept.append(caption)
        languages.append(next(language for language, ipa in said_in if known[ipa]))
    length = np.array([len(row) for row in said], np.int32)
    ids = np.zeros((len(said), int(length.max(initial=0))), np.int32)
    for row, numbers in zip(ids, said, strict=True):
        row[: len(numbers)] = numbers
    starts, counts, reads = (np.array(part, np.int64) for part in (first, count, read))
    return Lessons(ids, length, starts, counts, reads, kept, languages)
