"""What spellings find among the pictures: read as text, by their sound, and by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.library import sounds_like
from sayclip_training.claims.testbed import Spelling

EITHER = (0.4, 0.45, 0.48, 0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.58, 0.6, 0.7)
ADDED = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
DEPTHS = (1, 10)
Recalls = dict[str, float]


@dataclass(frozen=True)
class Bank:
    """``rows`` f32 [P,D], of length 1, and for each picture all that have its name: ``same`` [P] of rows."""

    rows: NDArray[np.float32]
    same: Sequence[NDArray[np.int64]]

    def recalls(self, cosines: NDArray[np.float32], asked: Sequence[Spelling]) -> Recalls:
        """``n``, and the share of ``asked`` that have a right picture among the first 1 and 10 by ``cosines`` [N,P]."""
        # Equally good ones in the order of the pictures, so that a processor's rounding decides nothing else.
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : max(DEPTHS)]
        right = np.array([np.isin(row, self.same[one.picture]) for row, one in zip(order, asked, strict=True)])
        return {"n": len(asked), **{f"r{k}": round(float(right[:, :k].any(1).mean()), 4) for k in DEPTHS}}


def compare(
    bank: Bank, texts: NDArray[np.float32], sounds: NDArray[np.float32], asked: Sequence[Spelling]
) -> dict[str, Any]:
    """Recalls of ``asked``, whose embeddings are ``texts`` and ``sounds``, f32 [N,D] of length 1.

    ``text`` and ``sound`` alone; ``either``: by the nearer of both, as ``sayclip search --sounds-like``, and ``added``:
    by the sum of both embeddings, for several shares of the sound.
    """
    spelt, heard = texts @ bank.rows.T, sounds @ bank.rows.T

    def nearer(share: float) -> NDArray[np.float32]:
        factors = sounds_like.factors(share)
        return np.maximum(np.float32(factors["text"]) * spelt, np.float32(factors["pronunciation"]) * heard)

    return {
        "text": bank.recalls(spelt, asked),
        "sound": bank.recalls(heard, asked),
        "either": {str(share): bank.recalls(nearer(share), asked) for share in EITHER},
        "added": {str(share): bank.recalls((1 - share) * spelt + share * heard, asked) for share in ADDED},
    }
