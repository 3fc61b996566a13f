"""How espeak-ng reads a spelling: as phonemes to write anew, and in a form that can be compared."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from sayclip.phonemes.segments import Segmenter
from sayclip_export.phonemes.chart import load_chart
from sayclip_training.synthesis.espeak import Espeak

VOICE = "en-us"  # as the pronunciation encoder's own reading of spelled words
_STRESS = str.maketrans("", "", "ˈˌ")
_FLAG = re.compile(r"\([a-z-]+\)")  # espeak-ng marks what it reads by another language's rules
# Sounds that no two English words differ by, and that espeak-ng chooses by stress and neighbours.
_BROAD = {"ᵻ": "ɪ", "ɐ": "ə", "ɾ": "t", "ɝ": "ɚ"}


@cache
def espeak() -> Espeak:
    """The process's own instance: the library keeps one global state."""
    return Espeak()


@lru_cache(maxsize=1 << 17)
def units(text: str) -> tuple[tuple[str, ...], ...]:
    """The phonemes of every word that espeak-ng says, in IPA without stress: ``əl`` and ``ɑːɹ`` are one each."""
    ipa = _FLAG.sub("", espeak().ipa(text, VOICE)).translate(_STRESS)
    return tuple(tuple(unit for unit in word.split("|") if unit) for word in ipa.split())


def ipa(text: str) -> str:
    """IPA as the runtime's own G2P gives it: no stress, words separated by a blank."""
    return " ".join("".join(word) for word in units(text))


@lru_cache(maxsize=1 << 17)
def broad(text: str) -> tuple[str, ...]:
    """Segments of ``text`` as espeak-ng reads it, word boundaries left out, without what no two words differ by.

    Equal for texts that sound the same.
    """
    return broadened("".join("".join(word) for word in units(text)))


def broadened(ipa: str) -> tuple[str, ...]:
    """The same of written IPA."""
    segments = [_BROAD.get(segment, segment) for segment in _segmenter().split(ipa) if segment != " "]
    result: list[str] = []
    for segment in segments:
        if segment == "ɹ" and result and result[-1] in ("ɜ", "ɚ"):
            result[-1] = "ɚ"  # "ɜːɹ", "ɚɹ" and "ɚ" differ by what follows alone
        else:
            result.append(segment)
    return tuple("ɚ" if segment == "ɜ" else segment for segment in result)


@cache
def _segmenter() -> Segmenter:
    return Segmenter(load_chart().symbols)
