"""What the pictures of results have in common: colours by kind of candidate, sizes of letters, names that fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .wording import QUERIES

Document = Mapping[str, Any]
Key = tuple[Any, ...]
COLOURS = {"sayclip": "#1f5fa8", "direct": "#8fb4dc", "torch": "#e08214", "peer": "#8d8d8d"}
KINDS = {
    "sayclip": "sayclip",
    "direct": "the same graph, without sayclip",
    "torch": "PyTorch",
    "peer": "other packages",
}
INK, FAINT = "#222222", "#666666"
SMALL, NORMAL, LARGE = 8.5, 9.5, 12.0
_LONGEST = 40


def measured(document: Document) -> list[Document]:
    """The rows that have figures."""
    return [row for row in document["rows"] if row["status"] == "ok"]


def name(text: str, longest: int = _LONGEST) -> str:
    """A name as a picture shows it: printable, not too long, and its dollar signs begin no formula."""
    text = "".join(character if character.isprintable() else " " for character in text)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def group(row: Document) -> str:
    """What a group of rows measures, in words."""
    encoder = row["encoder"] or ""
    what = {"session": "the graph alone", "encoder": "preprocessing and graph"}.get(row["what"], row["what"])
    if row["what"] == "query":
        encoder, what = f"{QUERIES.get(encoder, encoder)} query", "input to top 10"
    batch = f"batch {row['batch']}" if row["batch"] > 1 else ""
    return ", ".join(part for part in (encoder, row["size"], batch) if part) + f": {what}"


def bare(axis: Any, grid: str = "x") -> None:
    """Leave out the frame, draw faint lines behind."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#b0b0b0")
    axis.grid(axis=grid, which="major", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=SMALL, color="#b0b0b0", labelcolor=INK, which="both")


def log_ticks(side: Any, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis from ``low`` to ``high``; 1, 2 and 5 of each power where there are few."""
    from matplotlib.ticker import FixedLocator, NullLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 5 else (1,)
    places = [step * 10.0**decade for decade in decades for step in steps]
    side.set_major_locator(FixedLocator([place for place in places if low <= place <= high]))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(lambda value, _: f"{value:g}")


def chosen(document: Document, groups: Mapping[Key, list[Document]]) -> dict[Key, list[Document]]:
    """Of groups by (what, encoder, size) one for each what and encoder, of two rows or more: that with most of them.

    Among equals the size that whole queries or whole encoders were timed at, else the first.
    """
    typical = {(row["encoder"], row["size"]) for row in measured(document) if row["what"] in ("query", "encoder")}
    best: dict[Key, list[Document]] = {}
    worth: dict[Key, tuple[int, bool]] = {}
    for (what, encoder, size), rows in groups.items():
        value = len(rows), (encoder, size) in typical
        if len(rows) >= 2 and value > worth.get((what, encoder), (0, False)):
            best[what, encoder], worth[what, encoder] = rows, value
    return best


def legend(figure: Any, document: Document, kinds: Iterable[str]) -> None:
    """One legend for the figure, of the kinds that are drawn, at its lower edge."""
    present = set(kinds)
    patches(figure, document, [(words, COLOURS[kind]) for kind, words in KINDS.items() if kind in present])


def patches(figure: Any, document: Document, entries: Sequence[tuple[str, str]]) -> None:
    """A legend of words with their colours in a row, over it the bundle and the processor that were measured."""
    from matplotlib.patches import Patch

    machine = str(document["environment"].get("cpu", ""))
    where = " on ".join(part for part in (name(document["bundle"]["name"]), name(machine, 50)) if part)
    handles = [Patch(facecolor=colour, label=words) for words, colour in entries]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=SMALL,
        frameon=False,
        title=where,
        title_fontproperties={"size": SMALL},
        labelcolor=INK,
    ).get_title().set_color(FAINT)


def title(figure: Any, words: str) -> None:
    """What the picture shows."""
    figure.suptitle(words, fontsize=LARGE, fontweight="bold", color=INK)


def spread(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """``places`` moved until neighbours are ``least`` apart, within ``low`` and ``high`` if they fit."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    clusters: list[tuple[float, list[int]]] = []  # centre, members in order
    for index in order:
        clusters.append((places[index], [index]))
        while len(clusters) > 1:
            (one, left), (two, right) = clusters[-2:]
            if two - one >= least * (len(left) + len(right)) / 2:
                break
            both = [*left, *right]
            clusters[-2:] = [(sum(places[member] for member in both) / len(both), both)]
    moved = [0.0] * len(places)
    for centre, members in clusters:
        for rank, member in enumerate(members):
            moved[member] = centre + least * (rank - (len(members) - 1) / 2)
    for before, index in zip([None, *order], order, strict=False):  # from below: nothing under the edge
        edge = low if before is None else moved[before] + least
        moved[index] = max(moved[index], edge)
    for after, index in zip([None, *order[::-1]], order[::-1], strict=False):
        edge = high if after is None else moved[after] - least
        moved[index] = min(moved[index], edge)
    return moved
