"""Building an engine from the outside: the child process, its progress, and what its end means."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sayclip
from sayclip.errors import BackendError
from sayclip.sessions import memory as system
from sayclip.sessions.tensorrt.build import Job

Progress = Callable[[int, int], None]
_REMEDY = "close other programs or add swap, give less --workspace, or build with --profile query"


@dataclass(frozen=True)
class Made:
    """A plan that was built: its file, the timing cache beside it (may be missing), and the child's facts about it."""

    plan: Path
    timing: Path
    facts: dict[str, Any]


def make(job: Job, what: str, progress: Progress | None = None) -> Made:
    """Run ``job`` in a child process; ``what`` names the engine in errors, ``progress`` is called with percents.

    Raises BackendError with one line for whatever the child's end was.
    """
    folder = Path(job.out).parent
    order, errors = Path(job.out + ".job"), Path(job.out + ".stderr")
    order.write_text(json.dumps(asdict(job)), encoding="utf-8")
    # What this process can import the child must too, wherever it was started.
    own = str(Path(sayclip.__file__).parents[1])
    path = os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sayclip.sessions.tensorrt.build", str(order)]
    last: dict[str, Any] = {}
    with (
        open(errors, "wb") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            errors="replace",
        ) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                last = _message(line) or last
                if progress is not None and "progress" in last:
                    progress(int(100 * float(last["progress"])), 100)
        except BaseException:
            child.kill()
            raise
    if child.returncode == 0 and "built" in last:
        return Made(Path(job.out), Path(job.timing_out), dict(last["built"]))
    if "refused" in last:
        raise BackendError(f"{what} cannot be built: {last['refused']}", str(last["remedy"]))
    raise _death(child.returncode, what, errors)


def _message(line: str) -> dict[str, Any]:
    """One line of the child's, or nothing if it is cut short."""
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _death(status: int, what: str, errors: Path) -> BackendError:
    """The error for a child that said nothing of its end."""
    if status == -signal.SIGKILL:
        free = system.available_memory()
        left = f"; {free / 1e6:.0f} MB are free now" if free is not None else ""
        return BackendError(
            f"{what} cannot be built: the build was killed, most likely by the system for lack of memory{left}", _REMEDY
        )
    if status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            return BackendError(
                f"{what} cannot be built: the library ended the process ({name}{_tail(errors)})", "see `sayclip doctor`"
            )
    return BackendError(
        f"{what} cannot be built: the build ended with status {status}{_tail(errors)}", "SAYCLIP_DEBUG=1 shows more"
    )


def _tail(errors: Path) -> str:
    """The last line of the child's stderr, led in."""
    with contextlib.suppress(OSError):
        lines = [line for line in errors.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if lines:
            return f", {lines[-1].strip()[:300]}"
    return ""
