"""sayclip against optimum's ORTModel on models of the same sizes: latency, memory and cold start.

What is held to is ``auto``, which is what a user gets. Beside it stands sayclip's fp32 graph on the backend where it is
quickest, which is like for like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Figure = tuple[str, str, str, bool]

COLD = "recording to embedding, HuBERT-base"
OPTIMUM = "optimum fp32"
_AHEAD = "ahead, > 1 ×"
_SAME_SIZE = (0.8, 1.25)


def figures(rows: Sequence[Row], starts: Sequence[Row]) -> list[Figure]:
    """Figures of those ``rows`` and ``starts`` that optimum has a part in, all of them ok; the worst case is told."""
    sessions = [row for row in rows if row["what"] == "session"]
    peers = [row for row in sessions if row["candidate"] == OPTIMUM and _same_model(row, sessions)]
    encoders = ", ".join(dict.fromkeys(str(row["encoder"]) for row in peers))
    found: list[Figure] = []
    for title, key in (("latency", "p50_ms"), ("peak memory", "rss_bytes")):
        auto, alike = (_worst(peers, sessions, key, ours) for ours in (_is_auto, _is_ours_fp32))
        if auto is not None:
            found.append(_figure(f"optimum's ORTModel, {title} ({encoders})", auto, alike))
    return [*found, *_cold(starts)]


def _same_model(peer: Row, sessions: Sequence[Row]) -> bool:
    """Whether the bundle's fp32 graph is of the size of optimum's, which is always that of the published models."""
    sizes = [
        row["model_bytes"]
        for row in sessions
        if row["encoder"] == peer["encoder"] and row["candidate"] == "onnxruntime fp32"
    ]
    return any(_SAME_SIZE[0] <= size / peer["model_bytes"] <= _SAME_SIZE[1] for size in sizes if size)


def _is_auto(row: Row) -> bool:
    return bool(row["candidate"] == "auto")


def _is_ours_fp32(row: Row) -> bool:
    return row["kind"] == "sayclip" and str(row["candidate"]).endswith(" fp32")


def _worst(
    peers: Sequence[Row], sessions: Sequence[Row], key: str, ours: Callable[[Row], bool]
) -> tuple[float, str] | None:
    """The smallest over optimum's cases of its figure over that of our quickest, and in which case that was."""
    ratios = []
    for peer in peers:
        case = (peer["encoder"], peer["size"], peer["batch"])
        there = [row for row in sessions if (row["encoder"], row["size"], row["batch"]) == case and ours(row)]
        best = min(there, key=lambda row: float(row["p50_ms"]), default=None)
        if best is not None and best[key] and peer[key]:
            name = best.get("chosen") or best["candidate"]
            batch = f"batch of {peer['batch']}" if peer["batch"] > 1 else ""
            where = ", ".join(part for part in (name, peer["encoder"], peer["size"], batch) if part)
            ratios.append((peer[key] / best[key], where))
    return min(ratios, default=None)


def _cold(starts: Sequence[Row]) -> list[Figure]:
    here = [start for start in starts if start["what"] == COLD]
    peer = next((start for start in here if start["candidate"] == OPTIMUM), None)
    ours = [start for start in here if start["candidate"] != OPTIMUM]
    auto = next((start for start in ours if str(start["candidate"]).startswith("auto")), None)
    if peer is None or auto is None:
        return []
    alike = next((start for start in ours if " fp32" in f" {start['candidate']}" and start is not auto), None)
    found = []
    for title, key, unit in (("cold start", "total_s", "{:.2f} s"), ("peak memory at that start", "rss_bytes", "")):
        both = [None if start is None else (peer[key] / start[key], _said(start, key, unit)) for start in (auto, alike)]
        assert both[0] is not None
        found.append(_figure(f"optimum's ORTModel, {title}", both[0], both[1]))
    return found


def _said(start: Row, key: str, unit: str) -> str:
    value = unit.format(start[key]) if unit else f"{start[key] / 1e6:,.0f} MB"
    return f"{value}, {start['candidate']}"


def _figure(title: str, auto: tuple[float, str], alike: tuple[float, str] | None) -> Figure:
    seen = f"{auto[0]:.2f} × ({auto[1]})"
    if alike is not None:
        seen += f"; fp32 alone {alike[0]:.2f} × ({alike[1]})"
    return title, _AHEAD, seen, auto[0] > 1.0
