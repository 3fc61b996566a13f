"""Cold starts: from the start of a fresh process to the first spoken result, beside PyTorch doing the same.

Every start is a process of its own, the candidates take turns, and before any is timed each starts once: so files are
in the system's cache, and what sayclip remembers between starts (what ``auto`` chose, compiled graphs) is there.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sayclip
from sayclip.bundle.find import find_bundle
from sayclip.errors import InputError
from sayclip.sessions import backends
from sayclip.sessions.choose import AUTO
from sayclip.sessions.cpu import default_threads
from sayclip_benchmarks.cold import starting
from sayclip_benchmarks.demo.data import Demo

WHAT = "spoken query over the demo library"
LIMIT_S = 120.0
PREPARING_S = 600.0
_ALWAYS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Candidate:
    """``kind`` is sayclip, on ``backend``, or torch. ``missing``: why it cannot run, where that is known."""

    kind: str
    backend: str = ""
    missing: str = ""

    @property
    def label(self) -> str:
        return "torch fp32" if self.kind == "torch" else self.backend


def all_candidates() -> list[Candidate]:
    """``auto``, every backend that is here (those of the processor in any case), and PyTorch."""
    found = [Candidate("sayclip", AUTO)]
    for backend in backends.BACKENDS:
        why = backends.unavailable(backend)
        if not why or backend in _ALWAYS:
            found.append(Candidate("sayclip", backend, why))
    there = all(importlib.util.find_spec(name) is not None for name in ("torch", "sayclip_export"))
    return [*found, Candidate("torch", missing="" if there else "PyTorch is not installed")]


def over_demo(demo: Demo, work: Path, runs: int = 5, limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
    """``starts`` of the demo's bundle over all of its pictures, whose library is made under ``work`` and kept there."""
    bundle = demo.folder / "bundle"
    recording = min((demo.folder / "queries").glob("*.wav"), default=None)
    if recording is None:
        raise InputError(f"{demo.folder} holds no queries/*.wav", "name the folder of the demo package")
    return starts(bundle, demo_library(demo, work), recording, runs, limit_s=limit_s)


def demo_library(demo: Demo, work: Path) -> Path:
    """The library of the demo's pictures, under a name that holds which graph embedded them. Raises SayclipError."""
    with sayclip.load(demo.folder / "bundle") as encoder:
        path = work / f"demo-{encoder.graph_sha256('image')[:12]}-{len(demo.pictures)}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        with sayclip.Library.open_or_create(path, encoder) as library:
            library.add_many(list(demo.pictures))  # what is there already is passed over
    return path


def starts(
    bundle: Path | None,
    library: Path,
    recording: Path,
    runs: int,
    candidates: Sequence[Candidate] | None = None,
    limit_s: float = LIMIT_S,
) -> list[dict[str, Any]]:
    """One record a candidate (``report.document``, ``cold``): medians of ``runs`` starts, in seconds.

    ``import_s`` begins when the process is asked for, so it holds the interpreter's own start; ``load_s`` ends with
    graph and library open, ``first_s`` with the first result, and ``total_s`` is their sum. ``steady_s`` is what a
    later result takes. ``bundle`` None is the one that ``sayclip.load()`` takes. A start that takes longer than
    ``limit_s`` is ended, and its candidate is a record that says so. Raises InputError for ``runs`` below 1.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}, wanted at least 1", "give 5")
    folder = find_bundle(bundle)
    with tempfile.TemporaryDirectory(prefix="sayclip-cold-") as scratch:
        everyone = [
            _Starter(candidate, folder, library, recording, Path(scratch), limit_s)
            for candidate in (all_candidates() if candidates is None else candidates)
        ]
        return starting.in_turns(everyone, runs)


class _Starter(starting.Starter):
    def __init__(
        self, candidate: Candidate, bundle: Path, library: Path, recording: Path, scratch: Path, limit_s: float
    ) -> None:
        super().__init__(candidate.label, WHAT, candidate.missing)
        self._candidate, self._limit_s = candidate, limit_s
        self._bundle, self._library, self._recording, self._scratch = bundle, library, recording, scratch
        self._variables = starting.environment(scratch / "bytecode")
        self._module: dict[str, Any] = {}

    def name(self) -> str:
        if self._candidate.kind == "torch" and self._module:
            return self.label + ("" if self._module["same"] else ", random weights")
        if not self.seen:
            return self.label
        name = starting.ours(self.seen[-1], self.cached)
        return f"auto ({name})" if self._candidate.backend == AUTO else name

    def ask(self) -> dict[str, Any]:
        if self._candidate.kind == "torch":
            if not self._module:
                places = [str(self._bundle), str(self._recording), str(self._scratch)]
                self._module = starting.answer(["prepare", *places], PREPARING_S, self._variables)
            query, weights = self._scratch / "query.wav", self._scratch / "module.pt"
            more = [str(self._library), str(query), self._module["module"], str(weights), str(default_threads())]
        else:
            more = [str(self._library), str(self._recording), str(self._bundle), self._candidate.backend]
        asked = [self._candidate.kind, repr(time.monotonic()), *more]
        return starting.answer(asked, self._limit_s, self._variables)
