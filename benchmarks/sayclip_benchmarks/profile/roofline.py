"""How near operators come to the machine's ceilings: the roofline of Williams, Waterman and Patterson (2009).

An operator that makes ``o`` operations on ``b`` bytes takes at least ``max(o / product ceiling, b / copy ceiling)``;
its share of the roofline is that time by the one it took. Products that find their weights in a cache can beat that.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from sayclip_benchmarks.profile.ceilings import Ceilings
from sayclip_benchmarks.profile.events import Event, Recording, nested
from sayclip_benchmarks.profile.work import Work, matched

_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def numbers_of(event: Event) -> str:
    """What an operator multiplies, by its kernel's name: ``int8``, ``bf16`` or ``fp32``."""
    kernel = event.kernel.lower()
    if kernel.endswith(("i8", "u8", "int8")):
        return "int8"
    return "bf16" if kernel.endswith(("bf16", "bfloat16")) else "fp32"


def roofline(
    recording: Recording, work: Mapping[str, Work], ceilings: Ceilings, sums: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """JSON-ready: ``ceilings``; ``rows`` by type of operator and number, and ``whole``, all products; each with
    ``count``, ``us``, ``gigaoperations``, ``megabytes``, ``gops`` (attained, thousand millions a second) and ``share``
    (of the roofline, from 0 to about 1; null without a ceiling). ``unmatched``: the share of the graph's operations
    that no operator of this backend was found for. ``graph_gops``: all of them by the graph's time without profiler.
    """
    runs = [nested(run) for run in recording.runs]
    totals: dict[str, list[float]] = {}
    for number, run in enumerate(runs):
        for event, own in run:
            totals.setdefault(event.name, [0.0] * len(runs))[number] += own
    first = {event.name: event for event, _ in runs[0]}
    claimed = matched(((event.name, *event.sources) for event in first.values()), work, sums)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for event, products in zip(first.values(), claimed, strict=True):
        if not products:
            continue
        numbers = numbers_of(event)
        parts = [work[name] for name in products]
        operations = 2.0 * sum(part.multiplications for part in parts)
        # int8 products give float32, or what the next operator takes: at most that much is written.
        moved = sum(part.read * _BYTES[numbers] + part.written * (2 if numbers == "bf16" else 4) for part in parts)
        row = rows.setdefault(
            (event.kind, numbers), dict.fromkeys(("count", "us", "operations", "bytes", "least_us"), 0.0)
        )
        best = ceilings.best(numbers)
        row["count"] += 1
        row["us"] += statistics.median(totals[event.name])
        row["operations"] += operations
        row["bytes"] += moved
        row["least_us"] += max(operations / best / 1e3, moved / ceilings.copied / 1e3) if best else float("nan")
    everything = 2.0 * sum(part.multiplications for part in work.values())
    there = sum(row["operations"] for row in rows.values())
    whole = {key: sum(row[key] for row in rows.values()) for key in ("count", "us", "operations", "bytes", "least_us")}
    ordered = sorted(rows.items(), key=lambda item: -item[1]["us"])
    return {
        "ceilings": told(ceilings),
        "rows": [{"operator": kind, "numbers": numbers, **_figures(row)} for (kind, numbers), row in ordered],
        "whole": _figures(whole),
        "unmatched": 1.0 - there / everything if everything else 0.0,
        "graph_gops": everything / statistics.median(recording.wall_us) / 1e3,
    }


def told(ceilings: Ceilings) -> dict[str, Any]:
    """The ceilings, JSON-ready."""
    return {"gops": ceilings.gops, "copied_gigabytes": ceilings.copied, "missing": ceilings.missing}


def _figures(row: Mapping[str, float]) -> dict[str, Any]:
    us, least = row["us"], row["least_us"]
    return {
        "count": int(row["count"]),
        "us": us,
        "gigaoperations": row["operations"] / 1e9,
        "megabytes": row["bytes"] / 1e6,
        "gops": row["operations"] / us / 1e3 if us else None,
        "share": least / us if us and least == least else None,
    }


def markdown(figures: Mapping[str, Any]) -> str:
    """The ceilings in a line, and a row for each type of operator."""
    ceilings = figures["ceilings"]
    limits = [
        f"{numbers} {gops:,.0f} GOP/s ({by})"
        for numbers, found in ceilings["gops"].items()
        for by, gops in found.items()
    ]
    limits += [f"{numbers} not known ({why})" for numbers, why in ceilings["missing"].items()]
    lines = [f"Ceilings: {', '.join(limits)}; a copy moves {ceilings['copied_gigabytes']:,.1f} GB/s.", ""]
    if "why" in figures:
        return "\n".join([*lines, f"No operator is held against them: {figures['why']}.", ""])
    lines += ["| products | numbers | number | µs | GOP | MB | GOP/s | of the roofline |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for row in figures["rows"]:
        lines.append(f"| {row['operator']} | {row['numbers']} | {_cells(row)} |")
    lines.append(f"| all of them | | {_cells(figures['whole'])} |")
    lines += ["", f"The whole graph: {figures['graph_gops']:,.0f} GOP/s."]
    if figures["unmatched"] > 0.0005:
        lines[-1] += f" No operator was found for {figures['unmatched']:.1%} of its operations."
    return "\n".join([*lines, ""])


def _cells(row: Mapping[str, Any]) -> str:
    gops = "" if row["gops"] is None else f"{row['gops']:,.1f}"
    share = "" if row["share"] is None else f"{row['share']:.1%}"
    amounts = f"{row['us']:,.0f} | {row['gigaoperations']:.3f} | {row['megabytes']:,.2f}"
    return f"{row['count']} | {amounts} | {gops} | {share}"
