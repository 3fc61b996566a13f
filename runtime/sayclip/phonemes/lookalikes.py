"""Which IPA symbol somebody may have meant who typed something that is none.

Only for suggestions in messages: nothing is replaced by these rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

# SAMPA's and ARPAbet's habits, and shapes.
_MEANT = {
    "A": "ɑ", "B": "b", "C": "tʃ", "D": "ð", "E": "ɛ", "G": "ɡ", "H": "h", "I": "ɪ", "J": "dʒ", "L": "l", "N": "ŋ",
    "O": "ɔ", "Q": "ɒ", "R": "ɹ", "S": "ʃ", "T": "θ", "U": "ʊ", "V": "ʌ", "W": "w", "X": "x", "Y": "j", "Z": "ʒ",
    "@": "ə", "3": "ɜ", "{": "æ", "&": "æ", "?": "ʔ", "1": "ɨ", "2": "ø", "4": "ɾ", "6": "ɐ", "7": "ɤ", "8": "ɵ",
    "9": "œ", "0": "o", "$": "s", "!": "ǃ", "š": "ʃ", "ž": "ʒ", "č": "tʃ", "ı": "ɪ", "þ": "θ", "đ": "ð", "ñ": "ɲ",
    "ᴂ": "æ", "α": "ɑ", "ι": "ɪ", "υ": "ʊ", "δ": "ð", "φ": "ɸ", "η": "ŋ", "λ": "l", "σ": "s",
}  # fmt: skip
_LETTER = re.compile(r"LETTER (?:SMALL |CAPITAL )*(?:REVERSED |TURNED |SIDEWAYS )?([A-Z])")


def lookalike(symbol: str, chart: Container[str]) -> str | None:
    """The symbol of ``chart`` that ``symbol`` most likely stands for, or None.

    By habit, then by the letter under a compatibility form or diacritics, then by the first letter of its name in
    Unicode, which is mostly its sound (``Ж`` is ZHE).
    """
    bare = unicodedata.normalize("NFKD", symbol)[:1]
    guesses = [symbol, _MEANT.get(symbol), _MEANT.get(bare), bare, bare.lower()]
    letter = _LETTER.search(unicodedata.name(symbol[:1], ""))
    if letter:
        guesses += [letter[1].lower(), _MEANT.get(letter[1])]
    return next((guess for guess in guesses if guess and guess in chart), None)
