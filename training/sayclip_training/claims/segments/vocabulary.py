"""Which tokens units are nearest to, and what they spell in single utterances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from sayclip.text.tokenizer import Tokenizer
from sayclip_training import hashed
from sayclip_training.heads.examination import Examination, Outcome

MOST = 10
EXAMPLES, FEWEST_WORDS = 5, 3
Named = list[tuple[int, float]]  # of each unit the nearest token and the cosine to it


def named(heard: Outcome) -> list[Named]:
    """The units of every utterance."""
    return [list(zip(*one, strict=True)) for one in zip(heard.named, heard.scores, strict=True)]


def used(units: Sequence[Named], tokenizer: Tokenizer) -> dict[str, Any]:
    """The mean ``cosine`` of a unit to the nearest token, how many ``distinct`` ones there are, the ``most`` used."""
    count = Counter(token for row in units for token, _ in row)
    cosines = [cosine for row in units for _, cosine in row]
    most = sorted(count.items(), key=lambda one: (-one[1], one[0]))[:MOST]
    return {
        "units": len(cosines),
        "cosine": round(float(np.mean(cosines)), 4),
        "distinct": len(count),
        "most": [[word(tokenizer, token), number] for token, number in most],
    }


def word(tokenizer: Tokenizer, token: int) -> str:
    """What a token stands for; one inside a word has a hyphen behind it."""
    text = tokenizer.decode([token])
    return text if tokenizer.decode([token, token]) == f"{text} {text}" else f"{text}-"


def examples(
    exam: Examination, rows: Sequence[int], edges: Sequence[Sequence[float]], units: Sequence[Named], names: Tokenizer
) -> list[dict[str, Any]]:
    """A few utterances of several words, chosen by their names: what is said, and the units with their names."""
    places = [place for place, row in enumerate(rows) if len(exam.pairs[row].words) >= FEWEST_WORDS]
    places.sort(key=lambda place: hashed.number(f"example\t{exam.pairs[rows[place]].speech}"))
    return [
        {
            "speech": exam.pairs[rows[place]].speech,
            "caption": exam.pairs[rows[place]].caption,
            "words": [[one.text, one.start, one.end] for one in exam.pairs[rows[place]].words],
            "edges": [round(edge, 3) for edge in edges[place]],
            "names": [word(names, token) for token, _ in units[place]],
            "scores": [round(cosine, 3) for _, cosine in units[place]],
        }
        for place in places[:EXAMPLES]
    ]
