"""The pictures of the page: retrieval by arm, boundaries and numbers of units, and single utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sayclip_training.claims.figures import BLUE, DARK, GREEN, GREY, INK, ORANGE, PURPLE, bare, write
from sayclip_training.claims.segments.arms import MAIN, REGULARISE
from sayclip_training.claims.segments.summary import SPLITS, baselines, embeddings, recalled, splits, with_edges
from sayclip_training.claims.spread import Spread, over
from sayclip_training.claims.study import Arms, Result
from sayclip_training.testbed.splits import VOICE

SHOWN = 3  # utterances
FEWER, MORE = -5, 10  # where the histogram's outer bars begin
_WIDTH, _HEIGHT = 9.2, 0.66  # of a timeline and of its bars, in inches
_LETTER, _LINE, _SMALLEST = 0.6, 1.25, 7.0  # width of a letter and height of a line for size 1; the least size
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def draw(arms: Arms, folder: Path, stem: str) -> list[Path]:
    """Write the pictures that ``arms`` have the figures for to ``folder``/``stem``-…png; their paths."""
    made = [write(folder / f"{stem}-found.png", (10.5, 7), lambda figure: _found(figure, arms))]
    main = arms.get(MAIN, [])
    if main:
        made.append(write(folder / f"{stem}-units.png", (10.5, 4.4), lambda figure: _units(figure, arms)))
        shown = arms.get(REGULARISE, main)[0].get("examples", [])[:SHOWN]
        if shown:
            inches = (10.5, 2.25 * len(shown) + 0.3)
            made.append(write(folder / f"{stem}-heard.png", inches, lambda figure: _heard(figure, shown)))
    return made


def _found(figure: Any, arms: Arms) -> None:
    bars = [(arm, name) for arm, seeds in arms.items() for name in embeddings(seeds)]
    labels = [_label(arm, name, arms) for arm, name in bars]
    there = splits([seed for seeds in arms.values() for seed in seeds])
    axes = figure.subplots(2, 1, sharex=True)
    for axis, depth in zip(axes, (1, 10), strict=True):
        for place, (split, colour) in enumerate(zip(there, COLOURS, strict=False)):
            found = [recalled(arms[arm], split, depth, name) for arm, name in bars]
            width = 0.84 / len(there)
            at = [number + width * (place - (len(there) - 1) / 2) for number in range(len(bars))]
            _bars(axis, at, found, width, colour, SPLITS[split])
        axis.set_ylabel(f"R@{depth}, %", fontsize=9.5)
        axis.set_ylim(0, 1.12 * max(5, axis.get_ylim()[1]))
        bare(axis)
    axes[1].set_xlim(-0.6, len(bars) - 0.4)
    axes[1].set_xticks(range(len(bars)), labels, fontsize=9)
    figure.suptitle("Recordings among all pictures", fontsize=12, color=INK)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=9, ncols=len(there), loc="outside lower center")


def _label(arm: str, name: str, arms: Arms) -> str:
    text = arm.replace(", ", ",\n")
    return f"{text},\n{name}" if len(embeddings(arms[arm])) > 1 else text


def _bars(axis: Any, at: Sequence[float], found: Sequence[Spread], width: float, colour: str, label: str) -> None:
    axis.bar(at, [100 * one.mean for one in found], 0.92 * width, color=colour, label=label)
    for x, one in zip(at, found, strict=True):
        top = 100 * (one.mean + one.deviation)
        if one.n > 1:
            axis.errorbar(x, 100 * one.mean, 100 * one.deviation, color=INK, linewidth=1, capsize=1.5)
        axis.annotate(
            f"{100 * one.mean:.0f}", (x, top), (0, 2), textcoords="offset points", ha="center", fontsize=7, color=INK
        )


def _units(figure: Any, arms: Arms) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _histogram(left, arms[MAIN])
    _boundaries(right, arms)


def _histogram(axis: Any, main: Sequence[Result]) -> None:
    counted = [_shares(seed["more_units"]) for seed in main]
    places = list(range(FEWER, MORE + 1))
    shares = [Spread.of(one.get(place, 0.0) for one in counted) for place in places]
    colours = [BLUE if abs(place) <= 1 else GREY for place in places]
    axis.bar(places, [100 * one.mean for one in shares], 0.85, color=colours)
    labels = {FEWER: f"≤ {FEWER}".replace("-", "\N{MINUS SIGN}"), 0: "0", 5: "5", MORE: f"≥ {MORE}"}
    axis.set_xticks(list(labels), list(labels.values()))
    axis.set_xlabel("units less words", fontsize=9.5)
    axis.set_ylabel("utterances of unseen voices, %", fontsize=9.5)
    axis.set_title(f"{MAIN}: how many units", fontsize=11, color=INK)
    bare(axis)


def _shares(more: Mapping[str, int]) -> dict[int, float]:
    total = sum(more.values())
    found: dict[int, float] = {}
    for name, count in more.items():
        place = min(max(int(name), FEWER), MORE)
        found[place] = found.get(place, 0.0) + count / total
    return found


def _boundaries(axis: Any, arms: Arms) -> None:
    rows: list[tuple[str, dict[str, Spread]]] = []
    for arm, seeds in with_edges(arms).items():
        rows.append((arm, {name: over(seeds, "scores", VOICE, name) for name in ("f1", "precision", "recall")}))
    for label, found in baselines(arms[MAIN]).items():
        rows.append((label, {name: Spread.of([found[VOICE][name]]) for name in ("f1", "precision", "recall")}))
    for place, (name, colour) in enumerate(zip(("f1", "precision", "recall"), (BLUE, ORANGE, GREEN), strict=True)):
        at = [number + 0.27 * (place - 1) for number in range(len(rows))]
        _bars(axis, at, [found[name] for _, found in rows], 0.27, colour, "F1" if name == "f1" else name)
    axis.set_xticks(range(len(rows)), [_wrapped(label) for label, _ in rows], fontsize=8)
    axis.set_ylabel("%", fontsize=9.5)
    axis.set_ylim(0, 1.12 * axis.get_ylim()[1])
    bare(axis)
    axis.tick_params(axis="x", labelsize=8)
    axis.legend(frameon=False, fontsize=9, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.19))
    axis.set_title("Boundaries within 40 ms, unseen voices", fontsize=11, color=INK)


def _wrapped(label: str) -> str:
    words = label.replace(", their number given", ",\nnumber given").replace("detector without", "detector\nwithout")
    return words.replace("segmental, ", "segmental,\n").replace("evenly ", "evenly\n")


def _heard(figure: Any, shown: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, one in zip(axes, shown, strict=True):
        end = max(one["edges"][-1], *(word[2] for word in one["words"]))
        for word, start, stop in one["words"]:
            _span(axis, (start, stop), 1, DARK, word, end)
        spans = zip(one["edges"], one["edges"][1:], one["names"], one["scores"], strict=False)
        for place, (start, stop, name, score) in enumerate(spans):
            _span(axis, (start, stop), 0, BLUE if place % 2 else "#5b8fc4", f"{name}\n{score:.2f}", end)
        axis.set_xlim(0, end)
        axis.set_ylim(-0.5, 1.5)
        axis.set_yticks([1, 0], ["words", "units"], fontsize=9.5)
        axis.set_title(f"“{one['caption']}”", fontsize=10, color=INK, loc="left")
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="x", labelsize=8.5)
        axis.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("seconds", fontsize=9.5)


def _span(axis: Any, span: tuple[float, float], height: float, colour: str, text: str, end: float) -> None:
    """A bar with its text, which stands upright where it is narrow; where it is narrower yet, the first line alone."""
    start, stop = span
    axis.barh(height, stop - start, 0.9, left=start, color=colour, edgecolor="white", linewidth=1)
    lines = text.split("\n")
    longest = max(map(len, lines))
    points = 72 * _WIDTH * (stop - start) / end
    size, upright = points / (_LETTER * longest), False
    if size < _SMALLEST:
        upright = True
        shown = lines if points >= _LINE * _SMALLEST * len(lines) else lines[:1]
        text, size = "\n".join(shown), min(72 * _HEIGHT / (_LETTER * longest), points / (_LINE * len(shown)))
    axis.text(
        *((start + stop) / 2, height, text), color="white", fontsize=min(9.0, size),
        ha="center", va="center", rotation=90 if upright else 0, clip_on=True,
    )  # fmt: skip
