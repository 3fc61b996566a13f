"""A whole run of `sayclip bench`: every encoder, every candidate in a process of its own, one document."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from sayclip.bundle.manifest import Manifest
from sayclip.sessions.backends import graph_bytes
from sayclip.sessions.cpu import default_threads
from sayclip_benchmarks.host import energy, environment, state
from sayclip_benchmarks.host.energy import Meter
from sayclip_benchmarks.report.document import SCHEMA
from sayclip_benchmarks.suite import inputs, statistics, turns, vectors
from sayclip_benchmarks.suite.cases import Case, cases_of
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.plan import EAGER, Entrant, entrants, searches
from sayclip_benchmarks.suite.recall import REFERENCE, Accuracy
from sayclip_benchmarks.suite.scenarios import run_scenarios
from sayclip_benchmarks.suite.worker import OPENING_S, CandidateError, Worker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """``turns`` rounds of ``turn_s`` seconds; ``vectors`` that are searched; least seconds of a scenario.

    ``loadgen``: scenarios are driven by MLPerf's LoadGen, too.
    """

    turns: int = 7
    turn_s: float = 0.4
    vectors: int = 100_000
    scenario_s: float = 10.0
    quick: bool = False
    compiled: bool = True
    loadgen: bool = False
    encoders: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    """Candidates to time, by the beginning of their labels; all where empty."""


def measure(
    bundles: Sequence[Path],
    work: Path,
    sources: Sources,
    options: Options,
    say: Say,
    progress: turns.Progress,
    meters: Mapping[str, Meter] | None = None,
) -> dict[str, Any]:
    """Time everything; the document without ``command`` and ``cold``. Raises BundleError; what fails later is a row.

    ``meters`` of energy by device, as ``energy.open_meters`` gives them, which is asked where there are none.
    """
    manifests = [Manifest.read(bundle) for bundle in bundles]
    started, clock = datetime.now(timezone.utc), time.monotonic()
    meters = energy.open_meters() if meters is None else meters
    measured = energy.described(meters, energy.why_none())  # before anything else warms the machine
    before = state.snapshot()
    rows: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    described: dict[str, Any] = {}
    for manifest in manifests:
        accuracy = Accuracy(manifest, work, sources)
        for name in manifest.encoders:
            if options.encoders and name not in options.encoders:
                continue
            graphs = manifest.entry(name).graphs
            described[name] = {
                "graphs": {key: {"sha256": graph.sha256, "bytes": graph_bytes(graph)} for key, graph in graphs.items()}
            }
            part = _Encoder(manifest, name, work, sources, options, say, progress, meters, accuracy)
            more, scenarios = part.measured()
            rows += more
            found += scenarios
    first = manifests[0]
    if not options.encoders or "search" in options.encoders:
        rows += _searched(first, work, options, say, progress, meters)
    after = state.snapshot()
    throttled, notes = state.judge(before, after)
    return {
        "schema": SCHEMA,
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(time.monotonic() - clock, 1),
        "bundle": {
            "name": ", ".join(manifest.name for manifest in manifests),
            "space": first.space,
            "encoders": described,
        },
        "environment": environment.environment(),
        "state": {"start": before, "end": after, "throttled": throttled, "notes": notes},
        "method": {
            "turns": options.turns,
            "least_queries": turns.LEAST_RUNS * options.turns,
            "rest_s": turns.REST_S,
            "threads": default_threads(),
            "baseline": EAGER,
        },
        "energy": measured,
        "rows": rows,
        "scenarios": found,
    }


class _Encoder:
    def __init__(
        self,
        manifest: Manifest,
        name: str,
        work: Path,
        sources: Sources,
        options: Options,
        say: Say,
        progress: turns.Progress,
        meters: Mapping[str, Meter],
        accuracy: Accuracy,
    ) -> None:
        self._manifest, self._name, self._options = manifest, name, options
        self._say, self._progress = say, progress
        self._meters, self._accuracy = meters, accuracy
        self._cases = cases_of(name, quick=options.quick)
        self._made = {case.key: inputs.make(manifest, case, sources, work / "inputs" / name) for case in self._cases}
        database, array = vectors.library(work / "vectors", manifest.space, manifest.width, options.vectors)
        shared = {"library": str(database), "vectors": str(array), "work": str(work)}
        everyone = entrants(manifest, name, shared, compiled=options.compiled and not options.quick)
        self._entrants = [one for one in everyone if _wanted(one.label, options.only)]

    def measured(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        self._choose()
        workers, rows = opened(self._entrants, [self._name, self._cases[0].size, 1], self._say)
        try:
            for case in self._cases:
                rows += self._case(
                    case, {one.label: workers[one.label] for one in self._entrants if _does(one, case, workers)}
                )
            chosen = {label: workers[label] for label in ("auto", EAGER) if label in workers}
            options = self._options
            scenarios = run_scenarios(
                self._cases, self._made, chosen, options.scenario_s, quick=options.quick, loadgen=options.loadgen
            )
        finally:
            ended = {label: worker.quit() for label, worker in workers.items()}
        _remember(rows, ended)
        return rows, scenarios

    def _choose(self) -> None:
        """Let ``auto`` choose while nothing else runs, and remember it, so that its process holds one graph."""
        script = "import sys, sayclip; sayclip.load(sys.argv[1]).open(sys.argv[2])"
        command = [sys.executable, "-c", script, str(self._manifest.folder), self._name]
        subprocess.run(command, capture_output=True, check=False, timeout=OPENING_S)

    def _case(self, case: Case, workers: Mapping[str, Worker]) -> list[dict[str, Any]]:
        made = self._made[case.key]
        options = self._options
        timings = turns.in_turns(case, made, workers, options.turns, options.turn_s, self._progress, self._meters)
        accuracy = {}
        if case.what == "session" and case.batch == 1:
            sizes = {one.size for one in self._cases if one.what == "query"}
            accuracy = self._accuracy.of(case, made, workers, recall=not sizes or case.size in sizes)
        return rows_of(case, {one.label: one for one in self._entrants}, workers, timings, accuracy)


def _remember(rows: Sequence[dict[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
    """Peak memory of each candidate's process, said when it ended."""
    for row in rows:
        if row["status"] == "ok":
            row |= {key: ended[row["candidate"]].get(key) for key in ("rss_bytes", "gpu_bytes")}


