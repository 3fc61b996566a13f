"""What a candidate's embeddings have lost against fp32's: the smallest cosine, and the change of recall@10.

Recall is taken over real things, since random vectors lie so evenly that their tenth and their hundredth nearest are as
near as each other, and what is found among them says nothing. What is searched:

- for queries (text, speech, pronunciations), where the bundle has an image encoder: ``GALLERY`` pictures;
- for pictures, and in bundles without an image encoder: ``GALLERY`` other inputs of the same kind.

fp32 in ONNX Runtime embeds it, as a library that was made elsewhere. Each candidate embeds ``QUERIES`` inputs of the
size of a typical query, more than are timed: of four of them recall would move in steps of 1/40, so it does in 1/640.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip_benchmarks.suite import inputs
from sayclip_benchmarks.suite.cases import Case, cases_of
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.worker import CandidateError, Worker

REFERENCE = "onnxruntime fp32"
QUERIES, GALLERY, K = 64, 256, 10
TIE = 1e-6  # of a cosine: what fp32 holds as near as its tenth is as right as the tenth
_CHUNK = 8  # inputs that a process holds at once, so that its peak of memory stays that of what is timed
Embeddings = NDArray[np.float64]


def recall_change(wanted: NDArray[Any], seen: NDArray[Any], gallery: NDArray[Any], k: int = K) -> float:
    """Which part of the ``k`` nearest is no longer found, as a difference of recall@k: 0 is none, -1 all of it.

    ``wanted`` and ``seen`` [n, d]: embeddings of the same n inputs by fp32 and by a candidate; ``gallery`` [m, d],
    m > k: what is searched for them, by cosine. Found is what is among the candidate's k nearest and, for fp32, no
    farther than its k-th.
    """
    rows = _unit(gallery)
    right, found = (_unit(one) @ rows.T for one in (wanted, seen))
    enough = np.partition(right, -k, axis=1)[:, -k, None] - TIE
    nearest = np.argpartition(found, -k, axis=1)[:, -k:]
    return float((np.take_along_axis(right, nearest, axis=1) >= enough).mean()) - 1.0


def least_cosine(wanted: NDArray[Any], seen: NDArray[Any]) -> float:
    """The smallest cosine of two rows that belong together, of [n, d]."""
    return float((_unit(wanted) * _unit(seen)).sum(axis=1).min())


class Accuracy:
    """Figures beside the times of one bundle's encoders. ``work``: a folder where inputs lie for a while."""

    def __init__(self, manifest: Manifest, work: Path, sources: Sources) -> None:
        self._manifest, self._work, self._sources = manifest, work, sources
        self._galleries: dict[str, NDArray[Any] | None] = {}

    def of(
        self, case: Case, made: Mapping[str, Any], workers: Mapping[str, Worker], *, recall: bool
    ) -> dict[str, dict[str, float]]:
        """``cosine``, over the inputs ``made``, and with ``recall`` also ``recall_change``, by candidate.

        Nothing where fp32 in ONNX Runtime is not among ``workers``. Who fails, or gives something else than embeddings
        as many and as wide as fp32's, has none.
        """
        seen = _alike(case, [made], workers)
        found = {label: {"cosine": least_cosine(seen[REFERENCE], rows)} for label, rows in seen.items()}
        gallery = self._gallery(case) if recall and found else None
        if gallery is not None:
            with self._inputs(case, 0, QUERIES) as asked:
                seen = _alike(case, asked, {label: workers[label] for label in found})
            for label, rows in seen.items():
                found[label]["recall_change"] = recall_change(seen[REFERENCE], rows, gallery)
        return found

    def _gallery(self, case: Case) -> NDArray[Any] | None:
        """Embeddings [m, d] to search, by fp32; None where they cannot be had."""
        name = "image" if "image" in self._manifest.encoders else case.encoder
        key = case.key if name == case.encoder else name
        if key not in self._galleries:
            session = case if name == case.encoder else cases_of(name, quick=True)[0]
            told = {"kind": "sayclip", "bundle": str(self._manifest.folder), "encoder": name}
            try:
                worker = Worker({**told, "backend": "onnxruntime", "precision": "fp32"})
            except CandidateError:
                return None
            with worker, self._inputs(session, QUERIES, GALLERY) as made:
                self._galleries[key] = _outputs(session, made, worker)
        return self._galleries[key]

    @contextmanager
    def _inputs(self, case: Case, first: int, count: int) -> Iterator[list[dict[str, Any]]]:
        """``count`` inputs of ``case`` from number ``first`` on, in parts of ``_CHUNK``."""
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="recall-", dir=self._work) as folder:
            yield [
                inputs.make(self._manifest, case, self._sources, Path(folder) / str(part), count=_CHUNK, first=part)
                for part in range(first, first + count, _CHUNK)
            ]


def _alike(case: Case, made: Sequence[Mapping[str, Any]], workers: Mapping[str, Worker]) -> dict[str, NDArray[Any]]:
    """What each candidate makes of the inputs, of those that give as many rows, as wide, as fp32 does."""
    wanted = _outputs(case, made, workers[REFERENCE]) if REFERENCE in workers else None
    if wanted is None:
        return {}
    found = {REFERENCE: wanted}
    for label, worker in workers.items():
        seen = _outputs(case, made, worker) if label != REFERENCE else None
        if seen is not None and seen.shape == wanted.shape:
            found[label] = seen
    return found


def _outputs(case: Case, made: Sequence[Mapping[str, Any]], worker: Worker) -> NDArray[Any] | None:
    parts = []
    with tempfile.TemporaryDirectory(prefix="sayclip-bench-") as folder:
        path = Path(folder) / "seen.npy"
        try:
            for part in made:
                worker.outputs(case.to_dict(), part, path)
                parts.append(np.load(path))
            return np.concatenate(parts)
        except (CandidateError, OSError, ValueError):
            return None


def _unit(rows: NDArray[Any]) -> Embeddings:
    """Rows of length 1 in float64; what is not finite counts as 0, which is near to nothing."""
    finite = np.nan_to_num(rows.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    unit: Embeddings = finite / np.maximum(np.linalg.norm(finite, axis=1, keepdims=True), 1e-12)
    return unit
