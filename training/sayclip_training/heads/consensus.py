"""What recordings that mean the same agree on: they say the same words, and who measures each errs in other places.

Two of them are laid beside each other by dynamic time warping (Sakoe and Chiba 1978, "Dynamic programming algorithm
optimization for spoken word recognition"), and what is measured of one is averaged with what is measured of the other
at the same sounds. Recordings of the same picture that say something else lie too far apart, and do not count. What
lies between two voices is a voice too, and learning from such ones teaches what all voices have in common.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip_training.heads.boundaries import Batch

Floats = NDArray[np.float32]
Curves = Mapping[int, Floats]  # of each utterance one value a frame, f32 [T]

REACH = 4  # neighbours on either side, in a ring of all that mean the same, that an utterance is laid beside
# The mean of 1 less the cosine along the path, over which two do not say the same: 99 % of the test bed's pairs
# of one picture lie below 0.57, and 99 % of other pairs above 0.61.
APART = 0.6
MOST_FRAMES = 1000  # of an utterance that is laid beside another
_CELLS = 2_000_000  # of a batch of tables


@dataclass(frozen=True)
class Alignment:
    """Frame ``here[p]`` of utterance ``one`` sounds like ``there[p]`` of the ``other``, i64 [P], both ascending."""

    one: int
    other: int
    here: NDArray[np.int64]
    there: NDArray[np.int64]


def align(frames: Callable[[int], Floats], rows: Sequence[int], means: NDArray[np.int64]) -> list[Alignment]:
    """The utterances ``rows`` that say the same, side by side, each beside up to 8 others.

    ``frames(row)`` f32 [T,W], rows of length 1; ``means`` i64 [N]: what each of all utterances means.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[int(means[row])].append(row)
    pairs = {
        tuple(sorted((group[place], group[(place + step) % len(group)])))
        for group in groups.values()
        for place, step in itertools.product(range(len(group)), range(1, min(REACH, len(group) // 2) + 1))
    }
    vectors = {row: frames(row) for row in sorted({row for pair in pairs for row in pair})}
    known = [pair for pair in sorted(pairs) if all(0 < len(vectors[row]) <= MOST_FRAMES for row in pair)]
    known.sort(key=lambda pair: max(len(vectors[row]) for row in pair))
    found = []
    for batch in _batches(known, vectors):
        paths = _paths([(vectors[one], vectors[other]) for one, other in batch])
        found += [
            Alignment(one, other, here, there)
            for (one, other), (far, here, there) in zip(batch, paths, strict=True)
            if far < APART
        ]
    return found


def agreed(curves: Curves, alignments: Iterable[Alignment]) -> dict[int, Floats]:
    """Each curve averaged with those of the utterances that it is aligned with, at the same sounds.

    Of several frames that lie beside one the highest value counts.
    """
    total = {row: curve.astype(np.float64) for row, curve in curves.items()}
    count = dict.fromkeys(curves, 1)
    for row, place, other, its in _both_ways(alignments):
        if row in curves and other in curves:
            seen = np.full(len(curves[row]), -np.inf, np.float32)
            np.maximum.at(seen, place, curves[other][its])
            total[row] += seen
            count[row] += 1
    return {row: (one / count[row]).astype(np.float32) for row, one in total.items()}


def agreed_units(found: Curves, unit: Mapping[int, NDArray[np.int64]], alignments: Iterable[Alignment]) -> Curves:
    """Vectors f32 [K,D] of each utterance's units, averaged with those of other utterances at the same sounds.

    ``unit`` i64 [T]: which unit each frame lies in. All frames beside those of a unit count alike, its own among them.
    """
    total = {row: vectors * _sizes(unit[row], len(vectors)) for row, vectors in found.items()}
    count = {row: _sizes(unit[row], len(vectors)) for row, vectors in found.items()}
    for row, place, other, its in _both_ways(alignments):
        if row in found and other in found:
            np.add.at(total[row], unit[row][place], found[other][unit[other][its]])
            np.add.at(count[row], unit[row][place], 1)
    return {row: (one / count[row]).astype(np.float32) for row, one in total.items()}


def between_voices(batch: Batch, alignments: Iterable[Alignment]) -> Batch:
    """``batch`` of utterances whose frames are mixed with those beside them of a voice that says the same.

    Whose, and how much of it, is drawn by PyTorch's generator. An utterance that is alone stays as it is.
    """
    beside = defaultdict(list)
    for row, place, other, its in _both_ways(alignments):
        beside[row].append((other, _last(place, its)))

    def mixed(rows: list[int]) -> tuple[Tensor, Tensor]:
        frames, counts = batch(rows)
        places = [place for place, row in enumerate(rows) if row in beside]
        drawn = [beside[rows[place]][int(torch.randint(len(beside[rows[place]]), ()))] for place in places]
        if drawn:
            others = batch([other for other, _ in drawn])[0]
            for place, (_, its), other in zip(places, drawn, others, strict=True):
                frames[place, : len(its)] = frames[place, : len(its)].lerp(other[its], float(torch.rand(())))
        return frames, counts

    return mixed


def together(*measured: Curves) -> dict[int, Floats]:
    """The sum of several curves of the same utterances, all brought to the same spread, and none below 0."""
    total: dict[int, Floats] = {}
    for curves in measured:
        values = np.concatenate(list(curves.values()))
        least, spread = values.min(), max(float(values.std()), 1e-9)
        total = {row: total.get(row, np.float32(0)) + (one - least) / spread for row, one in curves.items()}
    return {row: one.astype(np.float32) for row, one in total.items()}


def _both_ways(alignments: Iterable[Alignment]) -> Iterable[tuple[int, NDArray[np.int64], int, NDArray[np.int64]]]:
    """Each utterance with its frames, and the other with those beside them, of every alignment as it is and turned."""
    for pair in alignments:
        yield pair.one, pair.here, pair.other, pair.there
        yield pair.other, pair.there, pair.one, pair.here


def _sizes(unit: NDArray[np.int64], units: int) -> Floats:
    """How many frames lie in each unit, f32 [K,1], at least 1."""
    return np.maximum(np.bincount(unit, minlength=units), 1).astype(np.float32)[:, None]


def _last(here: NDArray[np.int64], there: NDArray[np.int64]) -> Tensor:
    """For each frame of one utterance, from 0 on, the last one beside it of another, i64 [T]."""
    found = np.zeros(int(here[-1]) + 1, np.int64)
    found[here] = there
    return torch.from_numpy(found)


def _batches(pairs: Sequence[tuple[int, ...]], vectors: Mapping[int, Floats]) -> Iterable[list[tuple[int, ...]]]:
    """Parts of ``pairs``, which ascend by length, whose tables have no more than so many cells; one pair at least."""
    batch: list[tuple[int, ...]] = []
    for pair in pairs:
        longest = max(len(vectors[row]) for row in pair)
        if batch and (len(batch) + 1) * longest**2 > _CELLS:
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _paths(pairs: Sequence[tuple[Floats, Floats]]) -> list[tuple[float, NDArray[np.int64], NDArray[np.int64]]]:
    """Of each pair of frames the path of least total distance, and the mean distance on it."""
    height, width = (max(len(pair[side]) for pair in pairs) for side in (0, 1))
    far = np.full((len(pairs), height, width), 2.0, np.float32)
    for place, (one, other) in enumerate(pairs):
        far[place, : len(one), : len(other)] = 1 - one @ other.T
    least = np.full((len(pairs), height + 1, width + 1), np.inf, np.float32)
    least[:, 0, 0] = 0
    for diagonal in range(2, height + width + 1):  # all cells of one depend on the two before alone
        i = np.arange(max(1, diagonal - width), min(height, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(least[:, i - 1, j], least[:, i, j - 1]), least[:, i - 1, j - 1])
        least[:, i, j] = far[:, i - 1, j - 1] + before
    return [_path(least[place], len(one), len(other)) for place, (one, other) in enumerate(pairs)]


def _path(least: Floats, i: int, j: int) -> tuple[float, NDArray[np.int64], NDArray[np.int64]]:
    total, back = float(least[i, j]), []
    while i and j:
        back.append((i - 1, j - 1))
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda step: least[step])
    here, there = np.array(back[::-1]).T
    return total / len(back), here, there
