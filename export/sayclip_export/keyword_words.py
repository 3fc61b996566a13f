"""The words behind a speech encoder's keyword ids: tokens of CLIP's vocabulary, merged back to what a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sayclip.text.vocabulary import END_OF_WORD, byte_characters


def token_words(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What each token id of a vocabulary with the merges ``pairs`` stands for, the two special ids left out.

    A token inside a word has a hyphen behind it; bytes that are no text by themselves are written as ``<e2 98>``.
    """
    characters = byte_characters()
    tokens = list(characters.values())
    tokens += [token + END_OF_WORD for token in tokens]
    tokens += [first + second for first, second in pairs]
    values = {character: value for value, character in characters.items()}
    return [_readable(token, values) for token in tokens]


def write_keywords(path: Path, pairs: Sequence[tuple[str, str]], ids: Iterable[int]) -> None:
    """Write ``id<tab>word`` for every id of ``ids`` that stands for one, ascending, as the runtime reads them."""
    words = token_words(pairs)
    lines = [f"{number}\t{words[number]}\n" for number in sorted(set(ids)) if 0 <= number < len(words)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _readable(token: str, values: dict[str, int]) -> str:
    stem = token.removesuffix(END_OF_WORD)
    data = bytes(values[character] for character in stem)
    try:
        word = data.decode("utf-8")
    except UnicodeDecodeError:
        word = ""
    if not word.strip() or not word.isprintable():
        word = f"<{data.hex(' ')}>"
    return word if stem != token else word + "-"
