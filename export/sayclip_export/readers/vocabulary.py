"""CLIP's tokenizer from a Hugging Face folder, as the bundle's ``tokenizer.txt``; refused unless ids come out the same.

The runtime derives every id from the merges alone, so the folder's vocabulary must be in the order that CLIP's has.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.errors import SayclipError
from sayclip.text.tokenizer import Tokenizer
from sayclip.text.vocabulary import CLIP_MERGES, END_OF_WORD, byte_characters
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.settings import read_json

HEADER = "#version: 0.2"
SOT, EOT = "<|startoftext|>", "<|endoftext|>"
_REMEDY = "name a model with CLIP's own byte-pair encoding"
# Contractions, digits, punctuation, letters beyond ASCII, a cut at the context: what tokenizers differ in.
TEXTS = (
    "a photo of a cat",
    "Don't   they've got 2 red\tapples?!",
    "naïve café, crème brûlée #42",
    "東京 ☔ Straße ΣΣ",
    "one two three four five six seven eight nine ten " * 9,
)


@dataclass(frozen=True)
class Merges:
    """The merges by rank, the id that ends a text, and the files they came from."""

    pairs: Sequence[tuple[str, str]]
    eot: int
    paths: tuple[Path, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of these files."""
        return tuple(path.name for path in self.paths)

    def write(self, path: Path) -> None:
        """Write them in the format of CLIP's own vocabulary file: a header, then one merge a line."""
        lines = [HEADER, *(f"{first} {second}" for first, second in self.pairs)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def read_vocabulary(folder: Path, size: int, context: int) -> Merges:
    """The merges of the model in ``folder``, whose token table has ``size`` rows. Raises CheckpointError."""
    whole = folder / "tokenizer.json"
    if whole.is_file():
        return read_tokenizer_json(whole, size, context)
    parts = folder / "vocab.json", folder / "merges.txt"
    missing = [path.name for path in parts if not path.is_file()]
    if missing:
        raise refuse(
            f"{folder} holds no tokenizer.json and no {missing[0]}, wanted a tokenizer",
            "download the model's folder again, or name a tokenizer with --vocabulary",
        )
    return _checked(read_json(parts[0]), merge_lines(parts[1], CLIP_MERGES), (parts[0], parts[1]), size, context)


def read_tokenizer_json(path: Path, size: int, context: int) -> Merges:
    """The merges of a ``tokenizer.json`` for a token table of ``size`` rows. Raises CheckpointError."""
    document = read_json(path)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise refuse(f"{path} holds no byte-pair encoding, wanted CLIP's", _REMEDY)
    _check_pipeline(document, model, path)
    return _checked(model.get("vocab"), model.get("merges"), (path,), size, context)


def merges_alone(pairs: Sequence[tuple[str, str]], path: Path, size: int) -> Merges:
    """``pairs`` out of the file ``path``, which lists merges and no ids, for a token table of ``size`` rows."""
    tokens = len(_tokens(pairs))
    if tokens != size:
        raise refuse(f"{path} makes {tokens} tokens, the token table has {size} rows, wanted the same", _REMEDY)
    return Merges(pairs, tokens - 1, (path,))


def _checked(vocabulary: Any, lines: Any, paths: tuple[Path, ...], size: int, context: int) -> Merges:
    where = str(paths[0])
    if not isinstance(vocabulary, dict):
        raise refuse(f"{where} holds no vocabulary, wanted token to id", _REMEDY)
    pairs = merge_pairs(lines, str(paths[-1]), CLIP_MERGES, _REMEDY)
    merges = Merges(pairs, _check_order(vocabulary, pairs, where, size), paths)
    _check_texts(merges, vocabulary, where, context)
    return merges


def _check_pipeline(document: Mapping[str, Any], model: Mapping[str, Any], path: Path) -> None:
    """What goes before the merges must be CLIP's: lower case, and words that end in ``</w>``."""
    if model.get("end_of_word_suffix") != END_OF_WORD:
        raise refuse(
            f"{path}: end_of_word_suffix is {model.get('end_of_word_suffix')!r}, wanted {END_OF_WORD!r}", _REMEDY
        )
    steps = json.dumps(document.get("normalizer"))
    if '"Lowercase"' not in steps:
        raise refuse(f"{path}: the normalizer is {steps[:60]}, wanted one with Lowercase", _REMEDY)


def merge_lines(path: Path, most: int) -> list[str]:
    """The first ``most`` lines of a ``merges.txt``, its header left out. Raises CheckpointError."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(f"{path} cannot be read ({error})") from None
    # A header, then merges; of CLIP's whole list only the first ones are used.
    return lines[1 : most + 1] if lines[0].startswith("#version") else lines[:most]


def merge_pairs(lines: Any, where: str, most: int, remedy: str) -> list[tuple[str, str]]:
    """Merges as pairs, from lines ``a b`` or from lists ``["a", "b"]``, 1 to ``most``. Raises CheckpointError."""
    if not isinstance(lines, list):
        raise refuse(f"{where} holds no list of merges, wanted one", remedy)
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        parts = line.split(" ") if isinstance(line, str) else line
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
            raise refuse(f"{where}: merge {number} is {str(line)[:40]!r}, wanted two tokens", remedy)
        pairs.append((parts[0], parts[1]))
    if not 1 <= len(pairs) <= most:
        raise refuse(f"{where} has {len(pairs)} merges, wanted 1 to {most}", remedy)
    return pairs


def _tokens(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Every token in the order of its id."""
    single = list(byte_characters().values())
    merged = [first + second for first, second in pairs]
    return [*single, *(token + END_OF_WORD for token in single), *merged, SOT, EOT]


def _check_order(vocabulary: Mapping[str, Any], pairs: Sequence[tuple[str, str]], where: str, size: int) -> int:
    """The id of the end of text, once every id is the one that the merges give."""
    tokens = _tokens(pairs)
    if len(vocabulary) != len(tokens) or len(tokens) != size:
        raise refuse(
            f"{where} has {len(vocabulary)} tokens, its merges make {len(tokens)} and the token table has {size} rows, "
            "wanted the same of all",
            _REMEDY,
        )
    for number, token in enumerate(tokens):
        if vocabulary.get(token) != number:
            raise refuse(f"{where}: {token!r} has the id {vocabulary.get(token)}, CLIP's order wants {number}", _REMEDY)
    return len(tokens) - 1


def _check_texts(merges: Merges, vocabulary: Mapping[str, int], where: str, context: int) -> None:
    """Some texts through the runtime's tokenizer: by the folder's vocabulary they must spell themselves."""
    handle, name = tempfile.mkstemp(suffix=".txt")
    os.close(handle)
    try:
        merges.write(Path(name))
        tokenizer = Tokenizer.from_file(Path(name), context=context)
    except SayclipError as error:
        raise refuse(f"{where}: {error.problem}", _REMEDY) from None
    finally:
        os.unlink(name)
    tokens = {number: token for token, number in vocabulary.items()}
    for text in TEXTS:
        ids = tokenizer.encode(text)
        spelt = "".join(tokens[number] for number in ids[1:-1])
        bare = spelt.replace(END_OF_WORD, "")
        wanted = "".join(byte_characters()[b] for b in "".join(text.lower().split()).replace("ς", "σ").encode())
        if ids[0] != merges.eot - 1 or ids[-1] != merges.eot or not wanted.startswith(bare):
            raise refuse(f"{where}: {text[:30]!r} becomes {spelt[:60]!r}, wanted its own letters", _REMEDY)
