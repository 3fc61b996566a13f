"""A cold start as a waterfall: importing, loading and the first result, one after another, for each candidate."""

from __future__ import annotations

from typing import Any

from .plot_style import FAINT, INK, NORMAL, SMALL, Document, bare, name, patches, title
from .wording import figure as digits

_PARTS = {
    "import_s": ("import", "#c9d8ea", INK),
    "load_s": ("load", "#6f9bcf", "white"),
    "first_s": ("first result", "#1f5fa8", "white"),
}
_NARROWEST = 0.065  # of the axis: below, a part's seconds do not fit into it


def picture(figure: Any, document: Document) -> bool:
    """Draw into an empty ``figure``; False where nothing started."""
    groups: dict[str, list[Document]] = {}
    for start in document["cold"]:
        if start["status"] == "ok" and start["total_s"] > 0:
            groups.setdefault(start["what"], []).append(start)
    if not groups:
        return False
    counts = [len(starts) for starts in groups.values()]
    figure.set_size_inches(9.0, 1.55 + sum(0.42 * count + 0.45 for count in counts))
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=[count + 0.4 for count in counts])
    longest = max(start["total_s"] for starts in groups.values() for start in starts)
    for axis, (what, starts) in zip(axes[:, 0], groups.items(), strict=True):
        _bars(axis, sorted(starts, key=lambda start: start["total_s"]), longest)
        axis.set_title(name(what, 90), loc="left", fontsize=NORMAL, fontweight="bold", color=INK)
    axes[-1, 0].set_xlabel("seconds from the start of a fresh process", fontsize=NORMAL, color=INK)
    title(figure, "Cold start")
    patches(figure, document, [(words, colour) for words, colour, _ in _PARTS.values()])
    return True


def _bars(axis: Any, starts: list[Document], longest: float) -> None:
    bare(axis)
    for height, start in enumerate(starts):
        left = 0.0
        for place, (part, (_, colour, ink)) in enumerate(_PARTS.items()):
            width = start[part]
            axis.barh(height, width, left=left, height=0.62, color=colour, linewidth=0, zorder=2)
            if place and left:
                axis.plot([left, left], [height - 0.42, height + 0.42], color="white", linewidth=1.2, zorder=3)
            if width >= _NARROWEST * longest:
                words = digits(width, 2)
                axis.text(
                    left + width / 2, height, words, ha="center", va="center", fontsize=SMALL, color=ink, zorder=4
                )
            left += width
        later = start["steady_s"] * 1000.0
        memory = "" if start["rss_bytes"] is None else f", {start['rss_bytes'] / 1e6:,.0f} MB"
        axis.text(
            left + 0.01 * longest,
            height,
            f"{digits(start['total_s'], 2)} s",
            va="bottom",
            fontsize=SMALL,
            color=INK,
            fontweight="bold",
        )
        axis.text(
            left + 0.01 * longest,
            height + 0.03,
            f"later {digits(later, 1)} ms{memory}",
            va="top",
            fontsize=SMALL - 1.0,
            color=FAINT,
        )
    axis.set_yticks(range(len(starts)), [name(start["candidate"]) for start in starts], fontsize=SMALL)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(starts) - 0.45, -0.55)
    axis.set_xlim(0, longest * 1.24)
