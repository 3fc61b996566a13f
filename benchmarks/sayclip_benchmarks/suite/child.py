"""The process of one candidate: opened once, kept warm, it runs what it is told to and says how long that took.

Lines of JSON come in by stdin and go out by a copy of stdout; what libraries print goes to stderr. The first line
describes the candidate; then ``{"do": "run", "case": …, "inputs": …, "order": [0, 1, …]}`` gives ``{"ms": […]}``,
``"outputs"`` writes what the inputs give to a file, ``"stream"`` runs for a time, ``"loadgen"`` lets LoadGen do so,
``"quit"`` gives the peak of memory and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from sayclip_benchmarks.host import peak
from sayclip_benchmarks.suite.cases import Case, Run
from sayclip_benchmarks.suite.inputs import load
from sayclip_benchmarks.suite.openers import Candidate, open_candidate


class _Child:
    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._known: dict[str, tuple[Run, list[Any]]] = {}
        self._memory: dict[str, int | None] = {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "quit":
            return self._memory or _memory()
        if asked["do"] == "outputs":  # of inputs that are not kept: they would be in the peak of memory
            run = self._candidate.function(Case.from_dict(asked["case"]))
            np.save(asked["path"], np.concatenate([np.atleast_2d(run(one)) for one in load(asked["inputs"])]))
            return {}
        run, inputs = self._of(asked)
        if asked["do"] == "stream":
            return _stream(run, inputs, asked["seconds"], asked["least"])
        if asked["do"] == "loadgen":
            from sayclip_benchmarks.suite.loadgen import drive

            self._memory = self._memory or _memory()  # LoadGen's queries and samples are not the candidate's
            return drive(run, inputs, asked["case"]["batch"], **asked["settings"])
        clock = getattr(self._candidate, "clock", by_the_host)
        return {"ms": [clock(run, inputs[number % len(inputs)]) for number in asked["order"]]}

    def _of(self, asked: dict[str, Any]) -> tuple[Run, list[Any]]:
        case = Case.from_dict(asked["case"])
        if case.key not in self._known:
            self._known[case.key] = self._candidate.function(case), load(asked["inputs"])
        return self._known[case.key]


def by_the_host(run: Run, one: Any) -> float:
    """Milliseconds of one run by the host's clock."""
    started = time.perf_counter()
    run(one)
    return 1000.0 * (time.perf_counter() - started)


def _stream(run: Run, inputs: list[Any], seconds: float, least: int) -> dict[str, Any]:
    """One run after another for at least ``seconds`` and ``least`` runs, after one that is not timed."""
    run(inputs[0])
    times: list[float] = []
    before = began = time.perf_counter()
    while before - began < seconds or len(times) < least:
        run(inputs[len(times) % len(inputs)])
        now = time.perf_counter()
        times.append(1000.0 * (now - before))
        before = now
    return {"ms": times, "seconds": before - began}


def _memory() -> dict[str, int | None]:
    return {"rss_bytes": peak.memory(), "gpu_bytes": _gpu_memory()}


def _gpu_memory() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())


def main() -> int:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    try:
        candidate = open_candidate(json.loads(sys.stdin.readline()))
        say({"label": candidate.label, "model_bytes": candidate.model_bytes})
        child = _Child(candidate)
    except Exception as error:
        say({"error": one_line(error)})
        return 1
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say(child.answer(asked))
        except Exception as error:
            say({"error": one_line(error)})
        if asked["do"] == "quit":
            break
    return 0


def one_line(error: BaseException) -> str:
    """An error as a row says it."""
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:300]


if __name__ == "__main__":
    sys.exit(main())
