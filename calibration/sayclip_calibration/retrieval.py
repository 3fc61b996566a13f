"""Recall before and after: does a search still find what it found?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import Floats, centre_of

KS = (1, 5, 10)
NEAR = 0.1
"""Of the way from the best score to the median."""
QUERIES, GALLERY, ALONE = "queries", "gallery", "alone"

Relevant = NDArray[np.bool_]


@dataclass(frozen=True)
class Retrieval:
    """What the embeddings of one encoder are searched with, or searched by.

    ``role`` says what the judged rows are: the queries, with ``others`` [m, d] the gallery; the gallery, with
    ``others`` the queries; or, where the encoder is alone, both: every row is looked for among all the others.
    ``relevant`` bool [queries, gallery] is the truth; None takes as truth what fp32 itself finds first or nearly as
    good, so that recall before is 1 and recall after says how often the same is found.
    """

    role: str = ALONE
    others: NDArray[np.float32] | None = None
    relevant: Relevant | None = None

    @property
    def truth(self) -> str:
        """What counts as found, in words."""
        return "pairs" if self.relevant is not None else "what fp32 finds first, or nearly as good"

    def scores(self, rows: NDArray[Any], centre: Floats | float = 0.0) -> Floats:
        """Cosines [queries, gallery] of the judged ``rows`` [n, d]; ``centre`` is taken off where there is one kind."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if self.role == ALONE or self.others is None:
                own = _unit(rows.astype(np.float64) - centre)
                scores = own @ own.T
                np.fill_diagonal(scores, -np.inf)
            else:
                queries, gallery = (rows, self.others) if self.role == QUERIES else (self.others, rows)
                scores = _unit(queries.astype(np.float64)) @ _unit(gallery.astype(np.float64)).T
        found: Floats = np.where(np.isnan(scores), -np.inf, scores)
        return found

    def recall(
        self, reference: NDArray[Any], seen: NDArray[Any], *, centred: bool
    ) -> tuple[dict[int, float], dict[int, float], int]:
        """Recall@k of the fp32 rows and of the rows seen, both [n, d], and the number of queries that have an answer.

        Only for such k as leave something unfound. ``centred``: rows that are searched among themselves lose the mean
        of the fp32 rows first.
        """
        with np.errstate(invalid="ignore"):
            centre: Floats | float = centre_of(reference) if centred else 0.0
        before, after = self.scores(reference, centre), self.scores(seen, centre)
        relevant = self.relevant
        if relevant is None:
            relevant = _as_good_as_the_best(before)
        asked = relevant.any(axis=1)
        gallery = before.shape[1] - (self.role == ALONE)
        ks = [k for k in KS if k < gallery]
        if not asked.any():
            return {}, {}, 0
        ranks = [_ranks(scores[asked], relevant[asked]) for scores in (before, after)]
        one, two = ({k: float((rank < k).mean()) for k in ks} for rank in ranks)
        return one, two, int(asked.sum())

    def subset(self, rows: Sequence[int]) -> Retrieval:
        """The same for only these of the judged rows."""
        if self.relevant is None:
            return self
        chosen, relevant = list(rows), self.relevant
        if self.role != GALLERY:
            relevant = relevant[chosen]
        if self.role != QUERIES:
            relevant = relevant[:, chosen]
        return replace(self, relevant=relevant)


def _as_good_as_the_best(scores: Floats) -> Relevant:
    """What fp32 finds first or nearly as good: nearer than ``NEAR`` of what tells the best item from any.

    Among items that do not belong to the query the first one is often first by a hair, and which of them comes first
    says nothing about the accuracy of an encoder.
    """
    best = scores.max(axis=1, keepdims=True)
    others = np.where(np.isfinite(scores), scores, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row without any finite score
        middle = np.nanmedian(others, axis=1, keepdims=True)
    relevant: Relevant = (scores >= best - NEAR * (best - middle)) & np.isfinite(scores)
    return relevant


def _ranks(scores: Floats, relevant: Relevant) -> NDArray[np.int64]:
    """How many items that are not relevant come before the best relevant one, by query. A tie counts against it."""
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    ranks: NDArray[np.int64] = ((scores >= best[:, None]) & ~relevant).sum(axis=1)
    return np.where(np.isfinite(best), ranks, scores.shape[1])


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
