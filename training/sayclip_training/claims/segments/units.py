"""How word-like units are, beyond what training measures, and how much of that comes without learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sayclip_export.models.segmental import HeadConfig, build_head
from sayclip_training.heads.examination import Examination, Outcome
from sayclip_training.heads.measures import Agreement, between_words, compare
from sayclip_training.heads.pairs import Pair
from sayclip_training.heads.recipe import Material

CLOSE = 0.02  # seconds
THRESHOLD = 0.05  # SCPC's, of the detector without learning
Edges = Sequence[Sequence[float]]


def boundaries(edges: Edges, pairs: Sequence[Pair]) -> dict[str, float]:
    """Of units between ``edges``, in seconds, their boundaries within 40 ms, and ``f1_20`` within 20 ms.

    ``near``: the share of utterances with as many units as words, give or take one. Utterances without words do not
    count; without any there is nothing.
    """
    wide, narrow, near, count = Agreement(), Agreement(), 0, 0
    for at, pair in zip(edges, pairs, strict=True):
        if pair.words:
            wanted = between_words([(word.start, word.end) for word in pair.words])
            wide += compare(at[1:-1], wanted)
            narrow += compare(at[1:-1], wanted, CLOSE)
            near += abs(_more(at, pair)) <= 1
            count += 1
    if not count:
        return {}
    found = {"f1": wide.f1, "precision": wide.precision, "recall": wide.recall, "f1_20": narrow.f1}
    return found | {"near": near / count}


def more_than_words(edges: Edges, pairs: Sequence[Pair]) -> dict[str, int]:
    """How many utterances have so many more units than words, ascending; fewer are negative."""
    found = Counter(_more(at, pair) for at, pair in zip(edges, pairs, strict=True) if pair.words)
    return {str(more): found[more] for more in sorted(found)}


def hit_rate_by_chance(exam: Examination, heard: Outcome, pairs: Sequence[Pair]) -> dict[str, float]:
    """SpeechCLIP's hit rate of the same keywords against captions of other utterances, drawn the same every time."""
    if not heard.nearest:
        return {}
    order = np.random.default_rng(0).permutation(len(pairs))
    # Each with the next in a random order: none with its own.
    other = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    found = exam.units(Outcome(nearest=heard.nearest), [pairs[other[row]] for row in range(len(pairs))])
    return {"hit_rate_by_chance": found["hit_rate"]} if "hit_rate" in found else {}


def evenly(exam: Examination, rows: Sequence[int]) -> Edges:
    """Edges of as many equal units as there are words, which no detector is told."""
    return [np.linspace(0, exam.features.seconds[row], max(1, len(exam.pairs[row].words)) + 1).tolist() for row in rows]


def unlearnt(material: Material, rows: Sequence[int]) -> Edges:
    """Edges that the detector finds on the frames as they are: those of a head that has learnt nothing."""
    tower = material.teacher.tower
    config = HeadConfig(material.listener.width, tower.config, threshold=THRESHOLD, detector=0, layers=0)
    return material.exam.hear(build_head("segmental", config, tower), rows).edges


def _more(at: Sequence[float], pair: Pair) -> int:
    return len(at) - 1 - len(pair.words)
