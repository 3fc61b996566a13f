"""Candidates in turns: each runs a little, then the next, again and again, so that what disturbs one disturbs all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sayclip_benchmarks.host.energy import SHORTEST_S, Joules, Meter
from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.inputs import ROTATE
from sayclip_benchmarks.suite.worker import CandidateError, Worker

REST_S = 0.05  # threads of the candidate before, PyTorch's above all, spin on for a while
LEAST_RUNS, LEAST_BATCHES, MOST_RUNS = 4, 2, 60
METERED_RUNS = 20_000  # at most, where energy is measured: a turn of 60 quick runs is over before a meter has moved
Progress = Callable[[str, int, "int | None"], None]


@dataclass
class Timing:
    """Milliseconds by turn, and joules of each turn (None: not measured); ``error``: how the candidate failed."""

    turns: list[list[float]] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)
    error: str = ""


def in_turns(
    case: Case,
    inputs: Mapping[str, Any],
    workers: Mapping[str, Worker],
    turns: int,
    turn_s: float,
    progress: Progress,
    meters: Mapping[str, Meter] | None = None,
) -> dict[str, Timing]:
    """Time ``case`` on every worker: ``turns`` rounds of about ``turn_s`` seconds each.

    At least ``LEAST_RUNS`` runs a round, of batches ``LEAST_BATCHES``. Inputs are run once before, untimed. Each round
    has an order of its own, so that nobody always follows the same one. ``meters``: by device, what measures energy.
    """
    told, least = case.to_dict(), LEAST_RUNS if case.batch == 1 else LEAST_BATCHES
    found = {label: Timing() for label in workers}
    meter = {label: (meters or {}).get(device_of(worker)) for label, worker in workers.items()}
    counts: dict[str, int] = {}
    for label, worker in workers.items():
        try:
            worker.run(told, inputs, list(range(ROTATE if case.batch == 1 else 1)))
            once = sorted(worker.run(told, inputs, list(range(2))))[0] / 1000.0
            most = MOST_RUNS if meter[label] is None else METERED_RUNS
            counts[label] = max(least, min(most, round(turn_s / max(once, 1e-6))))
        except CandidateError as error:
            found[label].error = error.problem
    labels = [label for label in workers if label in counts]
    for turn in range(turns):
        for label in np.random.default_rng(turn).permutation(labels).tolist():
            if found[label].error:
                continue
            time.sleep(REST_S)
            order = [(turn + number) % ROTATE for number in range(counts[label])]
            try:
                with _metered(meter[label]) as joules:
                    times = workers[label].run(told, inputs, order)
                found[label].turns.append(times)
                found[label].joules.append(joules() if sum(times) >= 1000.0 * SHORTEST_S else None)
            except CandidateError as error:
                found[label].error = error.problem
        progress(f"{case.encoder} {case.what} {case.size}".strip(), turn + 1, turns)
    return found


def device_of(worker: Worker) -> str:
    """``cuda`` where the candidate's graph runs on a GPU, else ``cpu``."""
    gpu = worker.label.startswith(("tensorrt", "onnxruntime-cuda")) or worker.spec.get("device") == "cuda"
    return "cuda" if gpu else "cpu"


@contextlib.contextmanager
def _metered(meter: Meter | None) -> Iterator[Joules]:
    if meter is None:
        yield lambda: None
        return
    with meter.measure() as joules:
        yield joules
