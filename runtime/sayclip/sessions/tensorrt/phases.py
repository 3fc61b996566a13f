"""TensorRT's own progress monitor, and one number from the phases within phases that it reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def monitor(trt: Any, told: Callable[[float], None]) -> Any:
    """A progress monitor for ``trt`` that calls ``told`` with shares of 1; an OSError of it ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the parent; ends the build when the parent is gone."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases = Phases(told)
            self.alone = False
            self.lock = threading.Lock()  # called from several of the library's threads

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self.lock:
                self.phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self.lock:
                try:
                    self.phases.step(phase_name, step)
                except OSError:
                    self.alone = True
            return not self.alone

        def phase_finish(self, phase_name: str) -> None:
            with self.lock:
                self.phases.finish(phase_name)

    return Monitor()


class Phases:
    """How much of a build is done, from the phases within phases that the library reports; told when it has risen."""

    def __init__(self, told: Callable[[float], None]) -> None:
        self._told = told
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins, within ``parent`` or on its own."""
        self._open[name] = (parent, max(int(steps), 1), 0)

    def step(self, name: str, step: int) -> None:
        """Step number ``step``, from 0, is done."""
        if name not in self._open:
            return
        parent, steps, _ = self._open[name]
        self._open[name] = (parent, steps, min(int(step) + 1, steps))
        share = self.share(name)
        if share >= self._share + 0.005:
            self._share = share
            self._told(round(share, 3))

    def finish(self, name: str) -> None:
        """The phase is over."""
        self._open.pop(name, None)

    def share(self, name: str) -> float:
        """From 0 to 1, of the outermost phase around the phase ``name``."""
        share, seen = 0.0, set()
        at: str | None = name
        while at in self._open and at not in seen:
            seen.add(at)
            parent, steps, done = self._open[at]
            share = min((done + share) / steps, 1.0)
            at = parent
        return share
