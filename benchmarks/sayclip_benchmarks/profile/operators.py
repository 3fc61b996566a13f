"""Tables of a recording: time by type of operator, the slowest operators, and what lies in none of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from sayclip_benchmarks.profile.events import Event, Recording, nested

SLOWEST = 15
OUTSIDE = "not in any operator"
Timed = tuple[Event, float]


def table(recording: Recording) -> dict[str, Any]:
    """JSON-ready figures, all times in microseconds and medians over the runs, or means where no more is told.

    ``wall_us``: a run without profiler. ``types`` and ``slowest``: name or type, kernels, count in a run, ``us``
    outside operators within, ``share`` of ``wall_us``, or of all operators' time where that is more. ``outside_us``:
    what is left of ``wall_us`` after all types: checks, waking threads, copying results; below zero where profiling
    slows operators by more than that.
    """
    runs = [nested(run) for run in recording.runs]
    wall = statistics.median(recording.wall_us)
    types = _grouped(runs, lambda event: event.kind)
    nodes = _grouped(runs, lambda event: event.name)
    inside = sum(row["us"] for row in types)
    for row in (*types, *nodes):
        row["share"] = row["us"] / max(wall, inside)
    return {
        "backend": recording.backend,
        "precision": recording.precision,
        "provider": recording.provider,
        "threads": recording.threads,
        "runs": len(recording.profiled_us),
        "wall_us": wall,
        "profiled_us": statistics.median(recording.profiled_us),
        "operators_us": inside,
        "outside_us": wall - inside,
        "outside_share": (wall - inside) / max(wall, inside),
        "types": types,
        "slowest": nodes[:SLOWEST],
        "note": recording.note,
    }


def _grouped(runs: Sequence[Sequence[Timed]], key: Callable[[Event], str]) -> list[dict[str, Any]]:
    """A row for each value of ``key``, the dearest first."""
    sums: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    examples: dict[str, dict[str, Event]] = {}
    for number, run in enumerate(runs):
        for event, own in run:
            name = key(event)
            sums.setdefault(name, [0.0] * len(runs))[number] += own
            counts.setdefault(name, [0] * len(runs))[number] += 1
            examples.setdefault(name, {}).setdefault(event.kernel, event)
    rows = []
    for name, totals in sums.items():
        rows.append(
            {
                "name": name,
                "type": next(iter(examples[name].values())).kind,
                "kernels": sorted(kernel for kernel in examples[name] if kernel),
                "count": round(statistics.median(counts[name])),
                "us": statistics.median(totals),
            }
        )
    rows = [row for row in rows if row["count"]]  # some are told only in a run where they took a microsecond
    return sorted(rows, key=lambda row: (-row["us"], row["name"]))


def markdown(figures: dict[str, Any]) -> str:
    """The two tables of ``table``."""
    title = f"{figures['backend']} {figures['precision']}, {figures['provider']}, {figures['threads']} threads"
    about = f"median run {figures['wall_us']:,.0f} µs, {figures['profiled_us']:,.0f} µs while profiling"
    lines = [f"### {title}", "", f"Of {figures['runs']} runs: {about}."]
    if figures["note"]:
        lines += ["", f"{figures['note'][:1].upper()}{figures['note'][1:]}."]
    lines += ["", "| operators | kernels | number | µs | share |", "|---|---|---:|---:|---:|"]
    for row in figures["types"]:
        lines.append(f"| {row['name']} | {_kernels(row)} | {row['count']} | {row['us']:,.0f} | {row['share']:.1%} |")
    lines.append(f"| {OUTSIDE} | | | {figures['outside_us']:,.0f} | {figures['outside_share']:.1%} |")
    if figures["outside_us"] < 0:
        lines += ["", "Below zero: profiling slows operators by more than lies outside them; shares are of their sum."]
    lines += ["", "| slowest | operator | kernel | µs | share |", "|---|---|---|---:|---:|"]
    for row in figures["slowest"]:
        lines.append(
            f"| {_cell(row['name'])} | {row['type']} | {_kernels(row)} | {row['us']:,.0f} | {row['share']:.1%} |"
        )
    return "\n".join([*lines, ""])


def _kernels(row: dict[str, Any]) -> str:
    return _cell(", ".join(row["kernels"][:3]) + (", …" if len(row["kernels"]) > 3 else ""))


def _cell(text: str) -> str:
    short = text if len(text) <= 60 else "…" + text[-59:]
    return short.replace("|", "\\|")
