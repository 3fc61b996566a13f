"""Reading vocabularies in the format of CLIP's ``bpe_simple_vocab_16e6.txt``.

A header line, then one merge ``first second`` a line, by rank. CLIP's own file lists more merges than CLIP uses; the
rest is ignored.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from sayclip.errors import BundleError

END_OF_WORD = "</w>"
CLIP_MERGES = 49_152 - 256 - 2
_MAX_BYTES = 64 * 2**20  # CLIP's file has 3.2 MB unpacked
_REMEDY = "copy the tokenizer file again, or export the bundle anew"


def byte_characters() -> dict[int, str]:
    """A printable character for every byte, in the order of their ids: Latin-1's printable ones stand for themselves.

    The others get U+0100 upwards, so that a vocabulary file has no blanks or control characters in its tokens.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [value for value in range(256) if value not in set(printable)]
    characters = {value: chr(value) for value in printable}
    characters.update({value: chr(0x100 + place) for place, value in enumerate(rest)})
    return characters


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Merges of a vocabulary file (``.txt``, or gzip whatever its name) by rank.

    ``BundleError`` when it is missing, damaged, or a line is not two tokens that are bytes or made by merges.
    """
    lines = _read(path).replace("\r\n", "\n").rstrip("\n").split("\n")[1 : CLIP_MERGES + 1]
    parts = " ".join(lines).split()
    merges = list(zip(parts[::2], parts[1::2], strict=False))
    if not merges:
        raise BundleError(f"{path}: the vocabulary has no merges", _REMEDY)
    known = set(byte_characters().values())
    known |= {token + END_OF_WORD for token in known}
    known.update(first + second for first, second in merges)
    if not known.issuperset(parts) or [f"{first} {second}" for first, second in merges] != lines:
        # Checked as a whole, which is quick; the line is looked for only when something is wrong.
        wrong = (
            n for n, line in enumerate(lines) if len(line.split(" ")) != 2 or not known.issuperset(line.split(" "))
        )
        number = next(wrong, 0)
        raise BundleError(
            f"{path}: line {number + 2} of the vocabulary is {lines[number][:40]!r}, wanted two known tokens", _REMEDY
        )
    return merges


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: the vocabulary cannot be read ({error.strerror})", _REMEDY) from error
    if data[:2] == b"\x1f\x8b":
        unpack = zlib.decompressobj(wbits=31)
        try:
            data = unpack.decompress(data, _MAX_BYTES)
        except zlib.error as error:
            raise BundleError(f"{path}: the vocabulary is damaged ({error})", _REMEDY) from error
        if not unpack.eof:
            raise BundleError(f"{path}: the vocabulary is cut short, or larger than {_MAX_BYTES:,} bytes", _REMEDY)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: the vocabulary is not UTF-8 text (byte {error.start})", _REMEDY) from error
