"""When espeak-ng says which word, from the events that it sends along with its samples.

Events are those of ``speak_lib.h``: a word and a phoneme each announce their beginning, and every phoneme names the
place in the text of the word that it belongs to. A word begins with its first phoneme, whose event comes after the
pause before it. It ends where the next event follows its last phoneme, be that a pause, another word or the end; but a
vowel's event comes late after a liquid or a nasal, whose own sound is the way into that vowel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sayclip_training.synthesis.timed import SpokenWord

WORD, END, PHONEME = 1, 5, 7

_MARKS = "',%=_|"  # of stress; an underscore alone, or with what follows it, is a pause
_VOWEL = re.compile(r"[aAeEiIoOuUV0@3&]")
_SONORANT = re.compile(r"[lrwjLRmnN]")  # liquids and nasals


class Event(NamedTuple):
    """``kind`` as in ``speak_lib.h``; ``place`` counts characters of the text from 1; ``sample`` from 0."""

    kind: int
    place: int
    sample: int
    name: str = ""

    @property
    def sound(self) -> str:
        """The mnemonic of a phoneme without its stress; empty for a pause and for what is no phoneme."""
        return "" if self.kind != PHONEME or self.name.startswith("_") else self.name.lstrip(_MARKS)


def word_times(words: Sequence[str], events: Sequence[Event], samples: int, rate: int) -> list[SpokenWord] | None:
    """The times of ``words``, said as one text with one blank between them, in ``samples`` at ``rate`` Hz.

    None where a word has no sound of its own: espeak-ng says some words as one (``of the``), and some not at all.
    """
    spans: list[list[int]] = [[] for _ in words]
    owner = [number for number, word in enumerate(words) for _ in range(len(word) + 1)]
    ordered = [*events, Event(END, 0, samples)]
    for number, event in enumerate(events):
        if not event.sound:
            continue
        after = next(other for other in ordered[number + 1 :] if other.kind in (PHONEME, END))
        late = _SONORANT.match(event.sound) and _VOWEL.match(after.sound)
        end = after.sample if late else ordered[number + 1].sample
        if not 1 <= event.place <= len(owner):
            return None
        spans[owner[event.place - 1]] += [event.sample, end]
    if not all(spans):
        return None
    return [SpokenWord(word, span[0] / rate, span[-1] / rate) for word, span in zip(words, spans, strict=True)]
