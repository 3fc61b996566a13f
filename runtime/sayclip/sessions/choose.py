"""Which backend and which precision runs an encoder on this machine, and the record of why.

A backend or precision asked for by name is that one or an error. Where that leaves a choice, every candidate that meets
the bundle's reference outputs is timed, and the quickest is taken (``contest``). What came of it is remembered in the
user's cache by graphs, backends, processor and threads, so that it is found out once.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sayclip.bundle.entries import EncoderEntry
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import Memo
from sayclip.errors import BackendError, BundleError, MissingDependencyError
from sayclip.sessions import backends, contest, cpu, measure
from sayclip.sessions.backends import BACKENDS, ENGINES, PREFERRED
from sayclip.sessions.base import Session
from sayclip.sessions.contest import Attempt

AUTO = "auto"
# Two contests at once would only measure each other.
_MEASURING = threading.Lock()
# What tells cheaply that a GPU came or went: a desktop's, and a Jetson's.
_GPUS = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")


@dataclass(frozen=True)
class Request:
    """What the caller asked for; ``threads`` None means as many as this process may use.

    ``again``: measure, even where it is remembered what came of it before.
    """

    backend: str = AUTO
    precision: str = AUTO
    threads: int | None = None
    again: bool = False

    def __post_init__(self) -> None:
        if self.backend != AUTO and self.backend not in BACKENDS:
            raise BackendError(f"there is no backend {self.backend!r}", f"use one of {', '.join((AUTO, *BACKENDS))}")
        whole = isinstance(self.threads, int) and not isinstance(self.threads, bool)
        if self.threads is not None and not (whole and 1 <= self.threads <= 1024):
            raise BackendError(
                f"threads is {self.threads!r}, wanted 1 to 1024", "leave it out to use as many as this process may"
            )


@dataclass(frozen=True)
class Choice:
    """What runs an encoder, and all candidates: the one used, the others by speed, and those that could not be used."""

    backend: str
    precision: str
    provider: str
    threads: int
    attempts: tuple[Attempt, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "attempts": [asdict(attempt) for attempt in self.attempts]}


def candidates(manifest: Manifest, name: str, request: Request) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(backend, precision) pairs, preferred first: those worth measuring, and those for want of anything better.

    Raises BundleError for a precision that the bundle lacks or where none may be used, MissingDependencyError where
    no backend is installed.
    """
    entry = manifest.entry(name)
    allowed = _allowed(entry, name, request)
    chosen = [request.backend]
    if request.backend == AUTO:
        reasons = {backend: backends.unavailable(backend) for backend in PREFERRED}
        chosen = [backend for backend in PREFERRED if not reasons[backend]]
        if not chosen:
            raise MissingDependencyError(f"nothing here can run {name!r} ({reasons['onnxruntime']})", _INSTALL)
    tiers: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for backend in chosen:
        wanted = backends.precisions(backend)
        if request.precision != AUTO:
            # Elsewhere than where it is at home only for want of anything better.
            wanted = ([request.precision], []) if request.precision in wanted[0] else ([], [request.precision])
        for tier, precisions in zip(tiers, wanted, strict=True):
            there = [precision for precision in precisions if precision in allowed]
            ready = [one for one in there if backends.has_engine(manifest, name, one, backend)]
            if request.backend in ENGINES and not ready:
                ready = there[:1]  # opening it says what is missing
            tier += [(backend, precision) for precision in ready]
    if not any(tiers):
        raise BundleError(
            f"encoder {name!r} has {', '.join(entry.graphs)} graphs, precision='auto' uses none of them on "
            f"{', '.join(chosen)}",
            "name the precision to use",
        )
    return tiers


def open_session(manifest: Manifest, name: str, request: Request) -> tuple[Session, Choice]:
    """A session for the encoder ``name`` as ``request`` asks, checked against the bundle's reference outputs.

    Raises BundleError, BackendError, MissingDependencyError.
    """
    fixed = AUTO not in (request.backend, request.precision)
    key = "" if fixed else _memory_key(manifest, name, request)
    if key and not request.again and (opened := _open_remembered(manifest, name, request, key)):
        return opened
    with _MEASURING:
        # Another thread may have found it out while this one waited.
        if key and not request.again and (opened := _open_remembered(manifest, name, request, key)):
            return opened
        session, attempts = _find_out(manifest, name, request)
        backends.keep_compiled(session, manifest, name, attempts[0].precision)
        if key:
            attempts += _missed_gates(manifest.entry(name), request)
            _memo().put({key: {"attempts": [asdict(attempt) for attempt in attempts]}})
    return session, _choice(session, attempts)


