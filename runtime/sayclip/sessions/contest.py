"""Candidates for one encoder held against each other: each is checked against the reference, then timed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import Memo
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions import backends, cpu, measure, memory
from sayclip.sessions.base import Session
from sayclip.sessions.reference import Verdict, check, read_reference

# Where p90 differs by less than this factor, it can be the machine's other work that differs.
NOISE = 1.05
_MOST_ACCURATE = ("fp32", "fp16")
# Graphs are held in memory side by side while they take less than this share of what is free: loaded, a graph can take
# twice its file.
_SHARE = 0.25
_LOADED = 2


@dataclass(frozen=True)
class Attempt:
    """One candidate and what became of it; figures are None where it did not get that far.

    ``accuracy`` is the smallest cosine to the reference; ``p50_ms`` and ``p90_ms`` are of one input at a time, and
    ``ratio`` is that p90 over the one of the candidate that is used.
    """

    backend: str
    precision: str
    used: bool
    reason: str
    accuracy: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    ratio: float | None = None

    @classmethod
    def from_dict(cls, data: Any) -> Attempt:
        """What ``dataclasses.asdict`` made. Raises KeyError, TypeError or ValueError for anything else."""
        numbers = {key: data[key] for key in ("accuracy", "p50_ms", "p90_ms", "ratio")}
        for value in numbers.values():
            if value is not None and not (isinstance(value, float) and math.isfinite(value)):
                raise ValueError(f"{value!r} is no finite number")
        texts = [data[key] for key in ("backend", "precision", "reason")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(data["used"], bool):
            raise ValueError("no attempt")
        return cls(texts[0], texts[1], data["used"], texts[2], **numbers)


class Inaccurate(BackendError):
    """A graph that does not meet its reference outputs on a backend."""

    def __init__(self, name: str, precision: str, backend: str, verdict: Verdict) -> None:
        super().__init__(
            f"the {precision} graph of {name!r} is not accurate on {backend} here ({verdict})",
            "use precision='auto' or another one (int8-u8 needs a processor with VNNI)",
        )
        self.verdict = verdict


def open_checked(
    manifest: Manifest, name: str, backend: str, precision: str, threads: int | None, *, again: bool = False
) -> tuple[Session, Verdict]:
    """A session that met the reference outputs now or, unless ``again``, at an earlier time on this machine.

    Raises Inaccurate for one that does not meet them, and as ``backends.open_graph``.
    """
    entry = manifest.entry(name)
    facts = [
        [backends.graph_hash(entry.graphs[precision]), entry.reference.sha256, entry.reference.tolerance[precision]],
        [backend, backends.identity(manifest, name, precision, backend), cpu.model()],
    ]
    memo, key = Memo("checks", limit=500), hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    verdict = None if again else _remembered(memo.get(key))
    if verdict is not None and not verdict.passed:
        raise Inaccurate(name, precision, backend, verdict)
    session = backends.open_graph(manifest, name, precision, backend=backend, threads=threads)
    try:
        if verdict is None:
            verdict = check(session, manifest, name, precision)
            memo.put({key: asdict(verdict)})
        if not verdict.passed:
            raise Inaccurate(name, precision, backend, verdict)
    except BaseException:
        session.close()
        raise
    return session, verdict


def checked(backend: str, precision: str, verdict: Verdict) -> Attempt:
    """A candidate that was held against the reference, before anything was timed."""
    accuracy = round(verdict.cosine, 7) if math.isfinite(verdict.cosine) else None
    return Attempt(backend, precision, True, str(verdict), accuracy)


class Contest:
    """The candidates for one encoder, (backend, precision) with the preferred one first.

    Graphs lie in memory side by side while that is a small part of it, and are then timed turn by turn, so that the
    machine's other work disturbs all of them alike; else one after another.
    """

    def __init__(
        self, manifest: Manifest, name: str, pairs: Sequence[tuple[str, str]], threads: int | None, again: bool = False
    ) -> None:
        self._manifest, self._name, self._pairs = manifest, name, pairs
        self._threads, self._again = threads, again
        self._open: dict[tuple[str, str], Session] = {}
        self._trials: dict[tuple[str, str], measure.Trial] = {}
        self._attempts: dict[tuple[str, str], Attempt] = {}

    def hold(self) -> tuple[Session | None, list[Attempt]]:
        """The winner's session, None where nothing runs, and every attempt: the winner's, then the others by speed.

        Raises BundleError.
        """
        inputs, _ = read_reference(self._manifest, self._name)
        queries = measure.Queries(self._manifest.entry(self._name), inputs)
        together = fit_together(self._manifest, self._name, self._pairs)
        budget = measure.BUDGET_S
        try:
            for pair in self._pairs:
                if self._enter(pair, queries):
                    budget -= self._trials[pair].spent
                    if not together:
                        measure.time_rounds([self._trials[pair]], queries, measure.BUDGET_S / len(self._pairs))
                        self._close(pair)
            for pair in list(self._open):
                self._stop_if_slow(pair)
            if len(self._open) > 1:
                measure.time_rounds([self._trials[pair] for pair in self._open], queries, budget)
            for pair, trial in list(self._trials.items()):
                if trial.error:
                    self._fail(pair, trial.error)
            return self._decide()
        except BaseException:
            for pair in list(self._open):
                self._close(pair)
            raise

    def _enter(self, pair: tuple[str, str], queries: measure.Queries) -> bool:
        """Open, check and probe a candidate; whether it stays in the contest."""
        try:
            session, verdict = open_checked(self._manifest, self._name, *pair, self._threads, again=self._again)
            self._open[pair] = session
            self._attempts[pair] = checked(*pair, verdict)
            self._trials[pair] = measure.probe(session, queries)
        except Inaccurate as error:
            self._attempts[pair] = checked(*pair, error.verdict)
            self._fail(pair, error.problem)
            return False
        except (BackendError, MissingDependencyError) as error:
            self._fail(pair, error.problem)
            return False
        return not self._stop_if_slow(pair)

    def _stop_if_slow(self, pair: tuple[str, str]) -> bool:
        trial = self._trials[pair]
        times = trial.probe / min(other.probe for other in self._trials.values())
        if times <= measure.PROBE_LIMIT:
            return False
        self._close(pair)
        del self._trials[pair]
        once = round(trial.percentile_ms(90), 4)
        reason = f"one run took {times:.1f} times as long as the best's, so it was not timed further"
        self._attempts[pair] = replace(self._attempts[pair], used=False, reason=reason, p50_ms=once, p90_ms=once)
        return True

    def _fail(self, pair: tuple[str, str], reason: str) -> None:
        self._close(pair)
        self._trials.pop(pair, None)
        seen = self._attempts.get(pair, Attempt(*pair, False, ""))
        self._attempts[pair] = replace(seen, used=False, reason=reason)

    def _close(self, pair: tuple[str, str]) -> None:
        session = self._open.pop(pair, None)
        if session is not None:
            session.close()

    def _decide(self) -> tuple[Session | None, list[Attempt]]:
        """Take the best that can be had, free all others, and say of each what became of it."""
        while self._trials:
            p90 = {pair: trial.percentile_ms(90) for pair, trial in self._trials.items()}
            winner = best_of(p90)
            for pair in [pair for pair in self._open if pair != winner]:
                self._close(pair)
            if winner not in self._open:
                try:
                    self._open[winner], _ = open_checked(self._manifest, self._name, *winner, self._threads)
                except (BackendError, MissingDependencyError) as error:
                    self._fail(winner, error.problem)
                    continue
            for pair, trial in self._trials.items():
                self._attempts[pair] = _placed(self._attempts[pair], trial, p90[pair] / p90[winner], pair == winner)
            return self._open[winner], self._sorted(p90[winner])
        return None, self._sorted(math.nan)

    def _sorted(self, best: float) -> list[Attempt]:
        attempts = [self._attempts[pair] for pair in self._pairs]
        told = [
            replace(one, ratio=round(one.p90_ms / best, 3)) if one.p90_ms is not None and one.ratio is None else one
            for one in attempts
        ]
        return sorted(told, key=lambda one: (not one.used, math.inf if one.p90_ms is None else one.p90_ms))


def best_of(p90: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    """The (backend, precision) with the smallest p90; among those as quick but for noise the most accurate precision,
    and among those the first."""
    limit = min(p90.values()) * NOISE
    near = [pair for pair, value in p90.items() if value <= limit]
    return min(near, key=lambda pair: accuracy_rank(pair[1]))


def accuracy_rank(precision: str) -> int:
    """0 for the most accurate precision; int8 and its unsigned form are one."""
    return _MOST_ACCURATE.index(precision) if precision in _MOST_ACCURATE else len(_MOST_ACCURATE)


def fit_together(manifest: Manifest, name: str, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether all the graphs may lie in memory at once."""
    graphs = manifest.entry(name).graphs
    wanted = _LOADED * sum(backends.graph_bytes(graphs[precision]) for _, precision in pairs)
    free = memory.available_memory()
    return free is None or wanted <= _SHARE * free


def _placed(attempt: Attempt, trial: measure.Trial, ratio: float, used: bool) -> Attempt:
    if used:
        reason = attempt.reason
    elif ratio > NOISE:
        reason = f"slower, its p90 is {ratio:.2f} times the best's"
    else:
        reason = "as fast, but less accurate or less preferred"
    p50_ms, p90_ms = round(trial.percentile_ms(50), 4), round(trial.percentile_ms(90), 4)
    return replace(attempt, used=used, reason=reason, p50_ms=p50_ms, p90_ms=p90_ms, ratio=round(ratio, 3))


def _remembered(fact: dict[str, Any] | None) -> Verdict | None:
    if fact is None:
        return None
    try:
        return Verdict(*(kind(fact[key]) for key, kind in _VERDICT.items()))
    except (KeyError, TypeError, ValueError):
        return None


_VERDICT = {"measure": str, "value": float, "tolerance": float, "cosine": float}
