"""The table of the README from one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.errors import SayclipError


@dataclass(frozen=True)
class Row:
    """One line of the table; ``holds`` None where nothing was wanted."""

    figure: str
    wanted: str
    seen: str
    int8: str = ""
    holds: bool | None = None


# key, figure, least share wanted of fp32
_FOUND = (
    ("speech_r1", "speech → picture, held-out voice says every trained name, R@1", 0.75),
    ("speech_r10", "the same, R@10", 0.94),
    ("text_r1", "trained name, typed → picture, R@1", 0.97),
    ("ipa_r1", "its IPA → picture, R@1", 0.90),
    ("keyword_r5", "trained keyword, typed → a picture that bears it, among 5", 0.97),
)
_SWAP = ("ipa_compound_r1", "ipa_swapped_r1")
_HELD_OUT = (
    ("held_speech_r1", "held-out name, spoken, R@1"),
    ("held_speech_r10", "held-out name, spoken, R@10"),
    ("held_text_r1", "held-out name, typed, R@1"),
    ("held_text_r10", "held-out name, typed, R@10"),
    ("held_ipa_r1", "held-out name, IPA, R@1"),
    ("held_pair_r5", "held-out (picture, keyword) pair, typed, that picture among 5"),
    ("held_pair_r50", "the same, among 50"),
)


def rows(report: Mapping[str, Any]) -> list[Row]:
    """All lines for a report of ``sayclip bench demo``."""
    return [*_accuracy(report), *_speed(report["speed"])]


def markdown(lines: Sequence[Row], report: Mapping[str, Any]) -> str:
    """The table, and under it the machine it was measured on."""
    text = ["| figure | wanted | fp32 | int8 | |", "|---|---|---|---|---|"]
    for row in lines:
        mark = "" if row.holds is None else "holds" if row.holds else "**missed**"
        text.append(f"| {row.figure} | {row.wanted} | {row.seen} | {row.int8} | {mark} |")
    env = report["environment"]
    versions = ", ".join(f"{name} {env[name]}" for name in ("numpy", "onnxruntime"))
    text.append("")
    text.append(
        f"Measured by `sayclip bench demo` on {env['cpu']}, {env['cores']} cores, {env['system']}, "
        f"Python {env['python']}, {versions}. Speed with the precision that `auto` picks."
    )
    return "\n".join(text) + "\n"


def insert(readme: Path, text: str, section: str = "figures") -> None:
    """Put ``text`` between the markers of ``section`` in ``readme``."""
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    content = readme.read_text(encoding="utf-8")
    if content.count(begin) != 1 or content.count(end) != 1:
        raise SayclipError(f"{readme} does not hold {begin} and {end} once each", "add the two markers")
    head, rest = content.split(begin)
    readme.write_text(f"{head}{begin}\n{text}{end}{rest.split(end)[1]}", encoding="utf-8")


def _accuracy(report: Mapping[str, Any]) -> list[Row]:
    if "accuracy" not in report:
        return []
    fp32, int8 = report["accuracy"]["fp32"], report["accuracy"]["int8"]
    lines = []
    for key, figure, least in _FOUND:
        holds = fp32[key] >= least and int8[key] >= min(least, fp32[key]) - 0.01 and abs(fp32[key] - int8[key]) <= 0.01
        lines.append(Row(figure, f"≥ {least:.2f}, int8 within 0.01", f"{fp32[key]:.3f}", f"{int8[key]:.3f}", holds))
    whole, swapped = _SWAP
    near = all(precision[swapped] >= precision[whole] - 0.10 for precision in (fp32, int8))
    seen = [f"{p[swapped]:.3f} of {p[whole]:.3f}" for p in (fp32, int8)]
    close = abs(fp32[swapped] - int8[swapped]) <= 0.01
    figure = "IPA with one phoneme replaced, names of two words or more, R@1"
    lines.append(Row(figure, "within 0.10", seen[0], seen[1], near and close))
    for key, figure in _HELD_OUT:
        lines.append(Row(figure, "printed", f"{fp32[key]:.3f}", f"{int8[key]:.3f}"))
    for name, seen_torch in report["torch"].items():
        cosine = min(seen_torch["int8_min_cosine"], seen_torch["int8-u8_min_cosine"])
        largest = seen_torch["torch_max_abs_difference"]
        lines.append(
            Row(
                f"{name}: ONNX against torch, ten random shapes, largest difference; int8 cosine",
                "≤ 1e-4; ≥ 0.995",
                f"{largest:.1e}",
                f"{cosine:.4f}",
                largest <= 1e-4 and cosine >= 0.995,
            )
        )
    return lines


def _speed(speed: Mapping[str, float]) -> list[Row]:
    imported, first = speed["import_seconds"], speed["first_result_seconds"]
    rate = speed["pictures_per_second"]
    each = ", ".join(
        f"{name} {speed[f'{name}_ms']:.2f} ({speed[f'{name}_ms_p90']:.2f})"
        for name in ("image", "text", "pronunciation", "speech", "search")
    )
    return [
        Row("`import sayclip` after `import numpy`, s", "≤ 0.15", f"{imported:.3f}", "", imported <= 0.15),
        Row("fresh process to first spoken result, s", "≤ 1.5", f"{first:.2f}", "", first <= 1.5),
        Row("bulk indexing, pictures/s", "≥ 150", f"{rate:.0f}", "", rate >= 150),
        Row("one query, ms, median (p90)", "", each),
        Row("bundle, MB", "≤ 20", f"{speed['bundle_mb']:.1f}", "", speed["bundle_mb"] <= 20),
    ]
