"""Keywords that a speech encoder hears: ids of its text side's vocabulary and the words they stand for.

A keyword vocabulary is a text file of one ``id<tab>word`` a line, ids ascending. A token that does not end a word has a
hyphen behind it, as CLIP's vocabulary tells; one that does not begin a word has it in front, as RoBERTa's tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BundleError

_MAX_BYTES = 16 << 20
_REMEDY = "copy the keyword vocabulary again, or export the bundle anew"


@dataclass(frozen=True)
class Keyword:
    """One keyword: its id in that vocabulary, the word, and its cosine with what was heard.

    ``start_s`` and ``end_s``: where it was heard, in seconds; None where the encoder does not tell.
    """

    token_id: int
    word: str
    score: float
    start_s: float | None = None
    end_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def keywords_heard(outputs: Mapping[str, NDArray[Any]], words: Mapping[int, str]) -> list[list[Keyword]]:
    """The keywords of every row of a speech graph's ``outputs``, as many as ``keyword_count`` says, if it does.

    ``keyword_ids`` int32 [B,K], ``keyword_scores`` float32 [B,K]; where they are given ``keyword_count`` int32 [B] and
    ``boundaries`` float32 [B,K+1] in seconds. ``words`` by token id; one that is not there is "?".
    """
    ids, scores = outputs["keyword_ids"], outputs["keyword_scores"]
    counts = outputs.get("keyword_count", np.full(len(ids), ids.shape[1]))
    times: NDArray[Any] | None = outputs.get("boundaries")
    rows = []
    for row, count in enumerate(counts.tolist()):
        found = []
        for k in range(count):
            token = int(ids[row, k])
            when = (None, None) if times is None else (float(times[row, k]), float(times[row, k + 1]))
            found.append(Keyword(token, words.get(token, "?"), float(scores[row, k]), *when))
        rows.append(found)
    return rows


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
