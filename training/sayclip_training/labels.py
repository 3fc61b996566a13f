"""The phonemes of the spoken corpus as numbers: what CTC learns to hear.

As the voice says them, not as one dictionary would: who labels all accents alike teaches the ear to guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.phonemes.segments import WORD_BOUNDARY
from sayclip_export.phonemes.chart import load_chart, write_inventory

RARE = 1 / 3000  # of all phonemes; rarer ones count as the nearest on the chart that is not rare


def label(said: Sequence[str], target: Path) -> tuple[dict[str, Any], list[list[int]]]:
    """The inventory of what is said, written to ``target``, and the ids of every utterance.

    ``said``: IPA, empty where unknown; its ids are then empty too. Id 0 is free for CTC's blank.
    """
    chart = load_chart()
    everything = PhonemeInventory(write_inventory(target, chart, chart.symbols))
    split = {ipa: _segments(everything, ipa) for ipa in set(said)}
    often: Counter[str] = Counter()
    for ipa, count in Counter(said).items():
        for segment in split[ipa]:
            often[segment] += count
    known = {s for s, count in often.items() if count > RARE * often.total() and s in everything.symbols}
    inventory = write_inventory(target, chart, known)
    ids = _ids(PhonemeInventory(inventory), often)
    numbers = {ipa: [ids[segment] for segment in segments] for ipa, segments in split.items()}
    return inventory, [numbers[ipa] for ipa in said]


def _segments(everything: PhonemeInventory, ipa: str) -> list[str]:
    return [segment for segment in everything.segments(ipa) if segment != WORD_BOUNDARY] if ipa else []


def _ids(inventory: PhonemeInventory, segments: Mapping[str, int]) -> dict[str, int]:
    stands_for = {s: s if s in inventory.symbols else inventory.nearest(s)[0] for s in segments}
    return {segment: inventory.encode(known)[1] for segment, known in stands_for.items()}
