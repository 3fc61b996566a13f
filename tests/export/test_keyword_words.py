"""Keyword ids become words that a person can read, and the file of them is checked on reading."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.errors import BundleError
from sayclip.text.keywords import read_keywords
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.keyword_words import token_words, write_keywords


def test_words_are_what_the_tokens_decode_to(clip_merges: list[tuple[str, str]]) -> None:
    tokenizer = Tokenizer(clip_merges)
    words = token_words(clip_merges)
    assert len(words) == tokenizer.sot
    for text in ("dog", "a photo of a cat", "unbelievable café"):
        for number in tokenizer.encode(text)[1:-1]:
            decoded = tokenizer.decode([number])
            assert words[number] in (decoded, decoded + "-") or "\N{REPLACEMENT CHARACTER}" in decoded
    assert words[tokenizer.encode("dog")[1]] == "dog"
    assert words[0] == "!-"
    assert all(word.isprintable() and word.strip() for word in words)


@given(ids=st.sets(st.integers(0, 515), min_size=1))
def test_what_is_written_is_read(ids: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("words") / "keywords.tsv"
    merges = [("c", "a"), ("ca", "t</w>")]
    write_keywords(path, merges, ids)
    words = token_words(merges)
    wanted = {number: words[number] for number in sorted(ids) if number < len(words)}
    if wanted:
        assert read_keywords(path) == wanted
    else:
        with pytest.raises(BundleError, match="is empty"):
            read_keywords(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"1\tdog\n1\tcat\n", "line 2 is"),
        (b"2\tdog\n1\tcat\n", "line 2 is"),
        (b"1 dog\n", "line 1 is"),
        (b"-1\tdog\n", "line 1 is"),
        (b"1\t\n", "line 1 is"),
        (b"1\t\xff\n", "is not UTF-8 text"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "keywords.tsv"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=message) as caught:
        read_keywords(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="cannot be read"):
        read_keywords(tmp_path / "gone.tsv")
