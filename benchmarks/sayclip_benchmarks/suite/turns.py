"""Candidates in turns: each runs a little, then the next, again and again, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.inputs import ROTATE
from sayclip_benchmarks.suite.worker import CandidateError, Worker

REST_S = 0.05  # threads of the candidate before, PyTorch's above all, spin on for a while
LEAST_RUNS, LEAST_BATCHES, MOST_RUNS = 4, 2, 60
Progress = Callable[[str, int, "int | None"], None]


@dataclass
class Timing:
    """Milliseconds by turn; ``error`` where the candidate failed on the way."""

    turns: list[list[float]] = field(default_factory=list)
    error: str = ""


def in_turns(
    case: Case,
    inputs: Mapping[str, Any],
    workers: Mapping[str, Worker],
    turns: int,
    turn_s: float,
    progress: Progress,
) -> dict[str, Timing]:
    """Time ``case`` on every worker: ``turns`` rounds of about ``turn_s`` seconds each.

    At least ``LEAST_RUNS`` runs a round, of batches ``LEAST_BATCHES``. Inputs are run once before, untimed. Each round
    begins with another worker.
    """
    told, least = case.to_dict(), LEAST_RUNS if case.batch == 1 else LEAST_BATCHES
    found = {label: Timing() for label in workers}
    counts: dict[str, int] = {}
    for label, worker in workers.items():
        try:
            worker.run(told, inputs, list(range(ROTATE if case.batch == 1 else 1)))
            once = sorted(worker.run(told, inputs, list(range(2))))[0] / 1000.0
            counts[label] = max(least, min(MOST_RUNS, round(turn_s / max(once, 1e-6))))
        except CandidateError as error:
            found[label].error = error.problem
    labels = [label for label in workers if label in counts]
    for turn in range(turns):
        for label in _rotated(labels, turn):
            if found[label].error:
                continue
            time.sleep(REST_S)
            order = [(turn + number) % ROTATE for number in range(counts[label])]
            try:
                found[label].turns.append(workers[label].run(told, inputs, order))
            except CandidateError as error:
                found[label].error = error.problem
        progress(f"{case.encoder} {case.what} {case.size}".strip(), turn + 1, turns)
    return found


def _rotated(labels: Sequence[str], turn: int) -> list[str]:
    start = turn % len(labels) if labels else 0
    return [*labels[start:], *labels[:start]]
