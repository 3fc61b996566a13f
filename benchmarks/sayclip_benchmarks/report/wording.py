"""Figures and names as people read them, the same in tables, pictures and comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NOTHING = "–"
QUERIES = {"speech": "spoken", "text": "typed", "pronunciation": "IPA", "image": "picture", "audio": "sound"}


def figure(value: float | None, most: int = 3) -> str:
    """Three digits that count, at most ``most`` of them after the point: 0.012, 1.23, 12.3, 123."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    places = min(max(2 - math.floor(math.log10(abs(value))), 0), most)
    return f"{value:,.{places}f}"


def times(value: float | None) -> str:
    """A speed-up, such as ``4.55 ×``."""
    return NOTHING if value is None else f"{value:.1f} ×" if value >= 100 else f"{value:.2f} ×"


def megabytes(count: int | None) -> str:
    """Bytes in megabytes of a million."""
    return NOTHING if count is None else figure(count / 1e6, 1)


def cosine(value: float | None) -> str:
    """A cosine to four places; what is not quite 1 is not rounded up to it."""
    if value is None:
        return NOTHING
    rounded = f"{value:.4f}"
    return f"{value:.6f}" if rounded == "1.0000" and 1 - value > 5e-7 else rounded


def change(value: float | None) -> str:
    """A difference with its sign; 0 has none."""
    return NOTHING if value is None else "0" if abs(value) < 5e-5 else f"{value:+.3f}".replace("-", "−")


def against_own(scenario: Mapping[str, Any]) -> str:
    """By how much LoadGen's figure of a scenario is above our own loop's, such as ``+1.2 % of p90``."""
    if scenario.get("difference") is None:
        return NOTHING
    of = "samples a second" if scenario["compared"] == "per_second" else scenario["compared"].removesuffix("_ms")
    noisy = ", noisy" if scenario["noisy"] else ""
    return f"{100 * scenario['difference']:+.1f} % of {of}{noisy}".replace("-", "−")


def candidate(row: Mapping[str, Any]) -> str:
    """A candidate's name, with what ``auto`` chose where the row says it."""
    chosen = row.get("chosen")
    return f"{row['candidate']} ({chosen})" if chosen and isinstance(chosen, str) else str(row["candidate"])


def place(entry: Mapping[str, Any]) -> str:
    """Which encoder at which size and batch: ``speech, 3 s, batch 8``; a batch of one is not said."""
    batch = entry.get("batch", 1)
    return ", ".join(
        part for part in (entry["encoder"] or "", entry["size"], f"batch {batch}" if batch > 1 else "") if part
    )


def flat(mapping: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Every value of nested plain data as text, by its names joined with spaces; lists as ``a, b``."""
    found: dict[str, str] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{before}{name} "))
        elif isinstance(value, (list, tuple)):
            found[f"{before}{name}"] = ", ".join(_plain(member) for member in value)
        else:
            found[f"{before}{name}"] = _plain(value)
    return found


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
