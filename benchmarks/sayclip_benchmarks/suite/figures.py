"""The figures that sayclip is held to, each beside what a document says was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sayclip_benchmarks.report.wording import against_own, place
from sayclip_benchmarks.suite import figures_optimum
from sayclip_benchmarks.suite.scenarios import AGREE

Row = Mapping[str, Any]
PHOTOGRAPHS = 20  # fewer say nothing


def figures(document: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of figure, wanted, seen, and holds or missed; only those that the document has rows for."""
    rows = [row for row in document["rows"] if row["status"] == "ok"]
    found: list[tuple[str, str, str, bool]] = []
    for row in _of(rows, "query", "speech"):
        factor = row["p50_ms"] / 1000.0 / row["amount"]
        searched = _searched(rows)
        found.append(("spoken query over all pictures against PyTorch eager", "≥ 3.5 ×", *_times(row, 3.5, rows)))
        found.append(("its real-time factor", "≤ 0.05", f"{factor:.4f}", factor <= 0.05))
        if searched:
            seen = f"{searched['p90_ms']:.2f} ms over {searched['size']}"
            found.append(("search alone, p90", "≤ 2 ms", seen, searched["p90_ms"] <= 2.0))
    for row in _of(rows, "query", "text"):
        found.append(("typed query, 8 tokens, against PyTorch padded to 77", "≥ 12 ×", *_times(row, 12.0, rows)))
    for row in _of(rows, "encoder", "image"):
        found.append(("12-megapixel JPEG to embedding against PyTorch eager", "≥ 4 ×", *_times(row, 4.0, rows)))
    for encoder in dict.fromkeys(row["encoder"] for row in rows if row["what"] == "session"):
        found += _beside(rows, str(encoder))
    found += _photographs(document.get("photographs") or {})
    found += _loadgen(document.get("scenarios") or [])
    starts = [start for start in document.get("cold") or [] if start["status"] == "ok"]
    found += _cold([start for start in starts if start["what"] != figures_optimum.COLD])
    found += figures_optimum.figures(rows, starts)
    found += _repeat(document.get("repeat") or {})
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


def _times(row: Row, wanted: float, rows: Sequence[Row]) -> tuple[str, bool]:
    chosen = f", {row['chosen']}{_accuracy(row, rows)}" if row.get("chosen") else ""
    low, high = row["speedup_ci"]
    seen = f"{row['speedup']:.2f} × ({low:.2f} to {high:.2f}; {row['p50_ms']:.1f} ms, p90 {row['p90_ms']:.1f}{chosen})"
    return seen, row["speedup"] >= wanted


def _accuracy(row: Row, rows: Sequence[Row]) -> str:
    """What the session inside a query or an encoder has lost against fp32, so that no speed stands alone."""
    same = [one for one in rows if (one["what"], one["encoder"], one["batch"]) == ("session", row["encoder"], 1)]
    told = [one for one in same if one["candidate"] == row["candidate"] and one.get("recall_change") is not None]
    return f", cosine {told[0]['cosine']:.4f}, recall@10 {told[0]['recall_change']:+.2f}" if told else ""


def _searched(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row["what"] == "search" and row["candidate"] == "sayclip"), None)


def _beside(rows: Sequence[Row], encoder: str) -> list[tuple[str, str, str, bool]]:
    """``auto`` against the best of the libraries used directly, and against every candidate that it passed over."""
    one = [row for row in rows if (row["what"], row["encoder"], row["batch"]) == ("session", encoder, 1)]
    found = []
    seen: dict[str, list[tuple[float, str]]] = {"direct": [], "passed over": []}
    for size in dict.fromkeys(row["size"] for row in one):
        here = {row["candidate"]: row for row in one if row["size"] == size}
        if "auto" not in here:
            continue
        for kind, title in (("direct", "direct"), ("sayclip", "passed over")):
            others = [row for name, row in here.items() if row["kind"] == kind and name != "auto" and _accurate(row)]
            seen[title] += [(_paired(row, here["auto"]), f"{row['candidate']}, {size}".rstrip(", ")) for row in others]
    titles = {
        "direct": (f"{encoder}: auto against the best library used directly", 0.97),
        "passed over": (f"{encoder}: auto against the best of what it passed over", 0.95),
    }
    for title, ratios in seen.items():
        if not ratios:
            continue
        (ratio, where), (figure, least) = min(ratios), titles[title]
        found.append((figure, f"≥ {least:g} ×", f"{ratio:.2f} × ({where}, the worst of the sizes)", ratio >= least))
    return found


