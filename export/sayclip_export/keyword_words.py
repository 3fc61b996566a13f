"""The words behind a speech encoder's keyword ids: tokens of its text side's vocabulary as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    write_words(path, {number: words[number] for number in set(ids) if 0 <= number < len(words)})


def write_words(path: Path, words: Mapping[int, str]) -> None:
    """Write ``words`` by id, one ``id<tab>word`` a line, ascending."""
    lines = [f"{number}\t{words[number]}\n" for number in sorted(words)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def byte_level_words(tokens: Mapping[str, int]) -> dict[int, str]:
    """What each of ``tokens`` stands for, by id: byte characters, a blank in front of those that begin a word.

    A token of letters or digits without that goes on with a word, and has a hyphen in front.
    """
    values = {character: value for value, character in byte_characters().items()}
    words = {}
    for token, number in tokens.items():
        data = bytes(values[character] for character in token)
        word = _text(data.removeprefix(b" ") or data)
        words[number] = word if data[:1] == b" " or not word[:1].isalnum() else f"-{word}"
    return words


def _readable(token: str, values: dict[str, int]) -> str:
    stem = token.removesuffix(END_OF_WORD)
    word = _text(bytes(values[character] for character in stem))
    return word if stem != token else word + "-"


def _text(data: bytes) -> str:
    """``data`` as text, or where it is none that shows, its bytes."""
    try:
        word = data.decode("utf-8")
    except UnicodeDecodeError:
        word = ""
    return word if word.strip() and word.isprintable() else f"<{data.hex(' ')}>"
