"""Bars of speed-up over the baseline, with 95 % intervals, grouped by what was measured."""

from __future__ import annotations

from typing import Any

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
    measured,
    name,
    title,
)
from .wording import candidate, times

_BAR_INCHES = 0.225
_ORDER = {"query": 0, "encoder": 1, "session": 2}


def picture(figure: Any, document: Document) -> bool:
    """Draw into an empty ``figure``; False where there is nothing to draw.

    A group is one encoder's session at batch 1 and the size that most candidates were timed at, or picture to
    embedding, or a whole query.
    """
    groups = _groups(document)
    if not groups:
        return False
    counts = [len(rows) for rows in groups]
    figure.set_size_inches(9.0, 1.5 + sum(_BAR_INCHES * count + 0.45 for count in counts))
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=[count + 0.6 for count in counts])
    everything = [row for rows in groups for row in rows]
    furthest = max(_ends(row)[1] for row in everything)
    for axis, rows in zip(axes[:, 0], groups, strict=True):
        _bars(axis, rows, furthest)
    hatched = "; hatched: noisy" if any(row["noisy"] for row in everything) else ""
    words = f"times as fast, by medians; lines: 95 % intervals{hatched}"
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[-1, 0].set_xlabel(words, fontsize=NORMAL, color=INK)
    title(figure, f"Speed-up over {name(document['method']['baseline'] or 'the baseline')}")
    legend(figure, document, (row["kind"] for row in everything))
    return True


def _groups(document: Document) -> list[list[Document]]:
    found: dict[Key, list[Document]] = {}
    for row in measured(document):
        if row["what"] in _ORDER and row["batch"] == 1 and row["speedup"] is not None:
            found.setdefault((row["what"], row["encoder"], row["size"]), []).append(row)
    best = chosen(document, found)
    encoders = list(dict.fromkeys(encoder for _, encoder in best))
    keys = sorted(best, key=lambda key: (encoders.index(key[1]), _ORDER[key[0]]))
    return [sorted(best[key], key=lambda row: -row["speedup"]) for key in keys]


def _ends(row: Document) -> tuple[float, float]:
    low, high = row["speedup_ci"] or (row["speedup"], row["speedup"])
    return min(low, row["speedup"]), max(high, row["speedup"])


def _bars(axis: Any, rows: list[Document], furthest: float) -> None:
    bare(axis)
    for height, row in enumerate(rows):
        value, (low, high) = row["speedup"], _ends(row)
        bar = axis.barh(height, value, height=0.74, color=COLOURS[row["kind"]], linewidth=0, zorder=2)
        if row["noisy"]:
            bar.patches[0].set(hatch="////", edgecolor="white")
        axis.errorbar(
            value, height, xerr=[[value - low], [high - value]], color=INK, elinewidth=1.0, capsize=2.2, zorder=3
        )
        axis.text(high + 0.012 * furthest, height, times(value), va="center", fontsize=SMALL, color=INK, clip_on=False)
    axis.axvline(1.0, color=FAINT, linewidth=1.0, linestyle=(0, (3, 2)), zorder=4)
    axis.set_yticks(range(len(rows)), [name(candidate(row)) for row in rows], fontsize=SMALL)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["kind"] == "sayclip" else "normal")
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, furthest * 1.1)
    axis.set_title(name(group(rows[0]), 90), loc="left", fontsize=NORMAL, color=INK, fontweight="bold")
