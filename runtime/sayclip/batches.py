"""Many inputs of different lengths in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

Row = TypeVar("Row")

# Inputs of a long list are prepared this many batches ahead: enough to sort by length, and memory stays bounded.
_BATCHES_AHEAD = 16


def by_length(
    sources: Sequence[Any],
    prepare: Callable[[Sequence[Any], int, int], list[NDArray[Any]]],
    run: Callable[[list[NDArray[Any]]], Sequence[Row]],
    at_once: int,
) -> list[Row]:
    """What ``run`` makes of each source, in the order of the sources; batches are sorted so that little is padded.

    ``prepare`` takes some of the sources, the place of their first in the whole list, and the list's length; ``run``
    takes up to ``at_once`` of the sequences it gives.
    """
    result: dict[int, Row] = {}
    for first in range(0, len(sources), at_once * _BATCHES_AHEAD):
        sequences = prepare(sources[first : first + at_once * _BATCHES_AHEAD], first, len(sources))
        order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
        for start in range(0, len(order), at_once):
            places = order[start : start + at_once]
            rows = run([sequences[place] for place in places])
            result.update((first + place, row) for place, row in zip(places, rows, strict=True))
    return [result[place] for place in range(len(sources))]
