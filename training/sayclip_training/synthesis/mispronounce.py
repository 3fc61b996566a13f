"""Mispronunciations: phonemes of an utterance replaced by neighbours on the IPA chart before it is synthesised.

An unheard speaker says some phonemes as heard ones say others; a speech encoder that was shown this is less surprised.
One table serves both synthesisers, in ARPAbet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sayclip_training.synthesis.arpabet import ESPEAK, to_ipa

SHARE = 0.15  # of an utterance's phonemes, one at least
DROPPED = 0.15  # of the chosen phonemes of a longer utterance, rather than replaced

NEAR = {
    symbol: near.split()
    for symbol, near in {
        "iy": "ih ey", "ih": "iy eh ax", "eh": "ae ih ey", "ae": "eh aa ah", "aa": "ao ah ae", "ao": "aa ow",
        "ow": "ao uh uw", "uh": "uw ax ah", "uw": "uh ow", "ah": "ax ae aa", "ax": "ah ih", "er": "ax eh",
        "ay": "oy aa ey", "ey": "eh iy ay", "oy": "ay ow", "aw": "aa ow",
        "p": "b t", "b": "p v", "t": "d k", "d": "t dh g", "k": "g t", "g": "k d", "ch": "sh jh", "jh": "ch zh",
        "f": "th v", "v": "f b w", "th": "f s t", "dh": "d v", "s": "z sh th", "z": "s zh", "sh": "s ch", "zh": "sh z",
        "hh": "f", "m": "n b", "n": "m ng", "ng": "n", "l": "r w", "r": "l w", "y": "iy", "w": "v r",
    }.items()
}  # fmt: skip
"""Neighbours of every phoneme, in ARPAbet."""

_ALSO = {"i": "iy", "I2": "ih", "aa": "ae", "0": "aa", "O": "ao", "a#": "ax", "3": "er", "t#": "t", "@L": "uh"}
_ARPABET = {mnemonic: symbol for symbol, mnemonic in ESPEAK.items()} | _ALSO
_NEAR_ESPEAK = {
    mnemonic: [ESPEAK.get(near, near) for near in NEAR[_ARPABET.get(mnemonic, mnemonic)]]
    for mnemonic in {*(ESPEAK.get(symbol, symbol) for symbol in NEAR), *_ALSO}
}
_FULL_VOWELS = frozenset(["iy", "eh", "ae", "aa", "ao", "ow", "uw", "ay", "ey", "oy", "aw", "er"])


def swap(symbols: Sequence[str], near: Mapping[str, Sequence[str]], rng: np.random.Generator) -> list[str]:
    """``symbols`` with some of those that ``near`` knows replaced; dropped ones become empty."""
    result = list(symbols)
    places = [i for i, symbol in enumerate(symbols) if symbol in near]
    if not places:
        return result
    count = max(1, int(rng.binomial(len(places), SHARE)))
    for place in rng.choice(places, count, replace=False):
        dropped = len(places) > 3 and rng.random() < DROPPED
        result[place] = "" if dropped else str(rng.choice(near[symbols[place]]))
    return result


def for_espeak(phonemes: str, ipa: str, rng: np.random.Generator) -> tuple[str, str]:
    """Mnemonics, as ``Espeak.phonemes`` writes them, with some swapped, and the IPA of what is then said.

    ``ipa``: the same phonemes as ``Espeak.ipa`` writes them; where it counts otherwise, no IPA comes back.
    """
    words = [[_stressed(token) for token in word.split("|")] for word in phonemes.split()]
    symbols = [symbol for word in words for _, symbol in word]
    swapped = swap(symbols, _NEAR_ESPEAK, rng)
    rest = iter(swapped)
    spelled = [[(mark, next(rest)) for mark, _ in word] for word in words]
    text = " ".join("|".join(mark + symbol for mark, symbol in word if symbol) for word in spelled)
    written = ipa.replace("|", " ").split()
    if len(written) != len(symbols):
        return text, ""
    said = [
        old_ipa if new == old else to_ipa([_ARPABET.get(new, new)]) if new else ""
        for old, new, old_ipa in zip(symbols, swapped, written, strict=True)
    ]
    return text, " ".join(said)


def for_flite(phonemes: Sequence[str], rng: np.random.Generator) -> list[str]:
    """ARPAbet as ``flite.phonemes`` writes it, with some swapped and full vowels stressed."""
    swapped = swap(phonemes, NEAR, rng)
    return [symbol + "1" if symbol in _FULL_VOWELS else symbol for symbol in swapped if symbol]


def _stressed(token: str) -> tuple[str, str]:
    symbol = token.lstrip("',%=_")
    return token[: len(token) - len(symbol)], symbol
