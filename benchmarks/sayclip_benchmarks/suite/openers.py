"""Candidates as a child process opens them: each turns a case into a function of one input."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.preparation import Preparation
from sayclip.sessions import backends
from sayclip.sessions.choose import AUTO
from sayclip.sessions.reference import OUTPUT
from sayclip_benchmarks.suite.cases import Case, Run

K = 10


class Candidate(Protocol):
    """``function(case)`` gives what is timed; it returns embeddings [n, width] for cases of sessions and encoders."""

    label: str
    model_bytes: int | None

    def function(self, case: Case) -> Run: ...


class Ours:
    """sayclip itself, on a backend and precision by name, or on what ``auto`` picks."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec, self._name = spec, str(spec["encoder"])
        backend, precision = str(spec.get("backend", AUTO)), str(spec.get("precision", AUTO))
        threads = spec.get("threads")
        self._run: Callable[[Any], Mapping[str, Any]]
        self._encoder: sayclip.Encoder | None = None
        if backend != AUTO:  # the graph alone, so that its memory is that of one
            manifest = Manifest.read(Path(spec["bundle"]))
            self._run = backends.open_graph(manifest, self._name, precision, backend=backend, threads=threads).run
        else:
            self._encoder = encoder = sayclip.load(spec["bundle"], threads=threads)
            manifest, opened = encoder.manifest, encoder._opened(self._name)
            chosen = opened.open()
            backend, precision, self._run = chosen.backend, chosen.precision, opened.run_all
        self.model_bytes: int | None = backends.graph_bytes(manifest.entry(self._name).graphs[precision])
        self.label = f"{backend} {plain(precision)}"
        self._preparation = Preparation(manifest)

    def function(self, case: Case) -> Run:
        if case.what == "session":
            run = self._run
            return lambda feed: run(feed)[OUTPUT]
        if case.what == "preprocessing":
            return self._prepare(case.encoder)
        encoder = self._encoder
        if encoder is None:
            asked = {key: self._spec[key] for key in ("backend", "precision", "threads") if key in self._spec}
            self._encoder = encoder = sayclip.load(self._spec["bundle"], **asked)
        if case.what == "encoder":
            encode = getattr(encoder, case.encoder)
            return lambda source: encode(source)
        library = sayclip.Library.open(self._spec["library"], encoder)
        modality: str = "ipa" if case.encoder == "pronunciation" else case.encoder
        return lambda source: library.search(**{modality: source}, k=K)

    def _prepare(self, encoder: str) -> Run:
        preparation = self._preparation
        if encoder == "image":
            return preparation.picture
        if encoder == "speech":
            return lambda wave: preparation.speech_feeds(preparation.recordings(None, [wave]))
        if encoder == "pronunciation":
            return lambda ipa: preparation.pronunciations([ipa])
        return lambda text: preparation.texts([text])


class Direct:
    """A graph of the bundle in ONNX Runtime or OpenVINO as their own documentation opens it, without sayclip."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        manifest = Manifest.read(Path(spec["bundle"]))
        precision = str(spec["precision"])
        graph = manifest.entry(str(spec["encoder"])).graphs[precision]
        path, library = os.fspath(manifest.path(graph.file)), str(spec["library_name"])
        self.model_bytes: int | None = backends.graph_bytes(graph)
        self.label = f"direct {library} {plain(precision)}"
        self._run = _openvino(path) if library == "openvino" else _onnxruntime(path)

    def function(self, case: Case) -> Run:
        if case.what != "session":
            raise InputError(f"{self.label} has no {case.what}", "time its session")
        return self._run


def _onnxruntime(path: str) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    place = [value.name for value in session.get_outputs()].index(OUTPUT)
    return lambda feed: session.run(None, feed)[place]


def _openvino(path: str) -> Run:
    from sayclip.sessions.openvino import import_openvino

    openvino = import_openvino()
    core = openvino.Core()
    # bfloat16 would be another precision than the graph's; latency is what its guide recommends for one query at a time
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(path), "CPU", settings)
    output = model.output(OUTPUT)
    return lambda feed: np.array(model(feed)[output])


class Search:
    """The ten nearest of a library's vectors: by sayclip, or by what people use in its place."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.label = str(spec["method"])
        self.model_bytes: int | None = None
        self._spec = spec
        self._vectors = np.load(spec["vectors"]) if self.label != "sayclip" else None

    def function(self, case: Case) -> Run:
        if self.label == "sayclip":
            # Vectors of one space need no encoder to be searched by.
            library = sayclip.Library.open(self._spec["library"], None)
            return lambda vector: library.search_vector(vector, K)
        assert self._vectors is not None
        return _METHODS[self.label](self._vectors)


def _numpy(vectors: NDArray[np.float32]) -> Run:
    def search(vector: NDArray[np.float32]) -> Any:
        scores = vectors @ vector
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    return search


def _usearch_exact(vectors: NDArray[np.float32]) -> Run:
    from usearch.index import search

    halves = vectors.astype(np.float16)
    return lambda vector: search(halves, vector.astype(np.float16), K, "ip", exact=True)


def _faiss(vectors: NDArray[np.float32]) -> Run:
    import faiss  # type: ignore[import-not-found, import-untyped, unused-ignore]

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda vector: index.search(vector[None], K)


_METHODS: dict[str, Callable[[NDArray[np.float32]], Run]] = {
    "numpy fp32": _numpy,
    "usearch exact fp16": _usearch_exact,
    "faiss flat": _faiss,
}
SEARCHES = ("sayclip", *_METHODS)


def plain(precision: str) -> str:
    """int8 in one word: its unsigned form holds the same numbers."""
    return "int8" if precision.startswith("int8") else precision


def open_candidate(spec: Mapping[str, Any]) -> Candidate:
    """The candidate that ``spec`` describes. Raises whatever opening it raises: its row says so."""
    kind = spec["kind"]
    if kind == "torch":
        from sayclip_benchmarks.suite.torch_side import Torch

        return Torch(spec)
    if kind == "optimum":
        from sayclip_benchmarks.suite.optimum_side import Optimum

        return Optimum(spec)
    if kind == "fastembed":
        from sayclip_benchmarks.suite.fastembed_side import Fastembed

        return Fastembed(spec)
    if kind == "direct":
        return Direct(spec)
    if kind == "search":
        return Search(spec)
    return Ours(spec)
