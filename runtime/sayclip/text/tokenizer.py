"""CLIP's byte-pair encoding: text to token ids, token for token what `tokenizers` gives.

One difference is deliberate: ``<|startoftext|>`` and ``<|endoftext|>`` typed by a user are text like any other and
never become the special ids, so that nobody can move the end of a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sayclip.errors import TextError
from sayclip.text.merging import Merging
from sayclip.text.normalise import normalise, split_words
from sayclip.text.vocabulary import END_OF_WORD, byte_characters, read_merges

MAX_CHARACTERS = 10_000
_CACHE_WORDS = 16_384
_CACHED_CHARACTERS = 64
_MIN_CONTEXT = 3


class Tokenizer:
    """CLIP BPE over one vocabulary; the same object may be used by several threads.

    ``vocabulary_size`` counts every id; ``sot`` and ``eot``, its last two, start and end every sequence; ``context``
    is the greatest length of a sequence, both included.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], *, context: int = 77) -> None:
        """``merges``: pairs of tokens by rank; each token is a byte character, with or without ``</w>``, or a merge."""
        if context < _MIN_CONTEXT:
            raise ValueError(f"context is {context}, wanted at least {_MIN_CONTEXT}")
        characters = byte_characters()
        tokens = list(characters.values())
        tokens += [token + END_OF_WORD for token in tokens]
        tokens += [first + second for first, second in merges]
        ids = {token: number for number, token in enumerate(tokens)}  # of a token made in two ways the later id counts
        self.context = context
        self.sot = len(tokens)
        self.eot = self.sot + 1
        self.vocabulary_size = self.sot + 2
        self._tokens = tokens
        self._bytes = {character: value for value, character in characters.items()}
        self._first_id = [ids[characters[value]] for value in range(256)]
        self._last_id = [ids[characters[value] + END_OF_WORD] for value in range(256)]
        self._merge = Merging(ids, merges)
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def from_file(cls, path: Path, *, context: int = 77) -> Tokenizer:
        """Reads a vocabulary in the format of CLIP's ``bpe_simple_vocab_16e6.txt``, plain or ``.gz``.

        ``BundleError`` when the file is missing, damaged or malformed.
        """
        return cls(read_merges(Path(path)), context=context)

    def encode(self, text: str) -> list[int]:
        """Ids ``[sot, …, eot]``, at most ``context`` of them; a longer text is cut, as CLIP does, and keeps its end.

        ``TextError`` when the text is empty or blank, longer than 10,000 characters, or not valid Unicode.
        """
        if not isinstance(text, str):
            raise TextError(f"the text is a {type(text).__name__}, wanted a str", "pass a string")
        if len(text) > MAX_CHARACTERS:
            raise TextError(
                f"the text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken",
                "describe the picture in a sentence",
            )
        room = self.context - 2
        ids: list[int] = []
        try:
            for word in split_words(normalise(text)):
                ids += self._cache.get(word) or self._encode_word(word)
                if len(ids) >= room:
                    break
        except UnicodeEncodeError as error:
            raise TextError(
                f"the text is not valid Unicode (a lone surrogate at character {error.start + 1} of a word)",
                "pass text decoded from UTF-8",
            ) from error
        if not ids:
            raise TextError(f"the text {text[:20]!r} is empty or blank", "type at least one word")
        return [self.sot, *ids[:room], self.eot]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, normalised, with blanks after words; special ids are left out.

        ``TextError`` when an id is not in the vocabulary.
        """
        data = bytearray()
        for number in ids:
            if not 0 <= number < self.vocabulary_size:
                raise TextError(
                    f"token id {number} is not in the vocabulary of {self.vocabulary_size:,}",
                    "decode with the tokenizer that encoded",
                )
            if number < self.sot:
                token = self._tokens[number]
                stem = token.removesuffix(END_OF_WORD)
                data += bytes(map(self._bytes.__getitem__, stem))
                if stem != token:
                    data += b" "
        return data.decode("utf-8", errors="replace").strip()

    def _encode_word(self, word: str) -> list[int]:
        data = word.encode("utf-8")
        ids = [self._first_id[value] for value in data]
        ids[-1] = self._last_id[data[-1]]
        ids = self._merge(ids)
        if len(word) <= _CACHED_CHARACTERS:
            if len(self._cache) >= _CACHE_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids
