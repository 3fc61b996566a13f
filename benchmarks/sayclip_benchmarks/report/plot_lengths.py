"""Latency against the length of the input: a line for each candidate, named where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .plot_style import COLOURS, INK, NORMAL, SMALL, Document, bare, legend, log_ticks, measured, name, spread, title

_UNITS = {" s": "seconds of speech", " tokens": "tokens", " phonemes": "phonemes"}
_MARKS = "os^Dvp*hX<>"
_STYLES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))


def picture(figure: Any, document: Document) -> bool:
    """Draw into an empty ``figure``; False where no candidate was timed at two lengths.

    Sessions of batch 1; the band reaches from p50 to p90.
    """
    panels = _panels(document)
    if not panels:
        return False
    tallest = max(len(lines) for lines in panels.values())
    figure.set_size_inches(9.0, 1.1 + len(panels) * max(3.2, 0.21 * tallest + 0.9))
    axes = figure.subplots(len(panels), 1, squeeze=False)
    for axis, ((encoder, unit), lines) in zip(axes[:, 0], panels.items(), strict=True):
        _lines(axis, lines)
        axis.set_title(name(encoder), loc="left", fontsize=NORMAL, fontweight="bold", color=INK)
        axis.set_xlabel(unit, fontsize=NORMAL, color=INK)
        axis.set_ylabel("ms, p50 (band to p90)", fontsize=NORMAL, color=INK)
    title(figure, "Latency against length of the input")
    legend(figure, document, (rows[0]["kind"] for lines in panels.values() for rows in lines))
    return True


def _panels(document: Document) -> dict[tuple[str, str], list[list[Document]]]:
    """Rows of each candidate by length, for each encoder and unit."""
    found: dict[tuple[str, str], dict[str, dict[float, Document]]] = {}
    for row in measured(document):
        unit = next((words for end, words in _UNITS.items() if row["size"].endswith(end)), None)
        if row["what"] == "session" and row["batch"] == 1 and unit and row["amount"] > 0:
            lines = found.setdefault((str(row["encoder"]), unit), {})
            lines.setdefault(row["candidate"], {}).setdefault(row["amount"], row)
    panels = {
        key: [[rows[amount] for amount in sorted(rows)] for rows in lines.values() if len(rows) > 1]
        for key, lines in found.items()
    }
    return {key: lines for key, lines in panels.items() if lines}


def _lines(axis: Any, lines: Sequence[Sequence[Document]]) -> None:
    bare(axis, "both")
    axis.set_yscale("log")
    seen: dict[str, int] = {}
    for rows in lines:
        kind = rows[0]["kind"]
        rank = seen[kind] = seen.get(kind, -1) + 1
        amounts, middle = [row["amount"] for row in rows], [row["p50_ms"] for row in rows]
        style = {
            "color": COLOURS[kind],
            "linestyle": _STYLES[rank % len(_STYLES)],
            "marker": _MARKS[rank % len(_MARKS)],
        }
        front = {"sayclip": 4, "torch": 3}.get(kind, 2)
        axis.plot(amounts, middle, linewidth=1.7, markersize=4.5, zorder=front, **style)
        high = [max(row["p90_ms"], row["p50_ms"]) for row in rows]
        axis.fill_between(amounts, middle, high, color=COLOURS[kind], alpha=0.12, linewidth=0, zorder=1)
    every = [row for rows in lines for row in rows]
    high = max(max(row["p50_ms"], row["p90_ms"]) for row in every) * 1.25
    low = min(min(row["p50_ms"] for row in every) / 1.35, high / 4)
    axis.set_ylim(low, high)
    last = max(row["amount"] for row in every)
    axis.set_xlim(0, last * 1.02)
    axis.set_xticks(sorted({row["amount"] for row in every}))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    log_ticks(axis.yaxis, low, high)
    _names(axis, lines, last, low, high)


def _names(axis: Any, lines: Sequence[Sequence[Document]], last: float, low: float, high: float) -> None:
    """Every line's name right of the axis, as near to its end as the others allow."""
    inches = axis.figure.get_figheight() / len(axis.figure.axes) - 1.15
    span = math.log10(high / low)
    ends = [math.log10(rows[-1]["p50_ms"]) for rows in lines]
    places = spread(ends, 0.155 / inches * span, math.log10(low), math.log10(high))
    for rows, end, place in zip(lines, ends, places, strict=True):
        colour = COLOURS[rows[0]["kind"]]
        axis.annotate(
            name(rows[0]["candidate"]),
            xy=(rows[-1]["amount"], 10**end),
            xytext=(last * 1.06, 10**place),
            va="center",
            fontsize=SMALL,
            color=INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )
