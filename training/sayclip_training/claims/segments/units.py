"""How word-like units are, beyond what training measures, and how much of that comes without learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sayclip_export.models.segmental import HeadConfig, build_head
from sayclip_training.heads import measures
from sayclip_training.heads.examination import Examination, Outcome
from sayclip_training.heads.measures import Units
from sayclip_training.heads.pairs import Pair
from sayclip_training.heads.recipe import Material

CLOSE = 0.02  # seconds
THRESHOLD = 0.05  # SCPC's, of the detector without learning


def boundaries(edges: Units, pairs: Sequence[Pair]) -> dict[str, float]:
    """As ``measures.boundaries``, and ``f1_20``, within 20 ms."""
    spoken = [pair.spans for pair in pairs]
    found = measures.boundaries(edges, spoken)
    return found and found | {"f1_20": measures.agreement(edges, spoken, CLOSE).f1}


def named_whole(exam: Examination, heard: Outcome, pairs: Sequence[Pair]) -> dict[str, float]:
    """``named_whole``: the share of units whose nearest token is all of the word that they lie on, and no piece."""
    right = [said == [token] for token, said in exam.called(heard, pairs)]
    return {"named_whole": float(np.mean(right))} if right else {}


def more_than_words(edges: Units, pairs: Sequence[Pair]) -> dict[str, int]:
    """How many utterances have so many more units than words, ascending; fewer are negative."""
    found = Counter(measures.more_than_words(edges, [pair.spans for pair in pairs]))
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


def evenly(exam: Examination, rows: Sequence[int]) -> Units:
    """Edges of as many equal units as there are words, which no detector is told."""
    return [np.linspace(0, exam.features.seconds[row], max(1, len(exam.pairs[row].words)) + 1).tolist() for row in rows]


def unlearnt(material: Material, rows: Sequence[int]) -> Units:
    """Edges that the detector finds on the frames as they are: those of a head that has learnt nothing."""
    tower = material.teacher.tower
    config = HeadConfig(material.listener.width, tower.config, threshold=THRESHOLD, detector=0, layers=0)
    return material.exam.hear(build_head("segmental", config, tower), rows).edges
