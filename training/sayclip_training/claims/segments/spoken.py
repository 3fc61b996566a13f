"""From one recording to another: utterances of the same picture among those of all others.

A head that learnt from recordings alone ends where nothing ties it to pictures, so it can only be held against one that
saw pictures by what both can find: other people's utterances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sayclip_training import hashed
from sayclip_training.heads.pairs import TRAIN
from sayclip_training.heads.recipe import Material
from sayclip_training.losses import recall


def gallery(material: Material) -> list[int]:
    """One utterance for training of every picture that has some, the same every time."""
    first: dict[int, int] = {}
    rows = material.rows(TRAIN)
    for row in sorted(rows, key=lambda row: hashed.number(f"gallery\t{material.pairs.rows[row].speech}")):
        first.setdefault(int(material.meaning[row]), row)
    return sorted(first.values())


def scores(material: Material, head: nn.Module, asked: Sequence[int]) -> dict[str, Any]:
    """R@1 and R@10 of the utterances ``asked`` among the ``gallery``, by every embedding of ``head``.

    ``n``: how many are asked, those whose picture is there; ``gallery``: among how many. Empty where there are none.
    """
    shown = gallery(material)
    there = {int(material.meaning[row]) for row in shown}
    asked = [row for row in asked if int(material.meaning[row]) in there]
    if not asked:
        return {}
    heard, known = (material.exam.hear(head, rows).embeddings for rows in (asked, shown))
    right = material.meaning[asked][:, None] == material.meaning[shown][None]
    found: dict[str, Any] = {"n": len(asked), "gallery": len(shown)}
    for name, embedding in heard.items():
        cosines = embedding @ known[name].T
        found[name] = {f"r{k}": round(recall(cosines, right, min(k, len(shown))), 4) for k in (1, 10)}
    return found
