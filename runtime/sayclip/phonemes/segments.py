"""Splitting written IPA into segments: what counts as a segment, what is dropped, what is respelt.

The same rules serve training and run time, so they live here and nowhere else:

- text is read in Unicode's decomposed form (NFD), the longest symbol of the chart first;
- an affricate that the chart lists (``tʃ``, ``dʒ``; newer charts have ``ts`` and others) is one segment with or without
  a tie bar or as a ligature; any other is its two parts;
- length, tone, tie bars, invisible characters and the diacritics of narrow transcription are dropped, unless the chart
  lists the vowel with its mark (``ɑ̃``): ``ɑː`` = ``ɑ``, ``t̪`` = ``t``, ``kʰ`` = ``k``;
- stress marks, syllable dots and hyphens are dropped too, but no affricate reaches across one (``nʌt.ʃɛl``);
- of these, the marks of stress and length are segments of their own for an encoder that was trained with them;
- a syllabic consonant is a schwa and the consonant (``æpl̩`` = ``æpəl``); the hook of r-coloured vowels is ``ɹ``,
  except in ``ə˞`` = ``ɚ`` and ``ɜ˞`` = ``ɝ``;
- what keyboards offer in place of IPA is respelt: ``g`` = ``ɡ``, ``:`` = ``ː``, an apostrophe is a stress mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from sayclip.text.normalise import decompose

WORD_BOUNDARY = " "
STRESS, SECONDARY_STRESS, LONG, HALF_LONG = "ˈ", "ˌ", "ː", "ˑ"
MARKS = (STRESS, SECONDARY_STRESS, LONG, HALF_LONG)

# Symbols that are another way of writing chart symbols: keyboard letters, ligatures, withdrawn IPA symbols.
_RESPELT = {
    "g": "ɡ", "ɫ": "l", "ǝ": "ə", "ᵊ": "ə", "ɩ": "ɪ", "ɷ": "ʊ", "γ": "ɣ", "ε": "ɛ", "ϑ": "θ", "ß": "β", "ꭓ": "χ",
    "ʧ": "tʃ", "ʤ": "dʒ", "ʦ": "ts", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ", "ꭧ": "tʂ", "ꭦ": "dʐ",
    "|": " ", "‖": " ", "‿": "", "ʴ": "˞", "ʵ": "˞",
}  # fmt: skip
_DROPPED = (
    "ːˑ:"  # length
    "ʰʱʲʷˠˤⁿˡˀʼᵝᶣ"  # secondary articulation and release
    "˥˦˧˨˩ꜛꜜ↗↘↑↓"  # tone and intonation
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # soft hyphen, zero-width and direction marks
)
_BREAKS = "ˈˌ'’.-‐"  # stress and syllable marks
_BREAK = "\uffff"  # a non-character
_SPELLING = {**_RESPELT, **dict.fromkeys(_DROPPED, ""), **dict.fromkeys(_BREAKS, _BREAK)}
_SAME_MARK = {STRESS: "ˈ'’", SECONDARY_STRESS: "ˌ", LONG: "ː:", HALF_LONG: "ˑ"}  # as people type them

_COMBINING = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\ufe00-\ufe0f"
_CEDILLA = "\u0327"
_CLUSTER = re.compile(f"([^{_COMBINING}]?)([{_COMBINING}]+)")
_SYLLABIC = ("\u0329", "\u030d")
_HOOK = re.compile("(.?)˞")
_HOOKED = {"ə": "ɚ", "ɜ": "ɝ", "ɚ": "ɚ", "ɝ": "ɝ", "ɹ": "ɹ"}
_BRACKETS = {"/": "/", "[": "]"}


def is_composite(symbol: str) -> bool:
    """Whether a segment can be read as simpler ones: an affricate as two, a nasal vowel as the oral one."""
    return len(unicodedata.normalize("NFD", symbol).replace(_CEDILLA, "")) > 1  # ç is no c


class Segmenter:
    """Splits IPA strings into the symbols of one chart."""

    def __init__(self, symbols: Iterable[str]) -> None:
        """``symbols``: the segments of the chart as people type them, e.g. ``["p", "tʃ", "ç"]``.

        A mark of stress or length among them (``MARKS``) is kept as a segment rather than dropped.
        """
        self._symbols = {unicodedata.normalize("NFD", symbol): symbol for symbol in symbols}
        longest_first = sorted(self._symbols, key=len, reverse=True)
        # What no symbol matches is a token of one character, for the caller to refuse by name.
        self._token = re.compile("|".join([*map(re.escape, longest_first), r"\s+", "(?s:.)"]))
        kept = {typed: mark for mark in MARKS if mark in self._symbols for typed in _SAME_MARK[mark]}
        self._spelling = str.maketrans({**_SPELLING, **kept})

    def split(self, ipa: str) -> list[str]:
        """Segments of ``ipa`` in order, with ``" "`` between words; characters of no known segment stand as they are.

        Never raises; nothing but marks and blanks gives no segments.
        """
        text = _without_brackets(decompose(ipa).strip())
        text = text.translate(self._spelling)
        text = _CLUSTER.sub(self._without_marks, text)
        text = _HOOK.sub(lambda found: _HOOKED.get(found[1], found[1] + "ɹ"), text)
        tokens: list[str] = []
        for token in self._token.findall(text):
            if token == _BREAK:
                continue
            if token.isspace():
                token = WORD_BOUNDARY
                if not tokens or tokens[-1] == WORD_BOUNDARY:
                    continue
            tokens.append(self._symbols.get(token, token))
        if tokens and tokens[-1] == WORD_BOUNDARY:
            tokens.pop()
        return tokens

    def _without_marks(self, found: re.Match[str]) -> str:
        base, marks = found[1], found[2]
        for mark in marks:
            if base + mark in self._symbols:  # ç is c with a cedilla, and no c
                return base + mark
        if base.isalpha() and any(mark in _SYLLABIC for mark in marks):
            return "ɚ" if base == "ɹ" else "ə" + base
        return base


def _without_brackets(text: str) -> str:
    while len(text) >= 2 and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text
