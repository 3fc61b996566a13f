"""Which layers int8 hurts most, and the fewest to give back to float so that an encoder's gates hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .agreement import Outputs
from .cosine import OUTPUT, cosines
from .gates import Gate, Judgement
from .placement import Placement
from .sensitivity import LayerDamage

Progress = Callable[[str, int, "int | None"], None]


class Choices(Protocol):
    """What ``probe.Probe`` offers."""

    placement: Placement
    reference: Outputs

    def __call__(self, nodes: Collection[str], feeds: int | None = None) -> Outputs: ...


@dataclass(frozen=True)
class Point:
    """One choice that was judged: how many layers were given back, and what that gave."""

    given_back: int
    int8_share: float
    """Share of the layers' multiplications (for one output value each) that int8 does."""
    mean: float
    worst: float
    passed: bool


@dataclass(frozen=True)
class Found:
    """Layers given back, the judgement with them in float, and every choice that was judged on the way."""

    given_back: tuple[str, ...]
    judgement: Judgement
    points: tuple[Point, ...]


def rank(probe: Choices, feeds: int, progress: Progress) -> tuple[LayerDamage, ...]:
    """Every layer alone in int8, on the first ``feeds`` feeds, most damaging first.

    Damage is the squared distance of embeddings, which unlike a cosine near 1 does not drown in rounding; the figures
    kept are cosines.
    """
    name = OUTPUT if OUTPUT in probe.reference else next(iter(probe.reference))
    found: list[tuple[float, LayerDamage]] = []
    for done, site in enumerate(probe.placement.sites, start=1):
        seen = probe([site.node], feeds)[name]
        reference = probe.reference[name][: len(seen)]
        report = cosines([reference], [seen])
        damage = float(np.square(seen.astype(np.float64) - reference).sum())
        found.append((damage, LayerDamage(site.node, site.op, report.mean, report.worst)))
        progress("sensitivity", done, len(probe.placement.sites))
    return tuple(layer for _, layer in sorted(found, key=lambda pair: (-pair[0], pair[1].node)))


def give_back(probe: Choices, gate: Gate, ranked: Sequence[LayerDamage], progress: Progress) -> Found:
    """The shortest prefix of ``ranked`` to give back so that ``gate`` holds, less what turns out not to be needed.

    Where not even all but one layer in float is enough, nothing is given back: the judgement then says what is missed.
    """
    order = [layer.node for layer in ranked]
    macs = {site.node: float(site.reduction * site.channels) for site in probe.placement.sites}
    points: dict[frozenset[str], tuple[Point, Judgement]] = {}

    def judged(back: Sequence[str]) -> Judgement:
        key = frozenset(back)
        if key not in points:
            kept = [node for node in order if node not in key]
            judgement = gate.judge(probe.reference, probe(kept))
            share = sum(macs[node] for node in kept) / max(sum(macs.values()), 1.0)
            point = Point(len(key), share, judgement.mean, judgement.worst, judgement.passed)
            points[key] = point, judgement
            progress("giving back", len(points), None)
        return points[key][1]

    def found(back: Sequence[str]) -> Found:
        told = sorted((point for point, _ in points.values()), key=lambda point: (point.given_back, -point.mean))
        return Found(tuple(node for node in order if node in set(back)), judged(back), tuple(told))

    if judged([]).passed:
        return found([])
    few = 1
    while few < len(order) and not judged(order[:few]).passed:
        few *= 2
    few = min(few, len(order) - 1)
    if few < 1 or not judged(order[:few]).passed:
        return found([])
    low, high = few // 2, few  # the prefix of `low` fails, that of `high` holds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if judged(order[:middle]).passed else (middle, high)
    back = order[:high]
    size = max(1, (len(back) - 1) // 2)
    while size and len(back) > 1:  # the last one crossed the gate, so it is needed; of the others try pieces, then each
        place = len(back) - 1
        while place > 0:
            start = max(0, place - size)
            fewer = back[:start] + back[place:]
            if judged(fewer).passed:
                back = fewer
            place = start
        size //= 2
    return found(back)
