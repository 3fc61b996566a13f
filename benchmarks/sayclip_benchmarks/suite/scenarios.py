"""MLPerf's scenarios over the same processes: one query after another, several at once, as much as there is.

Words and rules are those of MLPerf Inference (Reddi et al. 2020, arXiv 1911.02549; LoadGen's user configuration): a
SingleStream result is the 90th percentile of at least 1,024 queries, a MultiStream result the 99th of at least 662
queries of 8 samples, an Offline result samples a second over at least 24,576 samples, each over at least 600 s. What is
shorter than that is said to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.plan import EAGER
from sayclip_benchmarks.suite.worker import CandidateError, Worker

LEAST_S = 600.0
LEAST = {"SingleStream": 1024, "MultiStream": 662, "Offline": 24_576}
FIGURES = {"SingleStream": "p90_ms", "MultiStream": "p99_ms", "Offline": "per_second"}
AGREE = 0.03  # how far LoadGen's figure may be from our own loop's
ALTERNATIONS = 3
_TYPICAL = {"speech": 3.0, "text": 8.0, "pronunciation": 8.0}
_QUERIES = 8
_SLICE_S = 5.0  # of an answer of a process, so that it does not grow without bounds
Row = dict[str, Any]


def run_scenarios(
    cases: Sequence[Case],
    made: Mapping[str, Mapping[str, Any]],
    workers: Mapping[str, Worker],
    seconds: float,
    *,
    quick: bool = False,
    loadgen: bool = False,
    least: int = _QUERIES,
) -> list[Row]:
    """The scenarios that the cases of one encoder allow, each of at least ``seconds`` and ``least`` runs, by worker.

    ``loadgen``: let MLPerf's LoadGen drive the same, too; its rows follow ours. PyTorch is left out of that: one
    candidate tells whether two drivers agree, and PyTorch's batches take a minute each.
    """
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
            one = _Scenario(name, case, made[case.key], label, worker, seconds, least)
            found += one.beside_loadgen() if loadgen and label != EAGER else [one.own()]
    return found


class _Scenario:
    """One scenario of one candidate."""

    def __init__(
        self,
        name: str,
        case: Case,
        inputs: Mapping[str, Any],
        label: str,
        worker: Worker,
        seconds: float,
        least: int,
    ) -> None:
        self._name, self._case, self._inputs, self._worker = name, case, inputs, worker
        self._seconds, self._least = seconds, least
        self._row: Row = {"scenario": name, "encoder": case.encoder, "size": case.size, "candidate": label}

    def own(self) -> Row:
        """The row of our own loop."""
        times: list[float] = []
        try:
            spent = self._stream(times, self._seconds, self._least)
        except CandidateError as error:
            return self._failed("own", error, len(times))
        return self._timed(times, spent)

    def beside_loadgen(self) -> list[Row]:
        """Our own loop's row and LoadGen's: the first half of our loop, LoadGen, the second half, one after the other.

        Up to ``ALTERNATIONS`` of these, until one is quiet (the halves of our own loop differ by at most ``AGREE``) and
        LoadGen differs by no more either; of the quiet ones, else of all, the one with the middle difference.
        """
        pairs: list[list[Row]] = []
        while not any(_settled(pair[1]) for pair in pairs) and len(pairs) < ALTERNATIONS:
            times: list[float] = []
            seen: Mapping[str, Any] | None = None
            problem: CandidateError | None = None
            try:
                spent = self._stream(times, self._seconds / 2, -(-self._least // 2))
                half, first = len(times), spent
                try:
                    seen = self._loadgen(percentile(times, 0.5))
                except CandidateError as error:
                    problem = error
                spent += self._stream(times, self._seconds / 2, self._least - len(times))
            except CandidateError as error:
                return [self._failed("own", error, len(times)), self._failed("loadgen", problem or error, 0)]
            own = self._timed(times, spent)
            if seen is None:
                return [own, self._failed("loadgen", problem, 0)]
            halves = self._figures(times[:half], first), self._figures(times[half:], spent - first)
            pairs.append([own, self._judged(seen, own, halves)])
        quiet = [pair for pair in pairs if not pair[1]["noisy"]] or pairs
        middle = sorted(quiet, key=lambda pair: float(pair[1]["difference"]))[len(quiet) // 2]
        middle[1]["alternations"] = len(pairs)
        return middle

    def _stream(self, times: list[float], seconds: float, least: int) -> float:
        """Add milliseconds of runs to ``times``; seconds that they took, with what lies between them."""
        spent, wanted = 0.0, len(times) + least
        while spent < seconds or len(times) < wanted:
            part = min(_SLICE_S, max(seconds - spent, 0.0))
            fewest = max(wanted - len(times), 1) if part < _SLICE_S else 1
            more, took = self._worker.stream(self._case.to_dict(), self._inputs, part, fewest)
            times += more
            spent += took
        return spent

    def _loadgen(self, expected_ms: float) -> dict[str, Any]:
        settings = {"scenario": self._name, "seconds": self._seconds, "least": self._least, "expected_ms": expected_ms}
        return self._worker.loadgen(self._case.to_dict(), self._inputs, **settings)

    def _figures(self, times: Sequence[float], spent: float) -> dict[str, float]:
        ranks = {f"p{rank}_ms": percentile(times, rank / 100) for rank in (50, 90, 99)}
        return {**ranks, "per_second": len(times) * self._case.batch / spent}

    def _timed(self, times: Sequence[float], spent: float) -> Row:
        short = self._short(len(times), spent)
        row = {**self._row, "driver": "own", "queries": len(times), "seconds": round(spent, 2)}
        return {**row, **self._figures(times, spent), "valid": not short, "why": short}

    def _judged(
        self, seen: Mapping[str, Any], own: Row, halves: tuple[Mapping[str, float], Mapping[str, float]]
    ) -> Row:
        """LoadGen's row. A percentile that LoadGen has too few queries for is not compared: the median is."""
        compared = FIGURES[self._name] if seen["enough"] else "p50_ms"
        same = self._figures(seen["clocked_ms"], sum(seen["clocked_ms"]) / 1000.0)[compared]
        said = f"LoadGen says INVALID: {seen['why']}" if seen["verdict"] != "VALID" else ""
        why = "; ".join(part for part in (said, self._short(seen["queries"], seen["seconds"])) if part)
        figures = {key: seen[key] for key in ("p50_ms", "p90_ms", "p99_ms", "per_second")}
        return {
            **self._row,
            "driver": "loadgen",
            "queries": seen["queries"],
            "seconds": round(seen["seconds"], 2),
            **figures,
            "valid": not why,
            "why": why,
            "verdict": seen["verdict"],
            "compared": compared,
            "difference": seen[compared] / own[compared] - 1.0,
            "overhead": seen[compared] / same - 1.0,
            "noisy": abs(halves[1][compared] / halves[0][compared] - 1.0) > AGREE,
        }

    def _short(self, queries: int, spent: float) -> str:
        samples = self._name == "Offline"
        counted = queries * self._case.batch if samples else queries
        short = []
        if spent < LEAST_S:
            short.append(f"{spent:.0f} of {LEAST_S:.0f} s")
        if counted < LEAST[self._name]:
            short.append(f"{counted:,} of {LEAST[self._name]:,} {'samples' if samples else 'queries'}")
        return f"shorter than MLPerf asks: {', '.join(short)}" if short else ""

    def _failed(self, driver: str, error: CandidateError | None, queries: int) -> Row:
        nothing = {"seconds": 0.0, "p50_ms": None, "p90_ms": None, "p99_ms": None, "per_second": 0.0, "valid": False}
        return {**self._row, "driver": driver, "queries": queries, **nothing, "why": error.problem if error else ""}


def _settled(row: Row) -> bool:
    return not row["noisy"] and abs(row["difference"]) <= AGREE


def percentile(times: Sequence[float], rank: float) -> float:
    """The value that LoadGen takes: of ``n`` sorted ones number ``n · rank``, rounded down, from 0; ``rank`` < 1."""
    return float(sorted(times)[int(len(times) * rank)])
