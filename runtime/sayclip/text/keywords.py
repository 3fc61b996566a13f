"""Keywords that a speech encoder hears: ids of CLIP's vocabulary and the words they stand for.

A keyword vocabulary is a text file of one ``id<tab>word`` a line, ids ascending. A token that does not end a word has a
hyphen behind it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sayclip.errors import BundleError

_MAX_BYTES = 16 << 20
_REMEDY = "copy the keyword vocabulary again, or export the bundle anew"


@dataclass(frozen=True)
class Keyword:
    """One keyword: its id in CLIP's vocabulary, the word, and its cosine with what was heard."""

    token_id: int
    word: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_keywords(path: Path) -> dict[int, str]:
    """Words by token id. Raises BundleError when the file is missing, damaged or not of the form above."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: the keyword vocabulary is larger than {_MAX_BYTES:,} bytes", _REMEDY)
        lines = path.read_bytes().decode("utf-8").splitlines()
    except OSError as error:
        raise BundleError(f"{path}: the keyword vocabulary cannot be read ({error.strerror})", _REMEDY) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: the keyword vocabulary is not UTF-8 text (byte {error.start})", _REMEDY) from error
    words: dict[int, str] = {}
    last = -1
    for number, line in enumerate(lines, start=1):
        token, _, word = line.partition("\t")
        if not (token.isascii() and token.isdigit() and int(token) > last and word.strip()):
            problem = f"line {number} is {line[:40]!r}, wanted an ascending id, a tab and a word"
            raise BundleError(f"{path}: {problem}", _REMEDY)
        last = int(token)
        words[last] = word
    if not words:
        raise BundleError(f"{path}: the keyword vocabulary is empty", _REMEDY)
    return words
