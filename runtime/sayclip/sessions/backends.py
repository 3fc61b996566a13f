"""The backends there are, whether each can run here, and how a graph of a bundle is opened on it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import GraphEntry
from sayclip.bundle.fields import refuse
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import cache_folder
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions import compiled, cpu
from sayclip.sessions.base import Session
from sayclip.sessions.onnxruntime import PROVIDERS, OnnxRuntimeSession, import_onnxruntime
from sayclip.sessions.openvino import FLOATS, OpenVinoSession, import_openvino, multiplies_bfloat16
from sayclip.sessions.reference import check

ENGINES = ("tensorrt", "tensorrt_rtx")
"""Backends that run what ``sayclip build`` made, and nothing else."""
BACKENDS = ("onnxruntime", "onnxruntime-cuda", *FLOATS, *ENGINES)
PREFERRED = (*ENGINES, "onnxruntime-cuda", "onnxruntime", *FLOATS)
"""The same, with the one first that wins where they are equally fast: ONNX Runtime starts sooner than OpenVINO."""

SMALL_BYTES = 4_000_000
"""A smaller graph runs on one thread where nobody says otherwise: it is done before a second thread is awake."""


def unavailable(backend: str) -> str:
    """Why ``backend`` cannot run here, in a few words; empty when it can as far as is known before it tries."""
    try:
        if backend in ENGINES:
            from sayclip.sessions import tensorrt

            return tensorrt.unavailable(backend)
        if backend in FLOATS:
            import_openvino()
            if FLOATS[backend] == "bf16" and not multiplies_bfloat16():
                return "this processor has no instructions for bfloat16"
            return ""
        there = import_onnxruntime().get_available_providers()
    except MissingDependencyError as error:
        return error.problem
    wanted = PROVIDERS[backend]
    return "" if wanted in there else f"this onnxruntime has no {wanted}"


def precisions(backend: str) -> tuple[list[str], list[str]]:
    """Precisions for ``backend`` on this machine's processor: those worth measuring, and the last resorts.

    ``int8`` and ``int8-u8`` are the same numbers, and each backend is quick with one of them: ONNX Runtime on x86 with
    unsigned activations, all others with signed ones.
    """
    if backend in ENGINES:
        return ["int8", "fp16", "fp32"], []
    if backend == "onnxruntime-cuda":
        return ["fp16", "fp32"], ["int8", "int8-u8"]
    if backend == "openvino":
        return ["int8", "fp32"], ["fp16", "int8-u8"]
    if backend in FLOATS:  # bfloat16 is as far from fp32 as what these two precisions allow
        return ["int8", "fp16"], ["int8-u8"]
    if cpu.is_arm():
        return ["int8", "fp32", "fp16"], ["int8-u8"]
    return ["int8-u8", "fp32"], ["int8", "fp16"]


def has_engine(manifest: Manifest, name: str, precision: str, backend: str) -> bool:
    """Whether ``backend`` has what it needs to run the graph: an engine, where it runs those; nothing is built."""
    if backend not in ENGINES:
        return True
    from sayclip.sessions import tensorrt

    return tensorrt.has_engine(manifest, name, precision, backend)


def identity(manifest: Manifest, name: str, precision: str, backend: str) -> list[Any]:
    """What decides how well ``backend`` runs the graph, besides the machine: its version, or the engines' hashes.

    Found out without importing a library, which takes longer than loading what was chosen before. Never raises.
    """
    if backend not in ENGINES:
        return _installation(backend.partition("-")[0])
    if not ((cache_folder() or Path()) / "engines" / backend).is_dir():
        return []
    from sayclip.sessions.tensorrt.engines import find

    try:
        return sorted(entry.sha256 for entry in find(manifest, name, precision, backend).values())
    except Exception:  # no driver, no library: then there is nothing that it would run
        return []


def _installation(package: str) -> list[int]:
    """What changes when ``package`` is installed, upgraded or removed."""
    try:
        spec = importlib.util.find_spec(package)
        status = os.stat(spec.origin) if spec is not None and spec.origin else None
    except (ImportError, ValueError, OSError):
        return []
    return [] if status is None else [status.st_mtime_ns, status.st_ino, status.st_size]


def graph_hash(graph: GraphEntry) -> str:
    """One hash of a graph and its external weights."""
    return hashlib.sha256(json.dumps([graph.sha256, *(file.sha256 for file in graph.data)]).encode()).hexdigest()


def graph_bytes(graph: GraphEntry) -> int:
    """The size of a graph with its external weights."""
    return graph.bytes + sum(file.bytes for file in graph.data)


def open_graph(
    manifest: Manifest, name: str, precision: str, *, backend: str = "onnxruntime", threads: int | None = None
) -> Session:
    """A session for one graph of the bundle, unchecked but for its signature.

    Raises BundleError, BackendError, MissingDependencyError.
    """
    graph = manifest.entry(name).graphs[precision]
    session: Session
    if backend in ENGINES:
        from sayclip.sessions import tensorrt

        session = tensorrt.open_engine(manifest, name, precision, backend)
    elif backend in FLOATS:
        key = graph_hash(graph) if graph_bytes(graph) <= compiled.LARGEST_BYTES else ""
        session = OpenVinoSession(manifest.path(graph.file), backend=backend, threads=threads, key=key)
    else:
        threads = 1 if threads is None and graph_bytes(graph) < SMALL_BYTES else threads
        session = OnnxRuntimeSession(manifest.path(graph.file), backend=backend, threads=threads)
    for kind, seen, wanted in (
        ("inputs", session.signature.inputs, graph.inputs),
        ("outputs", session.signature.outputs, graph.outputs),
    ):
        names = sorted((tensor.name, tensor.dtype) for tensor in seen)
        if names != sorted((tensor.name, tensor.dtype) for tensor in wanted):
            session.close()
            raise refuse(f"{graph.file} has the {kind} {names}, the manifest says otherwise")
    return session


def keep_compiled(session: Session, manifest: Manifest, name: str, precision: str) -> None:
    """Let the next start find what was compiled for this session, where its backend compiles.

    What was stored is loaded once and held against the reference outputs, as the session was. Raises BundleError.
    """
    if not isinstance(session, OpenVinoSession) or not session.keep():
        return
    passed = False
    try:
        again = open_graph(manifest, name, precision, backend=session.backend, threads=session.threads)
        passed = check(again, manifest, name, precision).passed
        again.close()
    except BackendError:
        pass
    if not passed:
        session.forget()