def _wanted(label: str, only: Sequence[str]) -> bool:
    return not only or label in (EAGER, REFERENCE) or any(label.startswith(beginning) for beginning in only)


def _does(entrant: Entrant, case: Case, workers: Mapping[str, Worker]) -> bool:
    return entrant.label in workers and case.what in entrant.whats


def opened(
    everyone: Sequence[Entrant], where: Sequence[Any], say: Say
) -> tuple[dict[str, Worker], list[dict[str, Any]]]:
    """A warm process for each that can run, and a row for each that cannot."""
    workers: dict[str, Worker] = {}
    rows = []
    for entrant in everyone:
        why, status = entrant.missing, "missing"
        if not why:
            try:
                workers[entrant.label] = Worker(entrant.spec, python=entrant.python or sys.executable)
                continue
            except CandidateError as error:
                why, status = error.problem, "failed"
        rows.append(
            {
                "what": "search" if "search" in entrant.whats else "session",
                "encoder": where[0],
                "batch": where[2],
                "size": where[1],
                "amount": 0.0,
                "candidate": entrant.label,
                "kind": entrant.kind,
                "status": status,
                "why": why,
                "timed": "",
            }
        )
        if status == "failed":
            say(f"{entrant.label} cannot be timed: {why}")
    return workers, rows


def rows_of(
    case: Case,
    known: Mapping[str, Entrant],
    workers: Mapping[str, Worker],
    timings: Mapping[str, turns.Timing],
    accuracy: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """A row for each candidate of one case; speed-ups are over eager PyTorch, where that was timed."""
    base = timings.get(EAGER)
    rows = []
    for label, timing in timings.items():
        row: dict[str, Any] = {
            "what": case.what,
            "encoder": case.encoder,
            "batch": case.batch,
            "size": case.size,
            "amount": float(case.amount),
            "candidate": label,
            "kind": known[label].kind,
            "status": "failed" if timing.error else "ok",
            "why": timing.error,
            "timed": case.timed,
        }
        rows.append(row)
        if timing.error:
            continue
        row |= statistics.summary(timing.turns, case.batch)
        row |= {"speedup": None, "speedup_ci": None, "cosine": None, "recall_change": None, **accuracy.get(label, {})}
        if base is not None and not base.error:
            row["speedup"], row["speedup_ci"] = statistics.speedup(base.turns, timing.turns)
        row |= {"rss_bytes": None, "gpu_bytes": None, "model_bytes": workers[label].model_bytes}
        row["joules"] = statistics.joules(timing.joules, timing.turns, case.batch)
        if label == "auto":
            row["chosen"] = workers[label].label
    return rows


def _searched(
    manifest: Manifest,
    work: Path,
    options: Options,
    say: Say,
    progress: turns.Progress,
    meters: Mapping[str, Meter],
) -> list[dict[str, Any]]:
    database, array = vectors.library(work / "vectors", manifest.space, manifest.width, options.vectors)
    case = Case("search", "", f"{options.vectors:,} vectors", float(options.vectors))
    made = {"arrays": str(work / "inputs" / "queries.npz")}
    Path(made["arrays"]).parent.mkdir(parents=True, exist_ok=True)
    queries = vectors.vectors(inputs.ROTATE, manifest.width, seed=0)
    np.savez(made["arrays"], **{f"{number}.wave": row for number, row in enumerate(queries)})
    everyone = [
        one for one in searches({"library": str(database), "vectors": str(array)}) if _wanted(one.label, options.only)
    ]
    workers, rows = opened(everyone, [None, case.size, 1], say)
    try:
        timings = turns.in_turns(case, made, workers, options.turns, options.turn_s / 2, progress, meters)
        rows += rows_of(case, {one.label: one for one in everyone}, workers, timings, {})
    finally:
        ended = {label: worker.quit() for label, worker in workers.items()}
    _remember(rows, ended)
    base = next((row for row in rows if row["candidate"] == "numpy fp32" and row["status"] == "ok"), None)
    for row in rows:
        row["encoder"] = None
        if row["status"] == "ok":
            row["speedup"] = base["p50_ms"] / row["p50_ms"] if base else None
    return rows
