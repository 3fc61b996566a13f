"""MLPerf's scenarios over the same processes: one query after another, several at once, as much as there is.

Words and rules are those of MLPerf Inference (Reddi et al. 2020, arXiv 1911.02549; LoadGen's user configuration): a
SingleStream result is the 90th percentile of at least 1,024 queries, a MultiStream result the 99th of at least 662
queries of 8 samples, an Offline result samples a second over at least 24,576 samples, each over at least 600 s. What is
shorter than that is said to be.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.worker import CandidateError, Worker

LEAST_S = 600.0
LEAST = {"SingleStream": 1024, "MultiStream": 662, "Offline": 24_576}
_TYPICAL = {"speech": 3.0, "text": 8.0, "pronunciation": 8.0}
_CHUNK = 8


def run_scenarios(
    cases: Sequence[Case],
    made: Mapping[str, Mapping[str, Any]],
    workers: Mapping[str, Worker],
    seconds: float,
    *,
    quick: bool = False,
) -> list[dict[str, Any]]:
    """The scenarios that the cases of one encoder allow, each of at least ``seconds`` on every worker."""
    sessions = [case for case in cases if case.what == "session" and case.amount == _TYPICAL.get(case.encoder, 0.0)]
    batches = {case.batch: case for case in sessions}
    chosen = {
        "SingleStream": batches.get(1),
        "MultiStream": batches.get(8),
        "Offline": batches.get(max(batches, default=0)),
    }
    if quick:
        chosen = {"SingleStream": batches.get(1)}
    found = []
    for name, case in chosen.items():
        if case is None or seconds <= 0:
            continue
        for label, worker in workers.items():
            found.append(_one(name, case, made[case.key], label, worker, seconds))
    return found


def _one(
    name: str, case: Case, inputs: Mapping[str, Any], label: str, worker: Worker, seconds: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"scenario": name, "encoder": case.encoder, "size": case.size, "candidate": label}
    times: list[float] = []
    started = time.monotonic()
    try:
        while time.monotonic() - started < seconds:
            times += worker.run(case.to_dict(), inputs, [len(times) + more for more in range(_CHUNK)])
    except CandidateError as error:
        return {**row, **_NOTHING, "queries": len(times), "why": error.problem}
    spent = sum(times) / 1000.0
    samples = len(times) * case.batch
    counted = samples if name == "Offline" else len(times)
    short = []
    if spent < LEAST_S:
        short.append(f"{spent:.0f} of {LEAST_S:.0f} s")
    if counted < LEAST[name]:
        short.append(f"{counted:,} of {LEAST[name]:,} {'samples' if name == 'Offline' else 'queries'}")
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return {
        **row,
        "queries": len(times),
        "seconds": round(spent, 2),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "per_second": samples / spent,
        "valid": not short,
        "why": f"shorter than MLPerf asks: {', '.join(short)}" if short else "",
        "loadgen": None,
    }


_NOTHING = {
    "seconds": 0.0,
    "p50_ms": None,
    "p90_ms": None,
    "p99_ms": None,
    "per_second": 0.0,
    "valid": False,
    "loadgen": None,
}
