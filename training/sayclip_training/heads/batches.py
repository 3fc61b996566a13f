"""Which utterances a step sees: pictures drawn evenly, then one utterance of each, or two that mean the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError

_SHOWN = 5


class Batches:
    """Batches of N utterances; ``meaning`` [N]: the number of each one's picture.

    The same seed and number give the same batch. With ``twins`` only pictures with two utterances count.
    """

    def __init__(self, rows: Sequence[int], meaning: Sequence[int], size: int, seed: int, *, twins: bool) -> None:
        """``rows``: numbers of the utterances that may be drawn. Raises InputError where too few pictures are left."""
        groups: dict[int, list[int]] = {}
        for row in rows:
            groups.setdefault(meaning[row], []).append(row)
        least = 2 if twins else 1
        self._groups = [np.array(group) for group in groups.values() if len(group) >= least]
        if len(self._groups) < 2:  # one has nothing to be held against
            what = "two utterances" if twins else "an utterance"
            raise InputError(f"{len(self._groups)} pictures have {what} to learn from", "give pairs of at least two")
        self._size, self._seed, self._twins = min(size, len(self._groups)), seed, twins

    def draw(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Utterances i64 [B] of step ``number``, each of another picture, and of each one that means the same i64 [B].

        Without twins the second is the first.
        """
        rng = np.random.default_rng([self._seed, number])
        chosen = [self._groups[place] for place in rng.permutation(len(self._groups))[: self._size]]
        first = np.array([group[rng.integers(len(group))] for group in chosen])
        if not self._twins:
            return first, first
        second = []
        for group, row in zip(chosen, first, strict=True):
            others = group[group != row]
            second.append(others[rng.integers(len(others))])
        return first, np.array(second)

    def describe(self, number: int, names: Sequence[str]) -> str:
        """The batch of step ``number``, for a message: ``names`` of all utterances."""
        rows = self.draw(number)[0].tolist()
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        return f"the batch of {', '.join(names[row] for row in rows[:_SHOWN])}{more}"
