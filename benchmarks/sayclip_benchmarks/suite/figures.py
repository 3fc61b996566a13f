"""The figures that sayclip is held to, each beside what a document says was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def figures(document: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of figure, wanted, seen, and holds or missed; only those that the document has rows for."""
    rows = [row for row in document["rows"] if row["status"] == "ok"]
    found: list[tuple[str, str, str, bool]] = []
    for row in _of(rows, "query", "speech"):
        factor = row["p50_ms"] / 1000.0 / row["amount"]
        searched = _searched(rows)
        found.append(("spoken query over all pictures against PyTorch eager", "≥ 3.5 ×", *_times(row, 3.5)))
        found.append(("its real-time factor", "≤ 0.05", f"{factor:.4f}", factor <= 0.05))
        if searched:
            seen = f"{searched['p90_ms']:.2f} ms over {searched['size']}"
            found.append(("search alone, p90", "≤ 2 ms", seen, searched["p90_ms"] <= 2.0))
    for row in _of(rows, "query", "text"):
        found.append(("typed query, 8 tokens, against PyTorch padded to 77", "≥ 12 ×", *_times(row, 12.0)))
    for row in _of(rows, "encoder", "image"):
        found.append(("12-megapixel JPEG to embedding against PyTorch eager", "≥ 4 ×", *_times(row, 4.0)))
    for encoder in dict.fromkeys(row["encoder"] for row in rows if row["what"] == "session"):
        found += _beside(rows, str(encoder))
    found += _cold(document.get("cold") or [])
    return [(figure, wanted, seen, "holds" if holds else "missed") for figure, wanted, seen, holds in found]


def markdown(document: Mapping[str, Any]) -> str:
    """The same as a table."""
    lines = ["| figure | wanted | seen | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in figures(document))]) + "\n"


def _of(rows: Sequence[Row], what: str, encoder: str) -> list[Row]:
    """The row of what a user gets without asking for anything, where it can be compared with PyTorch."""
    return [
        row
        for row in rows
        if (row["what"], row["encoder"], row["candidate"]) == (what, encoder, "auto") and row["speedup"] is not None
    ]


def _times(row: Row, wanted: float) -> tuple[str, bool]:
    chosen = f", {row['chosen']}" if row.get("chosen") else ""
    low, high = row["speedup_ci"]
    seen = f"{row['speedup']:.2f} × ({low:.2f} to {high:.2f}; {row['p50_ms']:.1f} ms, p90 {row['p90_ms']:.1f}{chosen})"
    return seen, row["speedup"] >= wanted


def _searched(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row["what"] == "search" and row["candidate"] == "sayclip"), None)


def _beside(rows: Sequence[Row], encoder: str) -> list[tuple[str, str, str, bool]]:
    """``auto`` against the best of the libraries used directly, and against every candidate that it passed over."""
    one = [row for row in rows if (row["what"], row["encoder"], row["batch"]) == ("session", encoder, 1)]
    found = []
    worst: dict[str, tuple[float, str]] = {}
    for size in dict.fromkeys(row["size"] for row in one):
        here = {row["candidate"]: row for row in one if row["size"] == size}
        if "auto" not in here:
            continue
        for kind, title in (("direct", "direct"), ("sayclip", "passed over")):
            others = [row for name, row in here.items() if row["kind"] == kind and name != "auto" and _accurate(row)]
            best = min(others, key=lambda row: float(row["p50_ms"]), default=None)
            if best is not None:
                ratio = best["p50_ms"] / here["auto"]["p50_ms"]
                worst[title] = min(worst.get(title, (9.9e9, "")), (ratio, f"{best['candidate']}, {size}".rstrip(", ")))
    titles = {
        "direct": (f"{encoder}: auto against the best library used directly", 0.97),
        "passed over": (f"{encoder}: auto against the best of what it passed over", 0.95),
    }
    for key, (ratio, where) in worst.items():
        figure, least = titles[key]
        found.append((figure, f"≥ {least:g} ×", f"{ratio:.2f} × ({where}, the worst of the sizes)", ratio >= least))
    return found


def _accurate(row: Row) -> bool:
    return row["cosine"] is None or row["cosine"] >= 0.9


def _cold(starts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    there = [start for start in starts if start["status"] == "ok"]
    torch = next((start for start in there if str(start["candidate"]).startswith("torch")), None)
    ours = [start for start in there if not str(start["candidate"]).startswith("torch")]
    if torch is None or not ours:
        return []
    best = min(ours, key=lambda start: float(start["total_s"]))
    times, share = torch["total_s"] / best["total_s"], best["rss_bytes"] / torch["rss_bytes"]
    return [
        (
            "cold start to the first spoken result against PyTorch",
            "≥ 4 ×",
            f"{times:.2f} × ({best['total_s']:.2f} s, {best['candidate']})",
            times >= 4.0,
        ),
        ("its peak memory", "≤ 0.5 ×", f"{share:.2f} × ({best['rss_bytes'] / 1e6:.0f} MB)", share <= 0.5),
    ]
