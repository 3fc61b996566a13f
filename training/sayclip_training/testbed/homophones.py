"""Words that sound the same and are spelled otherwise, found by letting espeak-ng read a word list.

The list is Debian's ``wamerican`` where it is installed; without it, the words of the names and keywords themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from sayclip_training.testbed import reading
from sayclip_training.testbed.misspellings import FUNCTION_WORDS

WORD_LIST = Path("/usr/share/dict/american-english")
PACKAGE = "wamerican"
_WORD = re.compile(r"[a-z]{2,}")


def word_list(path: Path = WORD_LIST) -> list[str]:
    """Words in small letters, without names and possessives; empty where the list is not installed."""
    if not path.exists():
        return []
    return [word for word in path.read_text(encoding="utf-8").split() if _WORD.fullmatch(word)]


def homophones(wanted: Iterable[str], others: Iterable[str]) -> dict[str, list[str]]:
    """For each word of ``wanted`` that has any: those of ``others`` that espeak-ng reads alike, in their order."""
    wanted = sorted(set(wanted))
    sounds = {reading.broad(word) for word in wanted}
    alike: dict[tuple[str, ...], list[str]] = {}
    for word in dict.fromkeys(others):
        sound = reading.broad(word)
        if sound in sounds:
            alike.setdefault(sound, []).append(word)
    found = {word: [other for other in alike.get(reading.broad(word), ()) if other != word] for word in wanted}
    return {word: same for word, same in found.items() if same}


def words_of(names: Iterable[str]) -> Collection[str]:
    """The words of names that may have homophones: those in small letters that mean something by themselves."""
    return {word for name in names for word in name.split() if _WORD.fullmatch(word) and word not in FUNCTION_WORDS}


def of_name(name: str, table: Mapping[str, list[str]]) -> list[str]:
    """``name`` with one of its words exchanged for one that sounds the same, where the whole still sounds the same."""
    words = name.split()
    found = [
        " ".join([*words[:place], other, *words[place + 1 :]])
        for place, word in enumerate(words)
        for other in table.get(word, ())
    ]
    return [spelling for spelling in found if reading.broad(spelling) == reading.broad(name)]
