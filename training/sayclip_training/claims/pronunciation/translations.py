"""Names in other languages: learnt beside English ones, and pictures that were never named in the language asked in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sayclip_training import hashed, whole
from sayclip_training.claims.pronunciation.asking import Asking
from sayclip_training.claims.testbed import KEPT_OUT, LEARNT, Spelling, TestBed

VOICES = {"en": "en-us", "de": "de", "fr": "fr-fr"}
CROSSED = "named in another language alone"
SHARE = 0.1  # of the pictures whose names in one language are left out, in each but English


def scores(asking: Asking, languages: Sequence[str]) -> dict[str, Any]:
    """Recalls of the names in each of ``VOICES``, by part; ``languages``: those beside English that were learnt.

    ``CROSSED``: the picture's name was learnt, but not in the language that it is asked for in.
    """
    return {language: _found(asking, language, languages) for language in VOICES}


def _found(asking: Asking, language: str, learnt: Sequence[str]) -> dict[str, Any]:
    asked = [
        one
        if one.part != LEARNT or language == "en"
        else replace(one, part=_part(asking.testbed, one, language, learnt))
        for one in asking.testbed.named_in(language)
    ]
    parts = {}
    for part in (LEARNT, CROSSED, KEPT_OUT):
        chosen = [replace(one, part=LEARNT) for one in asked if one.part == part]
        found = asking.found(chosen, VOICES[language])
        if found:
            parts[part] = {name: found[LEARNT][name] for name in ("text", "sound")}
    return parts


def _part(testbed: TestBed, one: Spelling, language: str, learnt: Sequence[str]) -> str:
    return LEARNT if language in learnt and not crossed(testbed.files[one.picture], language) else CROSSED


def crossed(file: str, language: str) -> bool:
    """Whether the name of the picture ``file`` is left out of the training in ``language``, which it is not in others.

    Different pictures for different languages.
    """
    number = hashed.share(f"crossed\t{file}")
    place = [name for name in VOICES if name != "en"].index(language)
    return place * SHARE <= number < (place + 1) * SHARE


def write_captions(testbed: TestBed, language: str, folder: Path) -> Path:
    """Write the table that an encoder learns ``language`` from, beside English: the names of learnt pictures."""
    split = {LEARNT: "train", KEPT_OUT: "word"}
    lines = ["file\tcaption\tsplit"]
    for one in testbed.named_in(language):
        file = testbed.files[one.picture]
        part = "crossed" if crossed(file, language) else split.get(one.part, "validation")
        lines.append(f"{file}\t{one.text}\t{part}")
    text = "".join(f"{line}\n" for line in lines)
    path = folder / f"names-{language}.tsv"
    whole.write(path, lambda target: target.write_text(text, encoding="utf-8", newline="\n"))
    return path
