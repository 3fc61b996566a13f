"""Latency against accuracy: which candidates no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .plot_labels import label
from .plot_style import (
    COLOURS,
    FAINT,
    INK,
    NORMAL,
    SMALL,
    Document,
    Key,
    bare,
    chosen,
    group,
    legend,
    log_ticks,
    measured,
    name,
    title,
)

EXACT = 1e-7
"""What is lost below this is rounding in float."""
_WIDTH, _HEIGHT = 9.0, 3.5
Point = tuple[float, float]


def picture(figure: Any, document: Document) -> bool:
    """Draw into an empty ``figure``; False where no encoder has two candidates with an accuracy.

    A panel for each encoder's session at batch 1, at the size that most were timed at. Upwards is 1 - cosine to fp32,
    or recall@10 lost where more than half of its candidates have that.
    """
    panels = _panels(document)
    if not panels:
        return False
    figure.set_size_inches(_WIDTH, 0.9 + _HEIGHT * len(panels))
    axes = figure.subplots(len(panels), 1, squeeze=False)
    drawn = []
    for axis, rows in zip(axes[:, 0], panels, strict=True):
        recall = 2 * sum(row["recall_change"] is not None for row in rows) > len(rows)
        shown = [row for row in rows if row["recall_change" if recall else "cosine"] is not None]
        drawn.append((axis, shown, *_panel(axis, shown, recall)))
    title(figure, "Latency against accuracy: lower left is better")
    legend(figure, document, (row["kind"] for _, rows, *_ in drawn for row in rows))
    for axis, rows, points, line in drawn:  # last: names need every size to be final
        label(axis, points, [name(row["candidate"]) for row in rows], SMALL, line)
    return True


def front(points: Sequence[Point]) -> list[Point]:
    """The points of which no other is at least as good in both and better in one, by the first coordinate."""
    best: list[Point] = []
    for point in sorted(set(points)):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _panels(document: Document) -> list[list[Document]]:
    found: dict[Key, list[Document]] = {}
    for row in measured(document):
        known = row["cosine"] is not None or row["recall_change"] is not None
        if row["what"] == "session" and row["batch"] == 1 and known:
            found.setdefault((row["what"], row["encoder"], row["size"]), []).append(row)
    best = chosen(document, found)
    return [sorted(rows, key=lambda row: (row["p90_ms"], row["candidate"])) for rows in best.values()]


def _lost(row: Document, recall: bool) -> float:
    return max(-float(row["recall_change"]), 0.0) if recall else max(1.0 - float(row["cosine"]), EXACT)


def _panel(axis: Any, rows: Sequence[Document], recall: bool) -> tuple[list[Point], list[Point]]:
    """Returns the points, and the corners of the front's line."""
    bare(axis, "both")
    points = [(float(row["p90_ms"]), _lost(row, recall)) for row in rows]
    fronted = front(points)
    axis.set_xscale("log")
    across, up = [x for x, _ in points], [y for _, y in points]
    spare = (max(across) / min(across)) ** 0.12 * 1.15
    left, right = min(across) / spare, max(across) * spare
    axis.set_xlim(left, right)
    if recall:
        axis.set_ylim(-0.12 * max(max(up), 0.01), 1.2 * max(max(up), 0.01))
        top = axis.get_ylim()[1]
    else:
        axis.set_yscale("log")
        low, top = min(up) / 5, max(up) * 5
        axis.set_ylim(low, top)
        _decades(axis, low, top, min(up) <= EXACT)
    steps = [(fronted[0][0], top), *fronted, (right, fronted[-1][1])]
    xs, ys = [x for x, _ in steps], [y for _, y in steps]
    axis.step(xs, ys, where="post", color=FAINT, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1)
    axis.fill_between(xs, ys, top, step="post", color="#f1f4f8", linewidth=0, zorder=0)
    for row, point in zip(rows, points, strict=True):
        edge = INK if point in fronted else "white"
        axis.scatter(*point, s=46, color=COLOURS[row["kind"]], edgecolor=edge, linewidth=1.0, zorder=3, clip_on=False)
    log_ticks(axis.xaxis, left, right)
    axis.set_xlabel("p90, ms", fontsize=NORMAL, color=INK)
    axis.set_ylabel("recall@10 lost" if recall else "1 - cosine to fp32", fontsize=NORMAL, color=INK)
    axis.set_title(name(group(rows[0]), 90), loc="left", fontsize=NORMAL, fontweight="bold", color=INK)
    corners = [corner for one, two in pairwise(steps) for corner in (one, (two[0], one[1]))]
    return points, [*corners, steps[-1]]


def _decades(axis: Any, low: float, high: float, exact: bool) -> None:
    """A tick for each power of ten; where something is at the floor, that one says that less counts as it."""
    from matplotlib.ticker import FixedLocator, NullLocator

    powers = [power for power in range(-12, 2) if low <= 10.0**power <= high]
    axis.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axis.yaxis.set_minor_locator(NullLocator())
    floor = round(math.log10(EXACT))
    axis.set_yticklabels([f"{'≤ ' if exact and power == floor else ''}$10^{{{power}}}$" for power in powers])