def _find_out(manifest: Manifest, name: str, request: Request) -> tuple[Session, list[Attempt]]:
    tiers = candidates(manifest, name, request)
    if sum(map(len, tiers)) == 1:
        [(backend, precision)] = [pair for tier in tiers for pair in tier]
        session, verdict = contest.open_checked(
            manifest, name, backend, precision, request.threads, again=request.again
        )
        return session, [contest.checked(backend, precision, verdict)]
    attempts: list[Attempt] = []
    for tier in filter(None, tiers):
        winner, tried = contest.Contest(manifest, name, tier, request.threads, request.again).hold()
        attempts = [*tried, *attempts]
        if winner is not None:
            return winner, attempts
    told = "; ".join(f"{attempt.backend} {attempt.precision}: {attempt.reason}" for attempt in attempts)
    raise BackendError(f"nothing runs the encoder {name!r} here ({told})", "see `sayclip doctor`")


def _memo() -> Memo:
    return Memo("choices", limit=200)


def _open_remembered(manifest: Manifest, name: str, request: Request, key: str) -> tuple[Session, Choice] | None:
    attempts = _remembered(_memo().get(key))
    if not attempts:
        return None
    used = attempts[0]
    try:
        session = backends.open_graph(manifest, name, used.precision, backend=used.backend, threads=request.threads)
    except (BackendError, MissingDependencyError):
        return None  # something changed that the key does not tell of
    backends.keep_compiled(session, manifest, name, used.precision)
    return session, _choice(session, attempts)


def _remembered(fact: dict[str, Any] | None) -> list[Attempt]:
    """The attempts of an earlier contest, the winner's first; none where there are none, or none to be believed."""
    try:
        attempts = [Attempt.from_dict(one) for one in (fact or {})["attempts"]]
    except (KeyError, TypeError, ValueError):
        return []
    return attempts if [attempt.used for attempt in attempts] == [True] + [False] * (len(attempts) - 1) else []


def _choice(session: Session, attempts: list[Attempt]) -> Choice:
    return Choice(attempts[0].backend, attempts[0].precision, session.provider, session.threads, tuple(attempts))


def _allowed(entry: EncoderEntry, name: str, request: Request) -> list[str]:
    """Precisions that may run: the one asked for, or all but those that missed their gate."""
    if request.precision == AUTO:
        return [precision for precision in entry.graphs if _passed_gate(entry, precision)]
    if request.precision not in entry.graphs:
        raise BundleError(
            f"encoder {name!r} has no {request.precision!r} graph, it has {', '.join(entry.graphs)}",
            "use one of these, or precision='auto'",
        )
    return [request.precision]


def _passed_gate(entry: EncoderEntry, precision: str) -> bool:
    """Whether calibration found the graph accurate enough; it can have been told to write it all the same."""
    found: Any = entry.measured
    for key in ("gates", "int8" if precision == "int8-u8" else precision):
        found = found.get(key) if isinstance(found, Mapping) else None
    return not isinstance(found, Mapping) or found.get("passed", True) is True


def _missed_gates(entry: EncoderEntry, request: Request) -> list[Attempt]:
    """What was left out because of its gate."""
    if request.precision != AUTO:
        return []
    reason = "it missed its gates when it was calibrated, and was written by force: name the precision to use it"
    return [Attempt(request.backend, one, False, reason) for one in entry.graphs if not _passed_gate(entry, one)]


def _memory_key(manifest: Manifest, name: str, request: Request) -> str:
    """Everything that a choice depends on, found out without loading a library."""
    entry = manifest.entry(name)
    graphs = {
        precision: [backends.graph_hash(graph), entry.reference.tolerance[precision], _passed_gate(entry, precision)]
        for precision, graph in entry.graphs.items()
    }
    installed = [
        backends.identity(manifest, name, precision, backend)
        for backend in BACKENDS
        for precision in (entry.graphs if backend in ENGINES else (request.precision,))
    ]
    machine = [cpu.model(), request.threads or cpu.default_threads(), [path for path in _GPUS if os.path.exists(path)]]
    asked = [request.backend, request.precision]
    facts = [measure.METHOD, name, graphs, entry.reference.sha256, installed, machine, *asked]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


_INSTALL = "`pip install 'sayclip[cpu]'`"
