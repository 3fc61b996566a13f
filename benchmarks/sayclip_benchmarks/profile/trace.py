"""One median run as a trace file that Perfetto (ui.perfetto.dev) and Chrome (about:tracing) open.

The format is Chrome's trace events in JSON: a process for each backend, named by metadata events, and on its one thread
complete events (``"ph": "X"``, ``ts`` and ``dur`` in microseconds): the run, and within it the operators. Where a
profiler tells how long operators took but not when, as OpenVINO's does, they lie end to end in their order.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sayclip_benchmarks.profile.events import Event, Recording, nested


def median_run(recording: Recording) -> tuple[float, tuple[Event, ...]]:
    """The run whose time while profiling is the middle one: that time, in microseconds, and its operators, or means."""
    if len(recording.runs) == 1:
        return statistics.median(recording.profiled_us), recording.runs[0]
    order = sorted(range(len(recording.runs)), key=lambda number: recording.profiled_us[number])
    middle = order[(len(order) - 1) // 2]
    return recording.profiled_us[middle], recording.runs[middle]


def trace(recordings: Sequence[Recording], title: str) -> dict[str, Any]:
    """The JSON-ready trace of the recordings, which ``title`` tells from others."""
    events: list[dict[str, Any]] = []
    for process, recording in enumerate(recordings, start=1):
        label = f"{recording.backend} {recording.precision} ({recording.provider})"
        place = {"pid": process, "tid": 1}
        events.append({"ph": "M", "name": "process_name", **place, "args": {"name": label}})
        events.append({"ph": "M", "name": "process_sort_index", **place, "args": {"sort_index": process}})
        starts = "as they ran" if recording.real_starts else "end to end, their starts are not known"
        events.append({"ph": "M", "name": "thread_name", **place, "args": {"name": f"operators, {starts}"}})
        wall, run = median_run(recording)
        placed = nested(run)
        end = max([wall, *(event.end_us for event, _ in placed)])
        events.append({"ph": "X", "name": title, "cat": "run", "ts": 0.0, "dur": end, **place})
        for event, own in placed:
            about = {"operator": event.kind, "kernel": event.kernel, "own_us": own, "sources": ", ".join(event.sources)}
            times = {"ts": event.start_us, "dur": event.us}
            events.append({"ph": "X", "name": event.name, "cat": event.kind, **times, **place, "args": about})
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"title": title}}


def write(path: str | os.PathLike[str], recordings: Sequence[Recording], title: str) -> None:
    """Write ``trace`` to ``path`` as JSON. Raises OSError."""
    text = json.dumps(trace(recordings, title), ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")
