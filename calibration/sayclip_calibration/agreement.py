"""How far one set of a graph's outputs lies from another, sample by sample: cosines, keywords and boundaries.

Outputs are arrays by name, one row a sample, the rows of all in the same order. Nothing here knows what is good enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError

Outputs = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

NEAR_SECONDS = 0.02
"""Boundaries no further apart than this agree: the usual tolerance for the edges of phonemes."""
_NO_KEYWORD = -1


def join(parts: Sequence[Outputs]) -> dict[str, NDArray[Any]]:
    """The outputs of several runs as those of one, row under row.

    Where runs differ in the number of keywords [B, K], rows are filled up: ids with -1, anything else with zeros.
    Raises InputError when there is no run, or the runs have other outputs.
    """
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        seen = sorted({name for part in parts for name in part})
        raise InputError(f"outputs to join are {seen} in {len(parts)} runs, wanted the same in each", "run one graph")
    return {name: _under_one_another(name, [part[name] for part in parts]) for name in parts[0]}


def _under_one_another(name: str, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    longest = tuple(np.max([array.shape[1:] for array in arrays], axis=0, initial=0).astype(int))
    count = sum(len(array) for array in arrays)
    joined = np.full((count, *longest), _NO_KEYWORD if name == "keyword_ids" else 0, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        place = (slice(start, start + len(array)), *(slice(size) for size in array.shape[1:]))
        joined[place] = array
        start += len(array)
    return joined


def row_cosines(one: NDArray[Any], two: NDArray[Any], centre: NDArray[Any] | float = 0.0) -> Floats:
    """Cosine of each row of ``one`` with that of ``two``, both [n, d], after ``centre`` [d] is taken off; float64 [n].

    Two rows of zeros agree (1); a row that is not finite, or zero in one of the two only, counts as -1.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        a, b = one.astype(np.float64) - centre, two.astype(np.float64) - centre
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines: Floats = np.clip((a * b).sum(axis=1) / lengths, -1.0, 1.0)
        cosines[(np.abs(a) + np.abs(b)).sum(axis=1) == 0.0] = 1.0
    return np.where(np.isfinite(cosines), cosines, -1.0)


def centre_of(embeddings: NDArray[Any]) -> Floats:
    """The mean of embeddings [n, d], float64 [d]: what the embeddings of an encoder have in common."""
    centre: Floats = embeddings.mean(axis=0, dtype=np.float64)
    return centre


def same_keywords(reference: Outputs, seen: Outputs) -> tuple[NDArray[np.bool_], float]:
    """Of each sample whether all its keywords are the same, bool [n], and the share of equal keywords over all samples.

    Only the first ``keyword_count`` of a row are compared, where the graph tells it; a keyword more or less is one that
    differs. Without any keyword on either side the share is 1.
    """
    ids, others = reference["keyword_ids"], seen["keyword_ids"]
    counts, other_counts = _counts(reference), _counts(seen)
    whole = np.zeros(len(ids), dtype=bool)
    equal = total = 0
    for row, (count, other) in enumerate(zip(counts, other_counts, strict=True)):
        both = min(count, other)
        same = int((ids[row, :both] == others[row, :both]).sum())
        whole[row] = same == max(count, other)
        equal, total = equal + same, total + max(count, other)
    return whole, equal / total if total else 1.0


def same_boundaries(reference: Outputs, seen: Outputs) -> tuple[float, float]:
    """Mean distance in seconds from a boundary to the nearest one of the other side, and the share within 20 ms.

    Both directions count, so a boundary more, or one less, is noticed. A sample without boundaries on one side only,
    and a boundary that is not finite, is infinitely far.
    """
    distances: list[Floats] = []
    for here, there in zip(_boundaries(reference), _boundaries(seen), strict=True):
        distances += [_to_the_nearest(here, there), _to_the_nearest(there, here)]
    found = np.concatenate(distances) if distances else np.zeros(0)
    if not len(found):
        return 0.0, 1.0
    return float(found.mean()), float((found <= NEAR_SECONDS + 1e-9).mean())


def _counts(outputs: Outputs) -> list[int]:
    ids = outputs["keyword_ids"]
    counts = outputs.get("keyword_count")
    if counts is None:
        return [ids.shape[1]] * len(ids)
    return [int(count) for count in np.clip(counts, 0, ids.shape[1])]


def _boundaries(outputs: Outputs) -> list[Floats]:
    """The boundaries of each sample: one more than it has keywords, where the graph tells how many."""
    times = outputs["boundaries"].astype(np.float64)
    counts = outputs.get("keyword_count")
    if counts is None:
        return list(times)
    return [row[: int(count) + 1] for row, count in zip(times, np.clip(counts, 0, None), strict=True)]


def _to_the_nearest(these: Floats, those: Floats) -> Floats:
    if not len(these) or not len(those):
        return np.full(len(these), np.inf)
    with np.errstate(invalid="ignore"):
        distances = np.abs(these[:, None] - those[None, :])
    nearest: Floats = np.where(np.isfinite(distances), distances, np.inf).min(axis=1)
    return nearest
