"""Several seeds as a mean and its spread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The ``mean`` of ``n`` seeds and their sample standard deviation; 0 for a single one."""

    mean: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError for no value at all."""
        found = list(values)
        if not found:
            raise ValueError("no seed has this value")
        mean = math.fsum(found) / len(found)
        squares = math.fsum((value - mean) ** 2 for value in found)
        return cls(mean, math.sqrt(squares / (len(found) - 1)) if len(found) > 1 else 0.0, len(found))

    def plain(self, digits: int = 2) -> str:
        """``0.90 ± 0.01``; a single seed has no spread."""
        return _shown(self.mean, digits) + (f" ± {self.deviation:.{digits}f}" if self.n > 1 else "")

    def percent(self) -> str:
        """``96.9 ± 0.2``, in percent."""
        return Spread(100 * self.mean, 100 * self.deviation, self.n).plain(1)

    def points(self) -> str:
        """``+28.1 ± 0.6``, in points of a percentage."""
        text = self.percent()
        return text if text.startswith("-") else f"+{text}"


@dataclass(frozen=True)
class Claim:
    """What a paper claims, what is wanted of it here, what was seen, and whether it holds; None: nothing is wanted.

    ``barely``: it holds only as far as the spread of the seeds allows.
    """

    what: str
    wanted: str
    seen: str
    holds: bool | None
    barely: bool = False

    def cells(self) -> list[str]:
        """The cells of its row in a table."""
        verdict = {True: "holds", False: "**does not hold**", None: "reported"}[self.holds]
        verdict += " within the spread" if self.holds and self.barely else ""
        return [self.what, self.wanted, self.seen, verdict]


def at(found: Mapping[str, Any], *path: str) -> float:
    """The number at ``path`` within nested mappings."""
    value: Any = found
    for key in path:
        value = value[key]
    return float(value)


def over(seeds: Sequence[Mapping[str, Any]], *path: str) -> Spread:
    """The spread over ``seeds`` of the number at ``path``."""
    return Spread.of(at(found, *path) for found in seeds)


def _shown(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text
