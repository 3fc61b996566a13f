"""Asking by a spelling that sounds right: how espeak-ng reads it aloud, fused with how the text encoder reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError
from sayclip.library.checks import finite_number
from sayclip.library.protocol import EncoderLike

SOUND_SHARE = 0.5
"""How much of a query by ``sounds_like`` is its sound unless the caller says otherwise; the rest is its spelling.

The unit embeddings of both are added, the pronunciation's times this and the text's times one less this, and the sum is
brought to length 1: 0 is the text encoder alone, 1 the pronunciation encoder alone. Equal shares favour neither.
"""


def checked_share(share: float | None) -> float:
    """``share``, a number from 0 to 1, or the default for None. Raises `InputError`."""
    if share is None:
        return SOUND_SHARE
    number = finite_number("sound_share", share)
    if not 0 <= number <= 1:
        raise InputError(f"sound_share is {number:g}", "give a number from 0 (its spelling) to 1 (its sound)")
    return number


def encoders_for(share: float) -> tuple[str, ...]:
    """The encoders that a query with this share of sound needs."""
    return tuple(name for name, part in (("text", 1 - share), ("pronunciation", share)) if part > 0)


def blend(spelt: NDArray[Any], sounding: NDArray[Any], share: float) -> NDArray[np.float64]:
    """Unit embeddings `[n, width]` of texts and of their pronunciations as one, float64 `[n, width]` of length 1.

    Rows that point in opposite directions cancel out at equal shares; such a row stays 0.
    """
    rows = (1 - share) * np.asarray(spelt, np.float64) + share * np.asarray(sounding, np.float64)
    fused: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return fused


def embed(
    spellings: list[Any], encoder: EncoderLike, share: float, language: str | None
) -> dict[str, NDArray[np.float32]]:
    """What each encoder that is needed makes of the spellings, float32 `[n, width]` by its name.

    A symbol in espeak-ng's reading that the pronunciation encoder does not know counts as the nearest that it knows:
    the caller typed no phonemes and could mend none.
    """
    rows: dict[str, NDArray[np.float32]] = {}
    for name in encoders_for(share):
        if name == "text":
            rows[name] = encoder.text(spellings)
        else:
            rows[name] = encoder.pronunciation(words=spellings, language=language, nearest=True)
    return rows
