"""Phonemes heard wrong: replaced by others of the encoder, the nearer on the IPA chart the more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sayclip.phonemes.distance import distances, metric_coordinates
from sayclip.phonemes.segments import MARKS

REACH = 0.3
"""How far confusion reaches: a phoneme at this distance replaces another 1/e times as often as one at distance 0.

Voiced for voiceless is 1, a step of the place of articulation 0.45.
"""


def confusion(inventory: Mapping[str, Any], reach: float = REACH) -> Tensor:
    """How often each id is replaced by each other when it is replaced, f32 [V,V]; rows that are never are zero.

    ``inventory``: content of a phonemes.json. Special ids and marks are neither replaced nor do they replace.
    """
    sounds = [e for e in inventory["symbols"] if e["id"] is not None and e["symbol"] not in MARKS]
    size = 1 + max(e["id"] for e in inventory["symbols"] if e["id"] is not None)
    points = metric_coordinates(np.array([e["vector"] for e in sounds], np.float32), inventory["attributes"])
    table = np.zeros((size, size), np.float32)
    ids = [e["id"] for e in sounds]
    for row, number in enumerate(ids):
        gaps = distances(points[row], points)
        gaps[row] = np.inf
        if len(ids) > 1:
            weight = np.exp((gaps.min() - gaps) / reach)  # from the nearest on, so that no row vanishes
            table[number, ids] = weight / weight.sum()
    return torch.from_numpy(table)


def with_noise(ids: Tensor, table: Tensor, share: float) -> Tensor:
    """``ids`` i32 [B,L] with that ``share`` of its phonemes replaced as ``table`` says, by torch's global generator."""
    chosen = (torch.rand(ids.shape) < share) & (table.sum(1) > 0)[ids.long()]
    if not chosen.any():
        return ids
    noisy = ids.clone()
    noisy[chosen] = torch.multinomial(table[ids[chosen].long()], 1)[:, 0].to(ids.dtype)
    return noisy
