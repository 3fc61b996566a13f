"""How far an int8 encoder's embeddings turn away from the fp32 ones, sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BundleError, InputError

from .agreement import row_cosines
from .session import Feed, Runner

OUTPUT = "embedding"


@dataclass(frozen=True)
class CosineReport:
    """Cosines between two sets of embeddings, one per sample (row), counted over all feeds."""

    mean: float
    worst: float
    worst_sample: int
    """Row number of the worst sample over all feeds."""
    worst_feed: int
    """Number of the feed that holds it."""
    samples: int

    def __str__(self) -> str:
        where = f"sample {self.worst_sample} in feed {self.worst_feed}"
        return f"cosine mean {self.mean:.5f}, worst {self.worst:.5f} ({where}, of {self.samples})"


def embeddings(runner: Runner, feeds: Iterable[Feed], output: str = OUTPUT) -> list[NDArray[np.float32]]:
    """One array [B, D] per feed."""
    if output not in runner.outputs:
        problem = f"the graph has outputs {list(runner.outputs)}, wanted {output!r}"
        raise BundleError(problem, "name the output to compare")
    return [np.asarray(runner.run(feed, [output])[0], dtype=np.float32) for feed in runner.checked(feeds)]


def cosines(reference: Sequence[NDArray[np.float32]], seen: Sequence[NDArray[np.float32]]) -> CosineReport:
    """Compare two lists of [B, D] embeddings row by row, in float64.

    A row that is not finite, or zero in one of the two only, counts as cosine -1. Raises InputError when the two lists
    do not hold the same shapes.
    """
    if [value.shape for value in reference] != [value.shape for value in seen] or not reference:
        problem = f"shapes {[value.shape for value in seen]}, wanted {[value.shape for value in reference]}"
        raise InputError(f"embeddings of {problem}", "compare two graphs of the same encoder on the same feeds")
    rows = np.concatenate([row_cosines(a, b) for a, b in zip(reference, seen, strict=True)])
    feeds = np.repeat(np.arange(len(reference)), [len(value) for value in reference])
    worst = int(rows.argmin())
    return CosineReport(float(rows.mean()), float(rows[worst]), worst, int(feeds[worst]), len(rows))


def compare(
    fp32_path: str | Path, int8_path: str | Path, feeds: Iterable[Feed], *, output: str = OUTPUT
) -> CosineReport:
    """Run two graph files with the kernels they are shipped for and compare their embeddings.

    Raises InputError for bad feeds, BundleError for a graph that cannot be loaded.
    """
    kept = list(feeds)
    before = embeddings(Runner(fp32_path, optimise=True), kept, output)
    return cosines(before, embeddings(Runner(int8_path, optimise=True), kept, output))
