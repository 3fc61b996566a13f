"""Running a graph with its backend's own profiler, opened with the very settings that sayclip opens it with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions.backends import BACKENDS, ENGINES, open_graph, precisions, unavailable
from sayclip.sessions.base import Session
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.openvino import FLOATS, OpenVinoSession
from sayclip_benchmarks.profile.events import Event, Recording
from sayclip_benchmarks.profile.feeds import Feed

WARM = 3
"""Runs that are left out: the first ones make memory and choose kernels."""
_SUFFIX = "_kernel_time"
_MEANS = "operators' times are means, cut down to whole microseconds, in the order they run in"
_CUDA = "its times are the processor's, which starts the GPU's work and goes on"


def chosen(backend: str | None) -> list[str]:
    """The backends to profile: the one named, else all that compute on the processor and are here.

    Raises BackendError, in a line, for one that is unknown, has no profile here, or cannot run.
    """
    if backend is None:
        here = [one for one in ("onnxruntime", "openvino") if not unavailable(one)]
        if not here:
            raise BackendError("neither ONNX Runtime nor OpenVINO is here", "`pip install 'sayclip[cpu]'`")
        return here
    if backend not in BACKENDS:
        raise BackendError(f"there is no backend {backend!r}", f"use one of {', '.join(BACKENDS)}")
    if backend in ENGINES:
        raise BackendError(
            f"backend {backend!r} has no profile here", "profile onnxruntime or openvino, or use NVIDIA's trtexec"
        )
    if why := unavailable(backend):
        raise BackendError(f"backend {backend!r} cannot run here ({why})", "see `sayclip doctor`")
    return [backend]


def precision_for(manifest: Manifest, name: str, backend: str, precision: str | None) -> str:
    """The precision named, else the one that ``backend`` is quickest with. Raises BackendError."""
    graphs = manifest.entry(name).graphs
    if precision is None:
        at_home, others = precisions(backend)
        return next(one for one in (*at_home, *others, *graphs) if one in graphs)
    if precision not in graphs:
        raise BackendError(f"encoder {name!r} has no {precision!r} graph", f"use one of {', '.join(graphs)}")
    return precision


def record(
    manifest: Manifest,
    name: str,
    backend: str,
    precision: str,
    feeds: Sequence[Feed],
    *,
    runs: int,
    threads: int | None = None,
) -> Recording:
    """``runs`` runs without profiler and as many with it, on ``feeds`` in turn, after ``WARM`` more that are left out.

    Raises BackendError, BundleError, MissingDependencyError.
    """
    session = open_graph(manifest, name, precision, backend=backend, threads=threads)
    wall, _ = _timed(session, feeds, runs, lambda: None)
    session.close()
    path = manifest.path(manifest.entry(name).graphs[precision].file)
    openvino = backend in FLOATS
    profiled, events = (_openvino if openvino else _onnxruntime)(path, backend, session.threads, feeds, runs)
    note = {"onnxruntime-cuda": _CUDA, "onnxruntime": ""}.get(backend, _MEANS)
    shown = (backend, precision, session.provider, session.threads)
    return Recording(*shown, tuple(events), tuple(wall), tuple(profiled), real_starts=not openvino, note=note)


def _timed(
    session: Session, feeds: Sequence[Feed], runs: int, after: Callable[[], Any]
) -> tuple[list[float], list[Any]]:
    """Microseconds of each run after the first ``WARM``, and what ``after`` gave behind every run."""
    times, found = [], []
    for number in range(WARM + runs):
        feed = feeds[number % len(feeds)]
        started = time.perf_counter()
        session.run(feed)
        times.append(1e6 * (time.perf_counter() - started))
        found.append(after())
    return times[WARM:], found


def _onnxruntime(
    path: Path, backend: str, threads: int, feeds: Sequence[Feed], runs: int
) -> tuple[list[float], list[tuple[Event, ...]]]:
    with TemporaryDirectory() as folder:

        def configure(options: Any) -> None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")

        session = OnnxRuntimeSession(path, backend=backend, threads=threads, configure=configure)
        times, _ = _timed(session, feeds, runs, lambda: None)
        told = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        session.close()
    found = by_run(told)[WARM:]
    if len(found) != runs or not all(found):
        raise BackendError(
            f"ONNX Runtime's profile holds {len(found)} runs, wanted {runs}", "give fewer --runs, or report this"
        )
    return times, found


def by_run(told: Sequence[dict[str, Any]]) -> list[tuple[Event, ...]]:
    """The operators of every run in ONNX Runtime's profile, a list of Chrome's trace events."""
    nodes = [one for one in told if one.get("cat") == "Node" and str(one.get("name")).endswith(_SUFFIX)]
    spans = sorted((one["ts"], one["ts"] + one["dur"]) for one in told if one.get("name") == "model_run")
    return [
        tuple(_node(one, begin) for one in nodes if begin <= one["ts"] and one["ts"] + one["dur"] <= end + 1)
        for begin, end in spans
    ]


def _node(one: dict[str, Any], begin: int) -> Event:
    about = one["args"]
    name = str(one["name"]).removesuffix(_SUFFIX)
    dtype = next((str(key) for key in (about.get("input_type_shape") or [{}])[0]), "")
    kernel = " ".join(
        part for part in (str(about.get("provider", "")).removesuffix("ExecutionProvider"), dtype) if part
    )
    start, length = float(one["ts"] - begin), float(one["dur"])
    return Event(name, str(about.get("op_name", "?")), kernel, start, length, (name,))


def _openvino(
    path: Path, backend: str, threads: int, feeds: Sequence[Feed], runs: int
) -> tuple[list[float], list[tuple[Event, ...]]]:
    """One list of events: OpenVINO tells the mean of all runs so far, so that of the warm ones is taken off."""
    session = OpenVinoSession(path, backend=backend, threads=threads, settings={"PERF_COUNT": True})
    sources = session.made_of()
    times, told = _timed(session, feeds, runs, session.node_times)
    session.close()
    before, after = told[WARM - 1], told[-1]
    events: list[Event] = []
    at = 0.0
    for node, earlier in zip(after, before, strict=True):
        if node.status != type(node.status).EXECUTED:
            continue
        us = mean_us(_us(node), WARM + runs, _us(earlier), WARM)
        name = str(node.node_name)
        events.append(Event(name, str(node.node_type), str(node.exec_type), at, us, (name, *sources.get(name, ()))))
        at += us
    if not events:
        raise BackendError("OpenVINO told no operators of its runs", "profile onnxruntime instead, and report this")
    return times, [tuple(events)]


def mean_us(mean: float, count: int, earlier: float, before: int) -> float:
    """The mean of the runs after the first ``before``, from the means of all ``count`` and of those."""
    return max(0.0, (count * mean - before * earlier) / (count - before))


def _us(node: Any) -> float:
    return 1e6 * float(node.real_time.total_seconds())
