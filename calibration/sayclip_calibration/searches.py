"""What each encoder's embeddings are searched with: the other encoders' embeddings, at fp32, of what was given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip.sessions.onnxruntime import OnnxRuntimeSession

from .data import FEWEST, Inputs, Sample, read_all
from .gates import OUTPUT
from .retrieval import ALONE, GALLERY, QUERIES, Relevant, Retrieval

Embeddings = NDArray[np.float32]
Progress = Callable[[str, int, "int | None"], None]

IMAGE = "image"


class Searches:
    """Makes the ``Retrieval`` of each encoder of a bundle from the ``inputs`` that there are; embeds each sample once.

    Pictures are the gallery and everything else are queries, as in the runtime. Where at least eight queries have their
    own picture in it (``Source.keys``), these pairs are the truth and only those queries count.
    """

    def __init__(self, manifest: Manifest, inputs: Mapping[str, Inputs], threads: int | None, progress: Progress):
        self.manifest, self._inputs = manifest, inputs
        self._threads, self._progress = threads, progress
        self._known: dict[str, Embeddings] = {}

    def retrieval(self, encoder: str) -> Retrieval:
        """What the judged samples of ``encoder`` are searched with. Raises BundleError, BackendError."""
        judged = self._inputs[encoder].judged
        if encoder == IMAGE:
            queries = self._queries(judged)
            return self._searched(GALLERY, queries, judged, queries) if queries else Retrieval(ALONE)
        if IMAGE not in self._inputs:
            return Retrieval(ALONE)
        pictures = self._inputs[IMAGE]
        gallery = _once([*pictures.judged, *pictures.calibration, *self._belonging(IMAGE, judged)])
        others = [(IMAGE, sample) for sample in gallery]
        return self._searched(QUERIES, others, gallery, [(encoder, sample) for sample in judged])

    def _searched(
        self,
        role: str,
        others: Sequence[tuple[str, Sample]],
        gallery: Sequence[Sample],
        queries: Sequence[tuple[str, Sample]],
    ) -> Retrieval:
        relevant: Relevant = np.array([[bool(query.keys & item.keys) for item in gallery] for _, query in queries])
        paired: NDArray[np.bool_] = np.asarray(relevant.any(axis=1))
        if paired.sum() < FEWEST:
            return Retrieval(role, self._embed(others))
        if role == GALLERY:  # queries without their picture would only be in the way
            others = [other for other, has in zip(others, paired, strict=True) if has]
            relevant = relevant[paired]
        return Retrieval(role, self._embed(others), relevant)

    def _queries(self, pictures: Sequence[Sample]) -> list[tuple[str, Sample]]:
        """What pictures are searched by: the judged samples of the other encoders, and what belongs to the pictures."""
        return [
            (encoder, sample)
            for encoder, inputs in self._inputs.items()
            if encoder != IMAGE
            for sample in _once([*inputs.judged, *self._belonging(encoder, pictures)])
        ]

    def _belonging(self, encoder: str, samples: Sequence[Sample]) -> list[Sample]:
        """Inputs of ``encoder`` that belong to ``samples``, at most as many as these."""
        keys = frozenset().union(*(sample.keys for sample in samples))
        sources = (source for source in self._inputs[encoder].sources if source.keys & keys)
        return list(itertools.islice(read_all(sources), len(samples)))

    def _embed(self, samples: Sequence[tuple[str, Sample]]) -> Embeddings:
        """Embeddings [n, width] by the fp32 graphs."""
        for encoder in dict.fromkeys(name for name, _ in samples):
            new = [sample for name, sample in samples if name == encoder and sample.sha256 not in self._known]
            if not new:
                continue
            path = self.manifest.path(self.manifest.entry(encoder).graphs["fp32"].file)
            session = OnnxRuntimeSession(path, threads=self._threads)
            try:
                for done, sample in enumerate(new, start=1):
                    self._known[sample.sha256] = session.run(sample.feed)[OUTPUT][0]
                    self._progress(f"searching {encoder}", done, len(new))
            finally:
                session.close()
        return np.stack([self._known[sample.sha256] for _, sample in samples])


def _once(samples: Iterable[Sample]) -> list[Sample]:
    return list({sample.sha256: sample for sample in samples}.values())
