"""Asking by a spelling that sounds right: how espeak-ng reads it aloud, and how the text encoder reads it.

An item counts by whichever of both readings it is nearer to (CombMAX of Fox and Shaw 1994). Adding the two embeddings
finds less: a reading that means nothing to its encoder, a misspelling as text or a word that the pronunciation encoder
never learnt, then spoils the other, while alone it is near to nothing (`sayclip train claims pronunciation`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError
from sayclip.library.checks import finite_number
from sayclip.library.protocol import EncoderLike

SOUND_SHARE = 0.56
"""How much the sound of a query by ``sounds_like`` counts unless the caller says otherwise; its spelling by the rest.

0 is the text encoder alone, 1 the pronunciation encoder alone; at 0.5 their cosines compete as they are. Measured on
the open test bed: docs/pronunciation.md.
"""


def checked_share(share: float | None) -> float:
    """``share``, a number from 0 to 1, or the default for None. Raises `InputError`."""
    if share is None:
        return SOUND_SHARE
    number = finite_number("sound_share", share)
    if not 0 <= number <= 1:
        raise InputError(f"sound_share is {number:g}", "give a number from 0 (its spelling) to 1 (its sound)")
    return number


def factors(share: float) -> dict[str, float]:
    """What the cosines of each reading are multiplied by, by the encoder that reads: the larger share by 1.

    A reading of share 0 is left out.
    """
    shares = {"text": 1 - share, "pronunciation": share}
    return {name: part / max(shares.values()) for name, part in shares.items() if part > 0}


def embed(
    spellings: list[Any], encoder: EncoderLike, share: float, language: str | None
) -> dict[str, NDArray[np.float32]]:
    """What each encoder that is needed makes of the spellings, float32 `[n, width]` by its name.

    A symbol in espeak-ng's reading that the pronunciation encoder does not know counts as the nearest that it knows:
    the caller typed no phonemes and could mend none.
    """
    rows: dict[str, NDArray[np.float32]] = {}
    for name in factors(share):
        if name == "text":
            rows[name] = encoder.text(spellings)
        else:
            rows[name] = encoder.pronunciation(words=spellings, language=language, nearest=True)
    return rows
