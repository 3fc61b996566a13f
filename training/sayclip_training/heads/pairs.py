"""Pairs of recordings and pictures to learn from: a table separated by tabs with a header.

- ``speech`` (or ``file``): the recording; ``picture``: what it means. Paths are relative to the table.
- ``split`` (may be missing): ``train``, ``validation``, or any other name, which is evaluated by itself.
- ``caption``, ``words`` (may be missing): what is said, and ``[[word, start, end], …]`` in seconds, as JSON. They
  are for evaluation alone: nothing is learnt from them.

Utterances of the same picture mean the same.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sayclip.errors import InputError
from sayclip_training import hashed

TRAIN, VALIDATION = "train", "validation"
HELD_OUT = 0.05  # of the pictures, where the table has no split
SHOWN = 3  # missing files named in one message
_SPEECH = ("speech", "file")
_REMEDY = "give a table separated by tabs whose header has speech and picture"


@dataclass(frozen=True)
class Word:
    """A word that is said, from ``start`` to ``end`` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Pair:
    """``speech`` and ``picture`` are names relative to the table; ``words``: none where the table has none."""

    speech: str
    picture: str
    split: str
    caption: str
    words: tuple[Word, ...]
    line: int

    @property
    def spans(self) -> list[tuple[float, float]]:
        """From when to when each of its words is said, in seconds."""
        return [(word.start, word.end) for word in self.words]


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of a table in ``folder``, and the names of files that are missing."""

    folder: Path
    rows: Sequence[Pair]
    missing: Sequence[str]

    def report(self) -> str:
        """A line on what is missing, or ""."""
        if not self.missing:
            return ""
        more = f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        return (
            f"{len(self.missing)} files are missing, their pairs are left out: {', '.join(self.missing[:SHOWN])}{more}"
        )


def read_pairs(path: Path, *, pictures: bool = True) -> Pairs:
    """Read the table ``path``; pairs with a missing file are left out and counted.

    Without ``pictures`` these need not be there: they only say which utterances mean the same. Raises InputError, with
    the line, for a table of no use.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"the pairs {path} cannot be read ({error.strerror})", "name a table of pairs") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})", "save the file as UTF-8") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty", _REMEDY)
    table = list(csv.reader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE))
    head = [cell.strip().casefold() for cell in table[0]]
    speech = next((name for name in _SPEECH if name in head), None)
    if speech is None or "picture" not in head:
        raise InputError(f"{path} has the columns {', '.join(head)[:80]}, wanted speech and picture", _REMEDY)
    rows, missing = list[Pair](), dict[str, None]()
    there: dict[str, bool] = {}
    for (number, _), cells in zip(lines[1:], table[1:], strict=True):
        if len(cells) != len(head):
            raise InputError(f"{path}, line {number} has {len(cells)} columns, its header {len(head)}", "mend the line")
        row = dict(zip(head, map(str.strip, cells), strict=True))
        needed = [row[speech], *([row["picture"]] if pictures else [])]
        for name in needed:
            if name not in there:
                there[name] = bool(name) and (path.parent / name).is_file()
        absent = [name or f"(none, line {number})" for name in needed if not there[name]]
        if absent:
            missing.update(dict.fromkeys(absent))
            continue
        split = row.get("split") or (VALIDATION if hashed.share(f"held out\t{row['picture']}") < HELD_OUT else TRAIN)
        words = _words(row.get("words", ""), path, number)
        rows.append(Pair(row[speech], row["picture"], split, row.get("caption", ""), words, number))
    if not any(row.split == TRAIN for row in rows):
        lost = f", {len(missing)} files are missing" if missing else ""
        raise InputError(f"{path} has no pair to learn from{lost}", "give pairs in the split train, and their files")
    return Pairs(path.parent, rows, list(missing))


def _words(text: str, path: Path, line: int) -> tuple[Word, ...]:
    if not text:
        return ()
    try:
        words = tuple(Word(str(word), float(start), float(end)) for word, start, end in json.loads(text))
    except (ValueError, TypeError):
        raise InputError(
            f"{path}, line {line}: words are {text[:40]!r}", "give [[word, start, end], …] in JSON"
        ) from None
    before = 0.0
    for word in words:
        if not (math.isfinite(word.start) and math.isfinite(word.end) and before <= word.start <= word.end):
            raise InputError(
                f"{path}, line {line}: the word {word.text!r} lies from {word.start:g} to {word.end:g} s",
                "give times in seconds, in order",
            )
        before = word.start
    return words