def _paired(row: Row, auto: Row) -> float:
    """How many times as long ``row`` takes as ``auto``: the median of the turns, in which they ran one after another.

    Whatever slows the machine for a while slows both.
    """
    return float(np.median(np.divide(row["turn_p50_ms"], auto["turn_p50_ms"])))


def _accurate(row: Row) -> bool:
    return row["cosine"] is None or row["cosine"] >= 0.9


def _repeat(seen: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What does not come out again is marked, so this always holds once the benchmark was run twice."""
    if not seen:
        return []
    away = seen["rows"] - seen["within"]
    told = f"{seen['within']} of {seen['rows']} within 10 %, {away} marked, {seen['marked']} of them only by the repeat"
    return [("the whole benchmark run twice: its medians", "≤ 10 % apart, or marked as noisy", told, True)]


def _photographs(seen: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Of the worst photograph, over ``PHOTOGRAPHS`` or more that were decoded smaller."""
    if seen.get("status") != "ok":
        return []
    enough, count = seen["shrunk"] >= PHOTOGRAPHS, f"{seen['shrunk']} photographs decoded smaller"
    worst, mean = seen["worst_difference"], seen["mean_difference"]
    found = [
        (
            f"{count}: mean difference of pixels to the full decode, of the worst",
            "≤ 1/255",
            f"{worst:.2f}/255 (of all {mean:.2f}/255)",
            enough and worst <= 1.0,
        )
    ]
    if seen["worst_cosine"] is not None:
        cosine = f"{seen['worst_cosine']:.6f}"
        found.append(
            (f"{count}: cosine of embeddings, the least", "≥ 0.999", cosine, enough and float(cosine) >= 0.999)
        )
    return found


def _loadgen(scenarios: Sequence[Row]) -> list[tuple[str, str, str, bool]]:
    """The scenario in which the drivers differ most, and what of it is LoadGen's doing. Noisy ones do not count."""
    driven = [scenario for scenario in scenarios if scenario.get("difference") is not None]
    quiet = [scenario for scenario in driven if not scenario["noisy"]]
    if not driven:
        return []
    worst = max(quiet or driven, key=lambda scenario: abs(float(scenario["difference"])))
    where = ", ".join(part for part in (worst["scenario"], place(worst), worst["candidate"]) if part)
    count = f"the worst of {len(quiet or driven)}"
    count += f", {len(driven) - len(quiet)} more are noisy" if quiet and len(driven) > len(quiet) else ""
    runs = f"{100 * worst['overhead']:+.1f} % on the very same runs".replace("-", "−")
    holds = bool(quiet) and abs(round(worst["difference"], 3)) <= AGREE
    return [("LoadGen against our own loop", "≤ 3 %", f"{against_own(worst)} ({where}, {count}; {runs})", holds)]


def _cold(there: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    torch = next((start for start in there if str(start["candidate"]).startswith("torch")), None)
    ours = [start for start in there if not str(start["candidate"]).startswith("torch")]
    if torch is None or not ours:
        return []
    best = min(ours, key=lambda start: float(start["total_s"]))
    auto = next((start for start in ours if str(start["candidate"]).startswith("auto")), best)
    times, share = torch["total_s"] / best["total_s"], best["rss_bytes"] / torch["rss_bytes"]
    sooner = f"{times:.2f} × ({best['total_s']:.2f} s, {best['candidate']})"
    smaller = f"{share:.2f} × ({best['rss_bytes'] / 1e6:.0f} MB)"
    if auto is not best:
        sooner += f"; {torch['total_s'] / auto['total_s']:.2f} × ({auto['total_s']:.2f} s, {auto['candidate']})"
        smaller += f"; {auto['rss_bytes'] / torch['rss_bytes']:.2f} × of auto"
    return [
        ("cold start to the first spoken result against PyTorch", "≥ 4 ×", sooner, times >= 4.0),
        ("its peak memory", "≤ 0.5 ×", smaller, share <= 0.5),
    ]
