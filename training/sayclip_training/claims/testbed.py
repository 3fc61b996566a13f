"""The test bed as experiments read it: names and their pictures, and the spellings that are asked by."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.bundle.files import sha256_of
from sayclip.errors import InputError
from sayclip_training.testbed.misspellings import LEVELS

_REMEDY = "make it with `sayclip train demo-data --out DIR`"
LEARNT, KEPT_OUT = "learnt", "kept out"  # whether training has the word; what only evaluates is neither
SPEECH = "speech.tsv"
_PARTS = {"train": LEARNT, "word": KEPT_OUT}


@dataclass(frozen=True)
class Spelling:
    """A text that is asked by, the row of the picture that it means, and the part of the split its name is in."""

    text: str
    picture: int
    part: str


@dataclass(frozen=True)
class TestBed:
    """``names`` of the pictures ``files`` and the ``part`` of each, in the order of ``words.json``; ``words`` whole."""

    folder: Path
    names: Sequence[str]
    files: Sequence[str]
    parts: Sequence[str]
    words: Sequence[Mapping[str, Any]]
    sha256: Mapping[str, str]

    __test__ = False  # no test, in spite of its name

    @property
    def captions(self) -> Path:
        """The table of captions."""
        return self.folder / "captions.tsv"

    @property
    def speech(self) -> Path:
        """The table of recordings."""
        return self.folder / SPEECH

    def same(self) -> dict[str, list[int]]:
        """The rows of all pictures with a name, by the name in small letters."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            rows.setdefault(name.casefold(), []).append(row)
        return rows

    def questions(self) -> dict[str, list[Spelling]]:
        """What is asked, by kind: the clean names, their homophones, and misspellings with 0, 1 and 3 phonemes changed.

        A homophone that is the name of a picture means that picture too, and is left out.
        """
        taken = {name.casefold() for name in self.names}
        rows = list(zip(range(len(self.words)), self.words, self.parts, strict=True))
        found = {
            "clean": [Spelling(word["name"], row, part) for row, word, part in rows],
            "homophones": [
                Spelling(text, row, part)
                for row, word, part in rows
                for text in word["homophones"]
                if text.casefold() not in taken
            ],
        }
        for level in LEVELS:
            found[misspelt(level)] = [
                Spelling(made["spelling"], row, part)
                for row, word, part in rows
                for made in word["misspelt"][str(level)]
            ]
        return found

    def named_in(self, language: str) -> list[Spelling]:
        """The names of the pictures in ``language`` (a file of ``languages/``), each once a picture."""
        row_of = {file: row for row, file in enumerate(self.files)}
        found: dict[int, Spelling] = {}
        for line in _table(self.folder / "languages" / f"{language}.tsv"):
            row = row_of.get(line["file"])
            if row is not None:
                found.setdefault(row, Spelling(line["name"], row, self.parts[row]))
        return list(found.values())


def misspelt(level: int) -> str:
    """The kind of question with ``level`` phonemes changed."""
    return f"misspelt, {level} changed"


def open_testbed(folder: Path, also: Sequence[str] = ()) -> TestBed:
    """Read the test bed in ``folder``; ``also``: files to hold against their hashes besides those that are read.

    Raises InputError for one that is not there or is not whole.
    """
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        hashes = {name: about["sha256"][name] for name in ("captions.tsv", "words.json", *also)}
        names, files = [word["name"] for word in words], [word["file"] for word in words]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no finished test bed ({error})", _REMEDY) from error
    for name, wanted in hashes.items():
        try:
            seen = sha256_of(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read ({error.strerror})", _REMEDY) from error
        if seen != wanted:
            raise InputError(f"{folder / name} has sha256 {seen[:12]}, about.json says {wanted[:12]}", _REMEDY)
    split = {(row["file"], row["caption"]): row["split"] for row in _table(folder / "captions.tsv")}
    parts = [_PARTS.get(split.get((file, name), ""), "") for file, name in zip(files, names, strict=True)]
    return TestBed(folder, names, files, parts, words, hashes)


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})", _REMEDY) from error
