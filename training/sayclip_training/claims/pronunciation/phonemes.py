"""Whether an encoder's embedding of phonemes orders them as the IPA chart does, and as people confuse them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sayclip.phonemes.distance import metric_coordinates
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.phonemes.segments import MARKS
from sayclip_export.readers.pronunciation import PronunciationCheckpoint
from sayclip_training.claims.pronunciation.perception import CONSONANTS, VOWEL, confusions
from sayclip_training.claims.ranks import rank_correlation
from sayclip_training.distillation.evaluation import embed, unit


def scores(checkpoint: PronunciationCheckpoint) -> dict[str, Any]:
    """Rank correlations of ``checkpoint``'s embedding, and its phonemes on a plane.

    ``chart``: of Euclidean distances in the embedding with distances on the chart, over all pairs of phonemes that the
    encoder knows; ``consonants`` and ``vowels``: within these alone. ``human``: of closeness in the embedding with how
    often people confuse the two; ``human_spoken``: the same of what the whole encoder makes of each consonant before
    /ɑ/; ``human_chart``: of closeness on the chart. ``map``: symbol, kind, x and y, the two directions in which the
    embedding of that kind varies most.
    """
    content = checkpoint.phonemes
    known = [entry for entry in content["symbols"] if entry["id"] is not None and entry["symbol"] not in MARKS]
    attributes = list(content["attributes"])
    vectors = np.array([entry["vector"] for entry in known], np.float32)
    on_chart = between(metric_coordinates(vectors, attributes))
    with torch.inference_mode():
        ids = torch.tensor([[entry["id"] for entry in known]])
        rows = checkpoint.tower.phonemes(ids)[0].numpy().astype(np.float64)
    embedded = between(rows)
    consonant = vectors[:, attributes.index("consonant")] > 0
    symbols = [entry["symbol"] for entry in known]
    found: dict[str, Any] = {
        "known": len(known),
        "chart": _agree(embedded, on_chart, np.ones(len(known), bool)),
        "consonants": _agree(embedded, on_chart, consonant),
        "vowels": _agree(embedded, on_chart, ~consonant),
    }
    heard = [symbol for symbol in CONSONANTS if symbol in symbols]
    if len(heard) > 2:  # fewer have no order
        places = [symbols.index(symbol) for symbol in heard]
        confused = confusions()[np.ix_(*[[CONSONANTS.index(symbol) for symbol in heard]] * 2)]
        everyone = np.ones(len(heard), bool)
        found |= {
            "heard": len(heard),
            "human": -_agree(embedded[np.ix_(places, places)], confused, everyone),
            "human_chart": -_agree(on_chart[np.ix_(places, places)], confused, everyone),
            "human_spoken": -_agree(_spoken(checkpoint, heard), confused, everyone),
        }
    plane = np.zeros((len(known), 2))
    for kind in (consonant, ~consonant):
        plane[kind] = _plane(rows[kind])
    found["map"] = [
        [symbol, "consonant" if kind else "vowel", *np.round(point, 3).tolist()]
        for symbol, kind, point in zip(symbols, consonant.tolist(), plane, strict=True)
    ]
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def between(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances [N,N] between points [N,P]."""
    gaps: NDArray[np.float64] = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return gaps


def _agree(one: NDArray[np.float64], other: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    upper = np.triu_indices(int(chosen.sum()), 1)
    a, b = (table[np.ix_(chosen, chosen)][upper] for table in (one, other))
    return rank_correlation(a, b)


def _spoken(checkpoint: PronunciationCheckpoint, consonants: Sequence[str]) -> NDArray[np.float64]:
    """Distances [N,N] of the encoder's embeddings of the syllables that people heard."""
    inventory = PhonemeInventory(checkpoint.phonemes)
    rows = embed(checkpoint.tower, [inventory.encode(symbol + VOWEL, nearest=True) for symbol in consonants])
    return between(unit(rows).astype(np.float64))


def _plane(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two principal components [N,2] of rows [N,D], as shares of the largest; signs are settled."""
    centred = rows - rows.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * values[:2]
    plane *= np.where(plane[np.abs(plane).argmax(0), [0, 1]] < 0, -1, 1)
    made: NDArray[np.float64] = plane / max(float(np.abs(plane).max()), 1e-12)
    return made
