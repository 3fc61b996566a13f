"""Interrupts that are not lost: one that a destructor or a C extension swallows is raised again at the next turn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_seen: list[int] = []


@contextmanager
def heeded() -> Iterator[None]:
    """Within, ``check`` raises KeyboardInterrupt again for a SIGINT that came and was swallowed; also at the end.

    In another thread than the main one, which no signal reaches, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _note)
    _seen.clear()
    try:
        yield
        check()
    finally:
        _seen.clear()
        signal.signal(signal.SIGINT, before)


def check() -> None:
    """Raise KeyboardInterrupt where a SIGINT has come since ``heeded`` began."""
    if _seen:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    _seen.append(number)
    raise KeyboardInterrupt
