"""RoBERTa's byte-level byte-pair encoding (GPT-2's, Radford et al. 2019) from a folder: words to ids, ids to words.

``vocab.json`` with ``merges.txt``, or ``tokenizer.json``. Every token that stands for text is a byte or made by a
merge; whatever else the vocabulary lists, such as ``<s>`` and ``madeupword0000``, can never be a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sayclip.text.merging import Merging
from sayclip.text.normalise import split_by
from sayclip.text.vocabulary import byte_characters
from sayclip_export.keyword_words import byte_level_words
from sayclip_export.models.roberta import RobertaConfig
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.settings import read_json
from sayclip_export.readers.vocabulary import merge_lines, merge_pairs

MOST = 1 << 20  # merges; RoBERTa has 50,000
_WHOLE, _PARTS = "tokenizer.json", ("vocab.json", "merges.txt")
_REMEDY = "name the folder of a RoBERTa with its own vocab.json and merges.txt, or tokenizer.json"
# Of a text whose white space is single blanks.
_WORD = re.compile("'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^ A-Za-z0-9]+")


@dataclass(frozen=True)
class RobertaVocabulary:
    """``tokens``: ids of those that stand for text; ``merges`` by rank; ``paths``: the files they came from."""

    tokens: Mapping[str, int]
    merges: list[tuple[str, str]]
    paths: tuple[Path, ...]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, as RoBERTa has it inside a sentence: a blank before its first word, and single ones within.

        Neither start nor end is among them, nor anything else but text.
        """
        ids: list[int] = []
        for word in split_by(_WORD, "".join(f" {part}" for part in text.split())):
            ids += self._merging([self._bytes[value] for value in word.encode("utf-8", "replace")])
        return ids

    def words(self) -> dict[int, str]:
        """What a person reads for each id."""
        return byte_level_words(self.tokens)

    @cached_property
    def _merging(self) -> Merging:
        return Merging(self.tokens, self.merges)

    @cached_property
    def _bytes(self) -> list[int]:
        characters = byte_characters()
        return [self.tokens[characters[value]] for value in range(256)]


def read_roberta_vocabulary(folder: Path, config: RobertaConfig) -> RobertaVocabulary:
    """The vocabulary of the RoBERTa in ``folder``. Raises CheckpointError where there is none, or it is of another."""
    if (folder / _WHOLE).is_file():
        document = read_json(folder / _WHOLE)
        model = _model(document, folder / _WHOLE)
        return _checked(model.get("vocab"), model.get("merges"), (folder / _WHOLE,), config)
    missing = [name for name in _PARTS if not (folder / name).is_file()]
    if missing:
        raise refuse(f"{folder} holds no {_WHOLE} and no {missing[0]}, which give the words of its units", _REMEDY)
    vocab, merges = (folder / name for name in _PARTS)
    return _checked(read_json(vocab), merge_lines(merges, MOST), (vocab, merges), config)


def _model(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The model of a ``tokenizer.json``, whose text goes to bytes as it is."""
    model, steps = document.get("model"), json.dumps(document.get("pre_tokenizer"))
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("end_of_word_suffix"):
        raise refuse(f"{path} holds no byte-level byte-pair encoding, wanted RoBERTa's", _REMEDY)
    if '"ByteLevel"' not in steps or document.get("normalizer") is not None:
        raise refuse(f"{path}: texts are prepared by {steps[:60]}, wanted ByteLevel alone, as RoBERTa has it", _REMEDY)
    return model


def _checked(vocabulary: Any, lines: Any, paths: tuple[Path, ...], config: RobertaConfig) -> RobertaVocabulary:
    where = str(paths[0])
    if not isinstance(vocabulary, dict):
        raise refuse(f"{where} holds no vocabulary, wanted token to id", _REMEDY)
    seen: set[int] = set()
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < config.vocabulary or number in seen:
            wanted = f"one of its own below {config.vocabulary}, the rows of the token table"
            raise refuse(f"{where}: {token[:40]!r} has the id {str(number)[:20]}, wanted {wanted}", _REMEDY)
        seen.add(number)
    for token, number in (("<s>", config.start), ("</s>", config.end), ("<pad>", config.padding)):
        if vocabulary.get(token, number) != number:
            raise refuse(f"{where}: {token!r} has the id {vocabulary[token]}, the model's is {number}", _REMEDY)
    merges = merge_pairs(lines, str(paths[-1]), MOST, _REMEDY)
    made = dict.fromkeys(byte_characters().values())
    for number, (first, second) in enumerate(merges):
        if first not in made or second not in made:
            pair = f"{first[:20]!r} and {second[:20]!r}"
            raise refuse(f"{paths[-1]}: merge {number} is of {pair}, wanted bytes or what merges made before", _REMEDY)
        made[first + second] = None
    lost = next((token for token in made if token not in vocabulary), None)
    if lost is not None:
        raise refuse(f"{where} has no {lost[:40]!r}, which is a byte or made by a merge", _REMEDY)
    tokens = {token: int(vocabulary[token]) for token in made}
    special = next((token for token, number in tokens.items() if number in config.special), None)
    if special is not None:
        raise refuse(f"{where}: {special[:40]!r} has the id {tokens[special]}, which begins or ends texts", _REMEDY)
    return RobertaVocabulary(tokens, merges, paths)
