"""What a backend's own profiler told: one event for every operator that ran, run by run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

AROUND = ("If", "Loop", "Scan", "TensorIterator")
"""Operators that others run within."""


@dataclass(frozen=True)
class Event:
    """An operator in one run. ``start_us`` counts from the run's begin, ``us`` is how long it took.

    ``kind`` is the operator's type, ``kernel`` what computed it in the backend's words (with the type of its numbers);
    ``sources`` are the nodes of the ONNX graph that it stands for, where the backend says.
    """

    name: str
    kind: str
    kernel: str
    start_us: float
    us: float
    sources: tuple[str, ...] = ()

    @property
    def end_us(self) -> float:
        return self.start_us + self.us


@dataclass(frozen=True)
class Recording:
    """What ran in one graph on one backend, on inputs of the same size.

    ``profiled_us`` are the times of the runs that were profiled, ``wall_us`` those of as many of a session that does
    not profile. ``runs`` holds the operators of each, or one list with their means, where the profiler tells no more.
    ``real_starts``: whether it told when operators began; else they are put end to end, in order.
    ``note`` is what to know about this profiler, or empty.
    """

    backend: str
    precision: str
    provider: str
    threads: int
    runs: tuple[tuple[Event, ...], ...]
    wall_us: tuple[float, ...]
    profiled_us: tuple[float, ...]
    real_starts: bool
    note: str = ""


def nested(events: Sequence[Event]) -> list[tuple[Event, float]]:
    """The events of one thread in order of their start, with the microseconds that each spent outside those within it.

    What clocks of whole microseconds let overlap is moved: of two that meet, the later one begins when the earlier
    ends, unless that is a loop or branch, around whose operators it lies; what sticks out of one around it is cut off
    there. So any two of the result lie apart or one within the other.
    """
    placed: list[Event] = []
    inner: list[float] = []
    around: list[int] = []
    free = 0.0  # where the next event may begin
    for event in sorted(events, key=_order):
        while around and not _within(event, placed[around[-1]]):
            free = placed[around.pop()].end_us
        limit = placed[around[-1]].end_us if around else float("inf")
        start = min(max(event.start_us, free), limit)
        event = replace(event, start_us=start, us=min(event.us, limit - start))
        if around:
            inner[around[-1]] += event.us
        placed.append(event)
        inner.append(0.0)
        around.append(len(placed) - 1)
        free = start
    return [(event, max(0.0, event.us - within)) for event, within in zip(placed, inner, strict=True)]


def _order(event: Event) -> tuple[float, bool, float]:
    """Of those that begin at once, the longest of what others run within, and the shortest of the rest."""
    outer = event.kind in AROUND
    return event.start_us, not outer, -event.us if outer else event.us


def _within(event: Event, outer: Event) -> bool:
    """Whether ``outer`` is of a kind that holds others, and the middle of ``event`` lies in it."""
    return outer.kind in AROUND and event.start_us + event.us / 2 < outer.end_us
