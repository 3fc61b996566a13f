"""What commands print: results on stdout, everything else on stderr, progress only for a person who watches."""

from __future__ import annotations

import json
import shutil
import sys
import time
from types import TracebackType
from typing import Any


def printable_streams() -> None:
    """Let characters that the terminal's encoding lacks appear as escapes instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters, which could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def error_line(text: str, program: str = "sayclip") -> str:
    """An error as one line for stderr."""
    return f"{program}: {one_line(text)}"


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    plain = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "") != "utf8"
    print(json.dumps(document, ensure_ascii=plain, indent=2, allow_nan=False))


def print_notice(notice: str) -> None:
    """The bundle's notice, if it has one, on stderr."""
    if notice:
        print(one_line(notice), file=sys.stderr)


def size(count: int) -> str:
    """A number of bytes as people write it, such as ``1.3 MB``."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


class Progress:
    """A progress bar on stderr, ``label [####····] 120/1600``; silent when stderr is not a terminal.

    Called with how much is done and how much there is in all (None when unknown); a context manager that clears the
    line at its end.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = False
        self._last = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._last < 0.1 and done != total):
            return
        self._last, self._shown = now, True
        if total:
            filled = round(24 * min(done, total) / total)
            line = f"{self._label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}"
        else:
            line = f"{self._label} {done}"
        width = shutil.get_terminal_size().columns
        print("\r" + line[: width - 1].ljust(min(width - 1, 60)), end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", end="", file=sys.stderr, flush=True)
