"""English phonemes in ARPAbet, as flite writes them, in IPA and in espeak-ng's mnemonics."""

from __future__ import annotations

from collections.abc import Sequence

ESPEAK = {
    "iy": "i:", "ih": "I", "eh": "E", "ae": "a", "aa": "A:", "ao": "O:", "ow": "oU", "uh": "U", "uw": "u:", "ah": "V",
    "ax": "@", "er": "3:", "ay": "aI", "ey": "eI", "oy": "OI", "aw": "aU", "ch": "tS", "jh": "dZ", "th": "T",
    "dh": "D", "sh": "S", "zh": "Z", "hh": "h", "ng": "N", "y": "j",
}  # fmt: skip
"""ARPAbet to espeak-ng's mnemonics, where they differ."""

IPA = {
    "iy": "i", "ih": "ɪ", "eh": "ɛ", "ae": "æ", "aa": "ɑ", "ao": "ɔ", "ow": "oʊ", "uh": "ʊ", "uw": "u", "ah": "ʌ",
    "ax": "ə", "er": "ɚ", "ay": "aɪ", "ey": "eɪ", "oy": "ɔɪ", "aw": "aʊ", "ch": "tʃ", "jh": "dʒ", "th": "θ",
    "dh": "ð", "sh": "ʃ", "zh": "ʒ", "hh": "h", "ng": "ŋ", "y": "j", "r": "ɹ", "g": "ɡ",
}  # fmt: skip
"""ARPAbet to IPA, where they differ."""


def to_ipa(symbols: Sequence[str]) -> str:
    """IPA of ARPAbet symbols, with or without stress, separated by blanks."""
    return " ".join(IPA.get(symbol.rstrip("012"), symbol.rstrip("012")) for symbol in symbols)
