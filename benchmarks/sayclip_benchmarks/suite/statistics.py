"""Medians, percentiles and what the turns say about how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISY = 0.10  # medians of turns that differ by more of their median say more about the machine than about the candidate
_RESAMPLED = 1000


def summary(turns: Sequence[Sequence[float]], batch: int = 1) -> dict[str, Any]:
    """Figures of one candidate from its milliseconds by turn, as ``report.document`` has them.

    The interval is 95 % of the median under resampling of whole turns (Efron 1979), since runs of one turn are alike.
    """
    everything = np.concatenate([np.asarray(turn, np.float64) for turn in turns])
    medians = np.array([np.median(turn) for turn in turns])
    low, high = np.percentile(np.median(medians[_resampled(len(turns))], axis=1), [2.5, 97.5])
    p50, p90, p99 = np.percentile(everything, [50, 90, 99])
    return {
        "n": len(everything),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "mean_ms": float(everything.mean()),
        "turn_p50_ms": medians.tolist(),
        "ci_ms": [float(min(low, p50)), float(max(high, p50))],
        "noisy": bool((medians.max() - medians.min()) > NOISY * np.median(medians)),
        "per_second": float(1000.0 * batch / everything.mean()),
    }


def joules(taken: Sequence[float | None], turns: Sequence[Sequence[float]], batch: int = 1) -> float | None:
    """Joules a query (an item of a batch): the median over the turns that were measured; None where none was.

    ``taken``: joules of each turn; ``turns``: its milliseconds, of which it has one for each run.
    """
    each = [total / (len(turn) * batch) for total, turn in zip(taken, turns, strict=True) if total is not None]
    return float(np.median(each)) if each else None


def speedup(base: Sequence[Sequence[float]], seen: Sequence[Sequence[float]]) -> tuple[float, list[float]]:
    """How many times as fast ``seen`` is as ``base``, by medians, and 95 % of it over turns, which belong together."""
    ratio = float(np.median(np.concatenate([*base])) / np.median(np.concatenate([*seen])))
    one, two = (np.array([np.median(turn) for turn in turns]) for turns in (base, seen))
    chosen = _resampled(min(len(one), len(two)))
    ratios = np.median(one[chosen], axis=1) / np.median(two[chosen], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return ratio, [float(min(low, ratio)), float(max(high, ratio))]


def _resampled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (_RESAMPLED, count))
