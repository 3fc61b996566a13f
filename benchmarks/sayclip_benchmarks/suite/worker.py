"""A child process seen from outside: asked with a time limit, so that what hangs or crashes is a row."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sayclip.errors import SayclipError

OPENING_S, ANSWER_S = 300.0, 120.0


def paths(python: str) -> dict[str, str]:
    """Variables by which ``python`` finds sayclip's own packages; none for this one, which has them installed."""
    if python == sys.executable:
        return {}
    import sayclip
    import sayclip_benchmarks

    found = [str(Path(str(package.__file__)).resolve().parents[1]) for package in (sayclip, sayclip_benchmarks)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(found))}


class CandidateError(SayclipError):
    """A candidate that could not be opened, failed, crashed, or did not answer in time."""


class Worker:
    """The process of one candidate. ``python``: the interpreter of another environment, where a peer needs one."""

    def __init__(self, spec: Mapping[str, Any], *, limit_s: float = OPENING_S, python: str = sys.executable) -> None:
        self.spec = dict(spec)
        command = [python, "-m", "sayclip_benchmarks.suite.child"]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false", **paths(python)}
        self._errors = open(os.devnull, "wb") if not os.environ.get("SAYCLIP_DEBUG") else None  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )
        self._buffer = b""
        try:
            opened = self._ask(self.spec, limit_s)
        except BaseException:
            self.close()
            raise
        self.label = str(opened["label"])
        self.model_bytes: int | None = opened["model_bytes"]

    def run(self, case: Mapping[str, Any], inputs: Mapping[str, Any], order: list[int]) -> list[float]:
        """Milliseconds of each run, on the inputs of these numbers. Raises CandidateError."""
        answer = self._ask({"do": "run", "case": case, "inputs": inputs, "order": order}, ANSWER_S)
        return [float(value) for value in answer["ms"]]

    def stream(
        self, case: Mapping[str, Any], inputs: Mapping[str, Any], seconds: float, least: int
    ) -> tuple[list[float], float]:
        """Milliseconds of each run of one stream of at least ``seconds`` and ``least`` runs, and its seconds."""
        told = {"do": "stream", "case": case, "inputs": inputs, "seconds": seconds, "least": least}
        answer = self._ask(told, 2 * seconds + ANSWER_S)
        return [float(value) for value in answer["ms"]], float(answer["seconds"])

    def loadgen(self, case: Mapping[str, Any], inputs: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        """What LoadGen measures of the candidate: ``settings`` and the answer are those of ``loadgen.drive``."""
        told = {"do": "loadgen", "case": case, "inputs": inputs, "settings": settings}
        return self._ask(told, 3 * float(settings["seconds"]) + ANSWER_S)

    def outputs(self, case: Mapping[str, Any], inputs: Mapping[str, Any], path: Path) -> None:
        """Write what all inputs give to ``path`` (.npy). Raises CandidateError."""
        self._ask({"do": "outputs", "case": case, "inputs": inputs, "path": str(path)}, ANSWER_S)

    def quit(self) -> dict[str, Any]:
        """End the process; peak memory in bytes as ``rss_bytes`` and ``gpu_bytes``, empty where it is gone."""
        try:
            return self._ask({"do": "quit"}, 10.0)
        except CandidateError:
            return {}
        finally:
            self.close()

    def close(self) -> None:
        """End the process, by force if need be."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        if self._errors:
            self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, asked: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._gone() from None
        try:
            answer: dict[str, Any] = json.loads(self._line(limit_s))
        except ValueError:
            raise CandidateError("its process answered with something else", "report this") from None
        if "error" in answer:
            raise CandidateError(str(answer["error"]), "see the row of this candidate")
        return answer

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                self._process.kill()
                raise CandidateError(f"no answer within {limit_s:.0f} s, so its process was ended", "run it alone")
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                raise self._gone()
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _gone(self) -> CandidateError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        status = self._process.returncode
        how = f"by signal {-status}" if status is not None and status < 0 else f"with {status}"
        return CandidateError(f"its process ended {how}", "SAYCLIP_DEBUG=1 shows what it printed")
