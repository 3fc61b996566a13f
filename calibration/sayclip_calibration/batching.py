"""Samples of one encoder put together into feeds of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .session import Feed

BATCH = 8
BATCH_OF = {"speech": 2, "audio": 2}  # what convolutions over seconds of samples keep in memory is large


def in_batches(feeds: Sequence[Feed]) -> list[dict[str, NDArray[Any]]]:
    """Neighbours of equal shapes stacked, up to ``BATCH`` at a time: pictures, but hardly ever recordings."""
    found: list[list[Feed]] = []
    for feed in feeds:
        shapes = {key: value.shape for key, value in feed.items()}
        last = found[-1] if found else []
        if last and len(last) < BATCH and {key: value.shape for key, value in last[0].items()} == shapes:
            last.append(feed)
        else:
            found.append([feed])
    return [{key: np.concatenate([feed[key] for feed in group]) for key in group[0]} for group in found]


def padded(feeds: Sequence[Feed], size: int) -> list[dict[str, NDArray[Any]]]:
    """Up to ``size`` neighbours as one feed, filled up with zeros to the longest where they have a ``length``.

    For running, not for ranges: what padding computes is no part of any result.
    """
    if not feeds or "length" not in feeds[0]:
        return in_batches(feeds)
    found = []
    for start in range(0, len(feeds), size):
        group = feeds[start : start + size]
        feed = {}
        for key in group[0]:
            arrays = [each[key] for each in group]
            longest = np.max([array.shape for array in arrays], axis=0)[1:]
            feed[key] = np.concatenate(
                [np.pad(array, [(0, 0), *((0, more) for more in longest - array.shape[1:])]) for array in arrays]
            )
        found.append(feed)
    return found
