"""Which backend and which precision runs an encoder on this machine, and the record of why.

A backend or precision asked for by name is that one or an error. ``auto`` tries candidates in order of speed, takes
the first that works and meets the bundle's reference outputs, and writes down what it passed over. What was measured
is remembered in the user's cache by graph, backend version and processor, so that it is measured once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from sayclip.bundle.entries import EncoderEntry, GraphEntry
from sayclip.bundle.fields import refuse
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import Memo
from sayclip.errors import BackendError, BundleError
from sayclip.sessions import cpu
from sayclip.sessions.base import Session
from sayclip.sessions.onnxruntime import PROVIDERS, OnnxRuntimeSession, import_onnxruntime
from sayclip.sessions.reference import Verdict, check

AUTO = "auto"


@dataclass(frozen=True)
class Request:
    """What the caller asked for; ``threads`` None means as many as this process may use."""

    backend: str = AUTO
    precision: str = AUTO
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.backend != AUTO and self.backend not in PROVIDERS:
            raise BackendError(f"there is no backend {self.backend!r}", f"use one of {', '.join((AUTO, *PROVIDERS))}")
        whole = isinstance(self.threads, int) and not isinstance(self.threads, bool)
        if self.threads is not None and not (whole and 1 <= self.threads <= 1024):
            raise BackendError(
                f"threads is {self.threads!r}, wanted 1 to 1024", "leave it out to use as many as this process may"
            )


@dataclass(frozen=True)
class Attempt:
    """One candidate and what became of it."""

    backend: str
    precision: str
    used: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """What runs an encoder, and every candidate that was tried for it, in order."""

    backend: str
    precision: str
    provider: str
    threads: int
    attempts: tuple[Attempt, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "attempts": [asdict(attempt) for attempt in self.attempts]}


def preferred_precisions(backend: str) -> list[str]:
    """Precisions from the one to try first to the last resort, for ``backend`` on this machine's processor."""
    if backend == "onnxruntime-cuda":
        return ["fp16", "fp32", "int8", "int8-u8"]
    if cpu.is_arm():
        return ["int8", "fp32", "int8-u8", "fp16"]
    # ONNX Runtime on x86 is fast with unsigned activations and slow with the signed master.
    return ["int8-u8", "fp32", "int8", "fp16"]


def candidates(entry: EncoderEntry, request: Request, name: str) -> list[tuple[str, str]]:
    """(backend, precision) pairs to try, best first. Raises BundleError for a precision that is not in the bundle."""
    if request.precision != AUTO and request.precision not in entry.graphs:
        raise BundleError(
            f"encoder {name!r} has no {request.precision!r} graph, it has {', '.join(entry.graphs)}",
            "use one of these, or precision='auto'",
        )
    backends = [request.backend]
    if request.backend == AUTO:
        cuda = PROVIDERS["onnxruntime-cuda"] in import_onnxruntime().get_available_providers()
        backends = (["onnxruntime-cuda"] if cuda else []) + ["onnxruntime"]
    found: list[tuple[str, str]] = []
    order: list[str] = []
    for backend in backends:
        order = preferred_precisions(backend) if request.precision == AUTO else [request.precision]
        found += [(backend, precision) for precision in order if precision in entry.graphs]
    if not found:
        raise BundleError(
            f"encoder {name!r} has {', '.join(entry.graphs)} graphs, precision='auto' knows {', '.join(order)}",
            "name the precision to use",
        )
    return found


def open_session(manifest: Manifest, name: str, request: Request) -> tuple[Session, Choice]:
    """A session for the encoder ``name`` as ``request`` asks, checked against the bundle's reference outputs.

    Raises BundleError, BackendError, MissingDependencyError.
    """
    entry = manifest.entry(name)
    attempts: list[Attempt] = []
    last: BackendError | BundleError | None = None
    for backend, precision in candidates(entry, request, name):
        try:
            session, verdict = _open_checked(manifest, name, backend, precision, request.threads)
        except BackendError as error:
            last = error
            attempts.append(Attempt(backend, precision, False, error.problem))
            continue
        attempts.append(Attempt(backend, precision, True, str(verdict)))
        return session, Choice(backend, precision, session.provider, session.threads, tuple(attempts))
    if last is not None and len(attempts) == 1:
        raise last
    tried = "; ".join(f"{attempt.backend} {attempt.precision}: {attempt.reason}" for attempt in attempts)
    raise BackendError(f"nothing runs the encoder {name!r} here ({tried})", "see `sayclip doctor`")


def _open_checked(
    manifest: Manifest, name: str, backend: str, precision: str, threads: int | None
) -> tuple[OnnxRuntimeSession, Verdict]:
    graph = manifest.entry(name).graphs[precision]
    memo, key = Memo("checks", limit=500), _memory_key(manifest.entry(name), graph, precision, backend)
    verdict = _remembered(memo.get(key))
    if verdict is not None and not verdict.passed:
        raise _fails(name, precision, backend, verdict)
    session = open_graph(manifest, name, precision, backend=backend, threads=threads)
    if verdict is None:
        verdict = check(session, manifest, name, precision)
        memo.put({key: asdict(verdict)})
    if not verdict.passed:
        session.close()
        raise _fails(name, precision, backend, verdict)
    return session, verdict


def open_graph(
    manifest: Manifest, name: str, precision: str, *, backend: str = "onnxruntime", threads: int | None = None
) -> OnnxRuntimeSession:
    """A session for one graph of the bundle, unchecked but for its signature. Raises BundleError, BackendError."""
    graph = manifest.entry(name).graphs[precision]
    # Pictures come in bulk and in one size, so memory kept between batches pays; elsewhere it only stays at its peak.
    session = OnnxRuntimeSession(manifest.path(graph.file), backend=backend, threads=threads, arena=name == "image")
    for kind, seen, wanted in (
        ("inputs", session.signature.inputs, graph.inputs),
        ("outputs", session.signature.outputs, graph.outputs),
    ):
        names = sorted((tensor.name, tensor.dtype) for tensor in seen)
        if names != sorted((tensor.name, tensor.dtype) for tensor in wanted):
            session.close()
            raise refuse(f"{graph.file} has the {kind} {names}, the manifest says otherwise")
    return session


def _fails(name: str, precision: str, backend: str, verdict: Verdict) -> BackendError:
    return BackendError(
        f"the {precision} graph of {name!r} is not accurate on {backend} here ({verdict})",
        "use precision='auto' or another one (int8-u8 needs a processor with VNNI)",
    )


def _memory_key(entry: EncoderEntry, graph: GraphEntry, precision: str, backend: str) -> str:
    facts = [
        [graph.sha256, *(file.sha256 for file in graph.data)],
        [entry.reference.sha256, entry.reference.tolerance[precision]],
        [backend, import_onnxruntime().__version__, cpu.model()],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _remembered(fact: dict[str, Any] | None) -> Verdict | None:
    if fact is None:
        return None
    try:
        return Verdict(str(fact["measure"]), float(fact["value"]), float(fact["tolerance"]))
    except (KeyError, TypeError, ValueError):
        return None
