"""Fresh processes, started in turn, and what each said of its start: the part that all cold starts share.

Every candidate runs from compiled byte code, as an installed package does, whatever the environment says about writing
it: the first start, which is not timed, compiles it into a folder of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sayclip.sessions import compiled
from sayclip_benchmarks.suite.openers import plain
from sayclip_benchmarks.suite.worker import paths

PARTS = ("import_s", "load_s", "first_s")
_CHILD = "sayclip_benchmarks.cold.child"
_COARSE_S = 0.05  # file systems round their clocks


class StartError(Exception):
    """A start that gave no result; ``missing`` where something is not installed."""

    def __init__(self, why: str, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


class Starter:
    """Starts one candidate again and again, until it fails. ``missing``: why it cannot run, where that is known."""

    def __init__(self, label: str, what: str, missing: str = "") -> None:
        self.label, self.what = label, what
        self.seen: list[dict[str, Any]] = []
        self.cached = True
        """Whether every timed start found or stored a compiled graph."""
        self._status, self._why = ("missing", missing) if missing else ("ok", "")

    def ask(self) -> dict[str, Any]:
        """What one start says. Raises StartError."""
        raise NotImplementedError

    def name(self) -> str:
        """What the candidate is called, once it has started."""
        return self.label

    def start(self, *, timed: bool) -> None:
        if self._status != "ok":
            return
        before = time.time() - _COARSE_S
        try:
            told = self.ask()
        except StartError as error:
            self._status, self._why = "missing" if error.missing else "failed", str(error)
            return
        if timed:
            self.seen.append(told)
            self.cached &= _compiled_since(before)

    def record(self) -> dict[str, Any]:
        """As ``cold`` in ``report.document``: medians of the timed starts."""
        record: dict[str, Any] = {"candidate": self.name(), "what": self.what, "status": self._status, "why": self._why}
        if self._status != "ok":
            return record
        medians = {key: statistics.median(one[key] for one in self.seen) for key in (*PARTS, "steady_s", "rss_bytes")}
        return {
            **record,
            **medians,
            "total_s": sum(medians[part] for part in PARTS),
            "rss_bytes": int(medians["rss_bytes"]),
            "runs": len(self.seen),
        }


def in_turns(everyone: Sequence[Starter], runs: int) -> list[dict[str, Any]]:
    """The record of each after ``runs`` timed starts, the candidates taking turns, and one before that is not timed."""
    for number in range(runs + 1):
        for starter in everyone:
            starter.start(timed=number > 0)
    return [starter.record() for starter in everyone]


def environment(bytecode: Path, python: str = sys.executable) -> dict[str, str]:
    """Variables of a process that keeps its byte code in the folder ``bytecode`` and finds sayclip's packages."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(bytecode), **paths(python)}


def answer(
    arguments: Sequence[str], limit_s: float, variables: Mapping[str, str] | None = None, python: str = sys.executable
) -> dict[str, Any]:
    """What ``cold.child`` says. Raises StartError where it fails, ends otherwise, or takes longer than ``limit_s``."""
    errors = None if os.environ.get("SAYCLIP_DEBUG") else subprocess.DEVNULL
    try:
        done = subprocess.run(
            [python, "-m", _CHILD, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=limit_s,
            env=variables,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StartError(f"no result within {limit_s:g} s, so its process was ended") from None
    except OSError as error:
        raise StartError(f"its process could not be started ({error.strerror})") from None
    try:
        told: dict[str, Any] = json.loads((done.stdout.splitlines() or [b""])[-1])
        if "error" in told:
            raise StartError(told["error"], bool(told.get("missing")))
    except (ValueError, TypeError):
        how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with {done.returncode}"
        raise StartError(f"its process ended {how}, without a result") from None
    return told


def ours(told: Mapping[str, Any], cached: bool) -> str:
    """What sayclip took: backend, precision, and whether it had to compile."""
    name = f"{told['backend']} {plain(told['precision'])}"
    if told["backend"].startswith("openvino"):
        name += ", compiled graph cached" if cached else ", compiled at every start"
    return name


def _compiled_since(moment: float) -> bool:
    """Whether a compiled graph was loaded from the cache, or stored there, since then."""
    place = compiled.folder()
    try:
        return place is not None and any(path.stat().st_mtime >= moment for path in place.glob("*.blob"))
    except OSError:
        return False
