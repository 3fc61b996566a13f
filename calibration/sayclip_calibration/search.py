"""Which layers int8 hurts most, and the fewest to give back to float so that an encoder's gates hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .agreement import Outputs
from .cosine import OUTPUT, cosines
from .gates import Gate, Judgement, lengths
from .placement import Placement
from .sensitivity import LayerDamage

TRIED_BACK = 10  # layers that are tried whether they can stay in int8 after all, the costliest
SEARCHED = 32  # samples that choices are judged on; the one that is taken is judged on all

Progress = Callable[[str, int, "int | None"], None]


class Choices(Protocol):
    """What ``probe.Probe`` offers."""

    placement: Placement
    reference: Outputs

    def __call__(self, parts: Collection[str], feeds: int | Sequence[int] | None = None) -> Outputs: ...

    def fragile(self, count: int) -> tuple[list[int], list[int]]: ...


@dataclass(frozen=True)
class Point:
    """One choice that was judged: how much was given back, and what that gave."""

    given_back: int
    int8_share: float
    """Share of the layers' multiplications that int8 does, of those that it could do."""
    mean: float
    worst: float
    passed: bool


@dataclass(frozen=True)
class Found:
    """What is given back, the judgement with that in float, and every choice that was judged on the way."""

    given_back: tuple[str, ...]
    judgement: Judgement
    points: tuple[Point, ...]
    int8_share: float = 1.0
    """As in ``Point``, of what is left in int8."""


def rank(probe: Choices, feeds: int, progress: Progress) -> tuple[LayerDamage, ...]:
    """Every part of the placement alone in int8, on the ``feeds`` most fragile feeds, most damaging first.

    Damage is the squared distance of embeddings relative to their own, which unlike a cosine near 1 does not drown in
    rounding; the figures kept are cosines.
    """
    name = OUTPUT if OUTPUT in probe.reference else next(iter(probe.reference))
    kinds = {site.node: site.op for site in probe.placement.sites}
    parts = probe.placement.parts
    chosen, rows = probe.fragile(feeds)
    reference = probe.reference[name][rows]
    weights = lengths(probe.reference)[rows, None] ** -2.0
    found: list[tuple[float, LayerDamage]] = []
    for done, part in enumerate(parts, start=1):
        seen = probe([part], chosen)[name]
        report = cosines([reference], [seen])
        damage = float((weights * np.square(seen.astype(np.float64) - reference)).sum())
        kind = kinds.get(part, "Conv output")
        found.append((damage, LayerDamage(part, kind, report.mean, report.worst)))
        progress("sensitivity", done, len(parts))
    return tuple(layer for _, layer in sorted(found, key=lambda pair: (-pair[0], pair[1].node)))


def give_back(
    probe: Choices,
    gate: Gate,
    ranked: Sequence[LayerDamage],
    work: Mapping[str, float],
    feeds: int,
    progress: Progress,
) -> Found:
    """The shortest prefix of ``ranked`` to give back so that ``gate`` holds, less what turns out not to be needed.

    ``work``: multiplications of each layer; of those not needed the costliest are taken back first. Choices are judged
    on the first ``feeds`` feeds, and where the one found does not hold on all of them half as many layers again go too.
    Where not even all but one layer in float is enough, nothing is given back: the judgement then says what is missed.
    """
    search = _Search(probe, gate, [layer.node for layer in ranked], work, feeds, progress)
    if search.judged([]).passed:
        back: list[str] = []
    else:
        back = search.prefix()
        if back:
            back = search.needed(back)
    judgement = search.on_all(back)
    while back and not judgement.passed:
        left = [part for part in search.order if part not in back]
        if len(left) < 2:
            break
        more = min(len(left) - 1, (len(back) + 1) // 2)
        back = [*back, *left[:more]]
        judgement = search.on_all(back)
    if not judgement.passed and back:
        back, judgement = [], search.on_all([])
    told = sorted(search.points.values(), key=lambda pair: (pair[0].given_back, -pair[0].mean))
    kept = set(back)
    given_back = tuple(part for part in search.order if part in kept)
    return Found(given_back, judgement, tuple(point for point, _ in told), search.share(search.kept(kept)))


class _Search:
    def __init__(
        self,
        probe: Choices,
        gate: Gate,
        order: list[str],
        work: Mapping[str, float],
        feeds: int,
        progress: Progress,
    ) -> None:
        self.probe, self.order, self.work, self.feeds, self.progress = probe, order, work, feeds, progress
        self.gate = gate
        self.points: dict[frozenset[str], tuple[Point, Judgement]] = {}
        self._all: dict[frozenset[str], Judgement] = {}

    def judged(self, back: Sequence[str]) -> Judgement:
        """On the first feeds; what comes to the same graph is judged once."""
        kept = self.kept(back)
        key = frozenset(kept)
        if key not in self.points:
            seen = self.probe(kept, self.feeds)
            count = len(next(iter(seen.values())))
            reference = {name: value[:count] for name, value in self.probe.reference.items()}
            whole = count == len(next(iter(self.probe.reference.values())))
            gate = self.gate if whole else self.gate.subset(range(count))
            judgement = gate.judge(reference, seen)
            if whole:
                self._all[key] = judgement
            point = Point(len(back), self.share(kept), judgement.mean, judgement.worst, judgement.passed)
            self.points[key] = point, judgement
            self.progress("giving back", len(self.points), None)
        return self.points[key][1]

    def on_all(self, back: Sequence[str]) -> Judgement:
        kept = self.kept(back)
        key = frozenset(kept)
        if key not in self._all:
            self._all[key] = self.gate.judge(self.probe.reference, self.probe(kept))
        return self._all[key]

    def share(self, kept: Collection[str]) -> float:
        """Of all multiplications, those of the layers ``kept`` in int8."""
        return sum(self.work.get(part, 0.0) for part in kept) / max(sum(self.work.values()), 1e-30)

    def kept(self, back: Collection[str]) -> list[str]:
        """The parts in int8, as a graph would be written: an output only between layers in int8."""
        placement = self.probe.placement.without(sorted(back), "given back")
        return [part for part in placement.parts if part not in back]

    def prefix(self) -> list[str]:
        """The shortest beginning of the ranking that is enough, or nothing."""
        order = self.order
        few = 1
        while few < len(order) and not self.judged(order[:few]).passed:
            few *= 2
        few = min(few, len(order) - 1)
        if few < 1 or not self.judged(order[:few]).passed:
            return []
        low, high = few // 2, few  # that of `low` fails, that of `high` holds
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.judged(order[:middle]).passed else (middle, high)
        return order[:high]

    def needed(self, back: list[str]) -> list[str]:
        """``back`` less what can be taken back; the last of it crossed the gate, so it is not tried."""
        costly = sorted(back[:-1], key=lambda part: (-self.work.get(part, 0.0), self.order.index(part)))
        for part in costly[:TRIED_BACK]:
            fewer = [other for other in back if other != part]
            if self.judged(fewer).passed:
                back = fewer
        return back
