"""An interrupt (SIGINT, Ctrl-C) that waits for a place where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupts:
    """Inside its `with`, the first interrupt is held back until `check`, or until a stretch of `let_through`.

    `KeyboardInterrupt` can be raised between any two instructions, also between a lock's taking and the `with` that
    would give it back; a worker that needs that lock then waits for ever, and whoever joins the worker with it. Only
    Python's own handler is replaced, and only in the main thread, which alone gets signals: elsewhere this does
    nothing. A second interrupt is raised at once, for something that never comes to a `check`.
    """

    def __init__(self) -> None:
        self._holding = False
        self._waiting = False
        self._installed = False

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._holding = self._installed = True
            signal.signal(signal.SIGINT, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = self._holding = False
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if one was held back."""
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Raise an interrupt at once, where code that is not the library's own may take as long as it likes."""
        self._holding = False
        try:
            self.check()
            yield
        finally:
            self._holding = self._installed

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._holding and not self._waiting:
            self._waiting = True
            return
        self._waiting = False
        raise KeyboardInterrupt
