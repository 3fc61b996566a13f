"""The pictures of the page: phonemes on a plane, what spellings find, and the share of the sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sayclip_training.claims.figures import BLUE, DARK, GREEN, GREY, INK, ORANGE, PURPLE, bare, write
from sayclip_training.claims.pronunciation.arms import MAIN, RANDOM
from sayclip_training.claims.pronunciation.summary import best_share, gain, kinds
from sayclip_training.claims.spread import over
from sayclip_training.claims.study import Arms, Result
from sayclip_training.claims.testbed import LEARNT

SOUND, TEXT, BOTH = BLUE, ORANGE, GREEN


def draw(arms: Arms, folder: Path, stem: str) -> list[Path]:
    """Write the pictures that ``arms`` have the figures for to ``folder``/``stem``-…png; their paths."""
    made = []
    main = arms.get(MAIN, [])
    if main:
        made.append(write(folder / f"{stem}-map.png", (10, 8.4), lambda figure: _map(figure, arms)))
        made.append(write(folder / f"{stem}-found.png", (9, 4.2), lambda figure: _found(figure, main)))
        made.append(write(folder / f"{stem}-share.png", (9, 4.2), lambda figure: _shares(figure, main)))
    return made


def _map(figure: Any, arms: Arms) -> None:
    shown = [(name, arms[name][0]) for name in (MAIN, RANDOM) if arms.get(name)]
    kinds_of_sound = (("consonant", "consonants", SOUND), ("vowel", "vowels", TEXT))
    grid = figure.subplots(len(shown), len(kinds_of_sound), squeeze=False)
    for row, (name, result) in zip(grid, shown, strict=True):
        for axis, (kind, plural, colour) in zip(row, kinds_of_sound, strict=True):
            for symbol, its_kind, x, y in result["phonemes"]["map"]:
                if its_kind == kind:
                    axis.text(x, y, symbol, color=colour, fontsize=11, ha="center", va="center")
            axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[])
            correlation = result["phonemes"][plural]
            axis.set_title(f"{name}, {plural}: rank correlation {correlation:.2f}", fontsize=10, color=INK)
    title = "Embedded phonemes, the two directions of largest variance (seed 0)"
    figure.suptitle(title, fontsize=12, color=INK)


def _found(figure: Any, main: Sequence[Result]) -> None:
    axis = figure.subplots()
    share, asked = str(best_share(main)), kinds(main, LEARNT)
    ways = (
        (("text",), TEXT, "as text"),
        (("sound",), SOUND, "by its sound"),
        (("either", share), BOTH, f"by the nearer of both, share {share}"),
    )
    for place, (path, colour, label) in enumerate(ways):
        found = [over(main, "retrieval", kind, LEARNT, *path, "r10") for kind in asked]
        at = [number + 0.26 * (place - 1) for number in range(len(asked))]
        axis.bar(at, [100 * one.mean for one in found], 0.24, color=colour, label=label)
        for x, one in zip(at, found, strict=True):
            axis.errorbar(x, 100 * one.mean, 100 * one.deviation, color=INK, linewidth=1, capsize=2)
            axis.text(x, 100 * one.mean + 1.5, f"{100 * one.mean:.0f}", ha="center", fontsize=8, color=INK)
    axis.set_xticks(range(len(asked)), asked, fontsize=9)
    axis.set_ylabel("R@10, %", fontsize=9.5)
    axis.set_ylim(0, 112)
    bare(axis)
    axis.legend(frameon=False, fontsize=9, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axis.set_title("Names that were learnt, spelled in five ways", fontsize=12, color=INK)


def _shares(figure: Any, main: Sequence[Result]) -> None:
    colours = (BLUE, ORANGE, GREEN, PURPLE, DARK)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, way, label in zip(axes, ("either", "added"), ("the nearer of both", "the sum of both"), strict=True):
        shares = list(main[0]["retrieval"]["clean"][LEARNT][way])
        for kind, colour in zip(kinds(main, LEARNT), colours, strict=False):
            found = [gain(main, kind, LEARNT, way, share) for share in shares]
            values = [100 * one.mean for one in found]
            axis.plot([float(share) for share in shares], values, color=colour, label=kind, marker=".")
        axis.axhline(0, color=GREY, linewidth=1)
        axis.set_title(label, fontsize=10.5, color=INK)
        axis.set_xlabel("share of the sound", fontsize=9.5)
        bare(axis)
    axes[0].set_ylabel("R@10 less the better one's, points", fontsize=9.5)
    axes[0].set_ylim(-8, 3)
    axes[0].axvline(best_share(main), color=INK, linewidth=1, linestyle=":")
    axes[1].legend(frameon=False, fontsize=8.5)
