"""``words.json``: how every name sounds, what else sounds so, and how it might be misspelt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sayclip_training.testbed import homophones, reading
from sayclip_training.testbed.misspellings import LEVELS, Misspeller


def find_homophones(names: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """Homophones of the words of ``names``, in the word list and in all ``texts``."""
    return homophones.homophones(
        homophones.words_of(names), [*homophones.word_list(), *sorted(homophones.words_of(texts))]
    )


def entries(
    chosen: Sequence[tuple[str, str]], names: Sequence[str], texts: Sequence[str],
    table: Mapping[str, list[str]], seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """An entry of ``words.json`` for each (file, name) of ``chosen``.

    ``names``: of all pictures, none of which may come out as a misspelling of another; ``texts``: what else is written
    as somebody means it; ``table``: of `find_homophones`.
    """
    existing = {word.lower() for text in [*names, *texts] for word in text.split()} | set(homophones.word_list())
    misspeller = Misspeller(names, existing, seed)
    return [
        {
            "name": name,
            "file": file,
            "ipa": reading.ipa(name),
            "homophones": homophones.of_name(name, table),
            "misspelt": {
                str(level): [spelling._asdict() for spelling in misspeller.misspelt(name, level)] for level in LEVELS
            },
        }
        for file, name in chosen
    ]
