"""Exact search: every stored vector against the query, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayclip.library.store import Store

# float32 sums depend a little on where a row lies in memory; whatever is this close is compared again in float64.
_NOISE = 1e-5
_RESCORED_AT_ONCE = 8192


class Scores(NamedTuple):
    """Items, best first and by id among equals: ids int64 `[n]`, cosines float64 `[n]`."""

    item_ids: NDArray[np.int64]
    cosines: NDArray[np.float64]


class ExactIndex:
    """All vectors with an id beyond `after`, in memory as unit float32 rows, kept in step with the library."""

    _removals: object
    _version: tuple[int, int] | None

    def __init__(self, width: int, after: int = 0) -> None:
        self._width, self._after = width, after
        self._clear()

    def __len__(self) -> int:
        return self._count

    def refresh(self, store: Store) -> None:
        """Drop rows that went and read rows that came since the last call; call inside `store.reading`."""
        version = store.version()
        if version == self._version:
            return
        try:
            self._follow(store)
        except BaseException:  # half a step, interrupted: what is here may no longer belong together
            self._clear()
            raise
        self._version = version

    def best(self, query: NDArray[np.float32], k: int) -> Scores:
        """The `k` best items for a unit query `[width]`; an item counts by its best vector."""
        scores = self._rows[: self._count] @ query
        wanted = min(k, self._count)
        while True:
            found = self._rescored(_highest(scores, wanted), query)
            # Several vectors of one item can use up the places of others.
            if len(found.item_ids) >= k or wanted == self._count:
                return Scores(found.item_ids[:k], found.cosines[:k])
            wanted = min(2 * wanted, self._count)

    def _clear(self) -> None:
        self._last = self._after
        self._count = 0
        self._ids = np.empty(0, np.int64)
        self._item_ids = np.empty(0, np.int64)
        self._rows = np.empty((0, self._width), np.float32)
        self._removals, self._version = None, None

    def _follow(self, store: Store) -> None:
        removals = store.setting("removals")
        if removals != self._removals and self._count:
            kept = np.flatnonzero(np.isin(self._ids[: self._count], store.vector_ids()))
            for values in (self._ids, self._item_ids, self._rows):
                values[: len(kept)] = values[kept]
            self._count = len(kept)
        self._removals = removals
        self._reserve(self._count + store.count_vectors(after=self._last))
        for block in store.vector_blocks(after=self._last):
            start, end = self._count, self._count + len(block.ids)
            self._ids[start:end] = block.ids
            self._item_ids[start:end] = block.item_ids
            self._rows[start:end] = unit_rows(block.vectors)
            self._count, self._last = end, int(block.ids[-1])

    def _rescored(self, places: NDArray[np.intp], query: NDArray[np.float32]) -> Scores:
        parts = [
            cosines(self._rows[places[start : start + _RESCORED_AT_ONCE]], query)
            for start in range(0, len(places), _RESCORED_AT_ONCE)
        ]
        return ranked(self._item_ids[places], np.concatenate(parts) if parts else np.empty(0))

    def _reserve(self, count: int) -> None:
        if count <= len(self._ids):
            return
        # Room to grow by an eighth, so that a library that grows one by one is not copied each time.
        room = count if not len(self._ids) else count + count // 8
        for name in ("_ids", "_item_ids", "_rows"):
            old = getattr(self, name)
            new = np.empty((room, *old.shape[1:]), old.dtype)
            new[: self._count] = old[: self._count]
            setattr(self, name, new)


def unit_rows(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Stored vectors `[n, width]` as float32 rows of length 1, without float16's rounding of the length."""
    rows = vectors.astype(np.float32)
    rows /= np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows


def cosines(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of unit rows to a unit query, in float64, the same for a row wherever it lies."""
    scores: NDArray[np.float64] = (rows * query.astype(np.float64)).sum(axis=1).clip(-1.0, 1.0)
    return scores


def ranked(item_ids: NDArray[np.int64], scores: NDArray[np.float64]) -> Scores:
    """Order by score and, among equals, by item id; of an item's scores only the best stays."""
    order = np.lexsort((item_ids, -scores))
    item_ids, scores = item_ids[order], scores[order]
    together = np.argsort(item_ids, kind="stable")  # np.unique would do, but imports masked arrays, which takes 5 ms
    first = np.append(True, np.diff(item_ids[together]) != 0)[: len(together)]
    firsts = np.sort(together[first])
    return Scores(item_ids[firsts], scores[firsts])


def merged(found: Sequence[Scores], factors: Sequence[float], k: int) -> Scores:
    """The best `k` of several searches, an item counting by the largest of its cosines times that search's factor.

    Exact where each of `found` has its own best `k`: an item that is missing from one is not ahead of these.
    """
    if len(found) == 1 and factors[0] == 1:
        return found[0]
    ids = np.concatenate([scores.item_ids for scores in found])
    weighed = np.concatenate([factor * scores.cosines for scores, factor in zip(found, factors, strict=True)])
    best = ranked(ids, weighed)
    return Scores(best.item_ids[:k], best.cosines[:k])


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the `count` highest scores and of all that could tie with the last of them."""
    if count == len(scores):
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= threshold - _NOISE)
