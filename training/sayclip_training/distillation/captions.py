"""Captions to learn from: a text of one caption a line, or a table separated by tabs with a header.

A table has a column ``caption`` (or ``name``), and may have:

- ``language``: of the caption, such as ``de``; otherwise ``,lang=de`` after the file's name says it;
- ``teacher``: what the teacher reads instead, for a caption in a language that it does not know;
- ``split``: ``train``, ``validation``, or anything else, which is kept out of both;
- ``file``: the picture that the caption belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sayclip.errors import InputError
from sayclip.phonemes.g2p import MAX_CHARACTERS
from sayclip_training import hashed

TRAIN, VALIDATION, OTHER = "train", "validation", "other"
HELD_OUT = 0.05  # of what the teacher reads, where a file does not say
NAMES = ("caption", "name")
KNOWN = (*NAMES, "language", "teacher", "split", "file")
_LANGUAGE = ",lang="
_REMEDY = "give one caption a line, or a table separated by tabs whose header has a column called caption"


@dataclass(frozen=True)
class Caption:
    """What is said in ``language`` ("": in every language of the training), and what the teacher ``read``s for it.

    ``file``: its picture, or ""; ``line`` of the file ``source``, from 1 on.
    """

    text: str
    language: str
    read: str
    split: str
    file: str
    source: str
    line: int

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.source}, line {self.line}"


def read_captions(given: Sequence[str]) -> list[Caption]:
    """The captions of all files ``given``, each a path or ``PATH,lang=CODE``; splits are ``TRAIN`` and so on.

    Where a file has no ``split``, one in twenty is held out, by the hash of what the teacher reads. A caption in
    another language than the first one's, without a ``teacher`` of its own, is read by the teacher as the first caption
    of the first language with the same ``file``. Raises InputError, with the line, for a file that is of no use.
    """
    found = [caption for name in given for caption in _read(name)]
    if not any(caption.text for caption in found):
        raise InputError(f"{', '.join(given)}: there is no caption in it", _REMEDY)
    first = found[0].language
    of_picture: dict[str, str] = {}
    for caption in found:
        if caption.file and caption.language == first:
            of_picture.setdefault(caption.file, caption.read or caption.text)
    ready = []
    for caption in found:
        read = caption.read or caption.text
        if not caption.read and caption.language != first:
            read = of_picture.get(caption.file, read)
        split = caption.split or (VALIDATION if hashed.share(f"held out\t{read.casefold()}") < HELD_OUT else TRAIN)
        ready.append(replace(caption, read=read, split=split))
    return ready


def _read(given: str) -> list[Caption]:
    name, _, language = given.rpartition(_LANGUAGE) if _LANGUAGE in given else (given, "", "")
    lines = _lines(Path(name).expanduser(), name)
    if not lines:
        return []
    cells = [cell.strip().casefold() for cell in lines[0][1].split("\t")]
    column = next((known for known in NAMES if known in cells), None)
    if len(cells) > 1 and column is None:
        raise InputError(f"{name} has the columns {', '.join(cells)[:80]}, wanted one called caption", _REMEDY)
    if len(cells) == 1 and column is None and cells[0] in KNOWN:
        raise InputError(f"{name} has the one column {cells[0]}, wanted one called caption", _REMEDY)
    if column is None:
        return [_caption(name, number, {"caption": text, "language": language}) for number, text in lines]
    captions = []
    for number, text in lines[1:]:
        values = text.split("\t")
        if len(values) != len(cells):
            columns = "column" if len(values) == 1 else "columns"
            raise InputError(
                f"{name}, line {number} has {len(values)} {columns}, its header {len(cells)}", "mend the line"
            )
        row = dict(zip(cells, map(str.strip, values), strict=True))
        row |= {"caption": row[column], "language": row.get("language") or language}
        captions.append(_caption(name, number, row))
    return captions


def _caption(name: str, number: int, row: dict[str, str]) -> Caption:
    text = row["caption"].strip()
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{name}, line {number} has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken",
            "give one caption a line",
        )
    named = row.get("split", "").casefold()
    split = named if named in (TRAIN, VALIDATION) else OTHER if named else ""
    return Caption(text, row["language"], row.get("teacher", ""), split, row.get("file", ""), name, number)


def _lines(path: Path, name: str) -> list[tuple[int, str]]:
    """The lines of ``path`` that are not blank, with their numbers."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"the captions {name} cannot be read ({error.strerror})", "name a text file") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name}, line 1 is UTF-16, wanted UTF-8", "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line} is not UTF-8 (byte {data[error.start]:#04x})", "save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{name}, line {line} holds a zero byte, so it is no text", _REMEDY)
    rows = enumerate(text.split("\n"), 1)
    return [(number, row.rstrip("\r")) for number, row in rows if row.strip()]
