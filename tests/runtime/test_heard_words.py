"""Tokens that a speech encoder hears are joined to words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.text.heard_words import HeardWord, heard_words
from sayclip.text.keywords import Keyword

SCORES = st.floats(-1, 1)
STEMS = st.text(st.characters(exclude_characters="-", exclude_categories=["C"]), min_size=1, max_size=4)
TOKENS = st.one_of(STEMS, STEMS.map(lambda stem: stem + "-"), st.sampled_from(["-", "--", "a--", "?"]))


def timed(words: list[str], scores: list[float]) -> list[Keyword]:
    """Keywords of a tenth of a second each."""
    pairs = zip(words, scores, strict=True)
    return [Keyword(place, word, score, place / 10, (place + 1) / 10) for place, (word, score) in enumerate(pairs)]


def goes_on(word: str) -> bool:
    return word.endswith("-") and set(word) != {"-"}


@given(st.lists(st.lists(st.tuples(STEMS, SCORES), min_size=1, max_size=4), max_size=6))
def test_words_cut_into_tokens_are_whole_again(cut: list[list[tuple[str, float]]]) -> None:
    tokens, scores, wanted = [], [], []
    for pieces in cut:
        first = len(tokens)
        tokens += [stem + "-" for stem, _ in pieces[:-1]] + [pieces[-1][0]]
        scores += [score for _, score in pieces]
        word = "".join(stem for stem, _ in pieces)
        wanted.append(HeardWord(word, min(score for _, score in pieces), first / 10, len(tokens) / 10))
    assert heard_words(timed(tokens, scores)) == wanted


@given(st.lists(st.tuples(TOKENS, SCORES), max_size=12))
def test_every_token_goes_into_one_word(heard: list[tuple[str, float]]) -> None:
    """Whatever the order of tokens: nothing is lost, words follow each other without a gap, only the last is open."""
    tokens, scores = [token for token, _ in heard], [score for _, score in heard]
    words = heard_words(timed(tokens, scores))
    ends = [place for place, token in enumerate(tokens, start=1) if not goes_on(token) or place == len(tokens)]
    assert [word.end_s for word in words] == [end / 10 for end in ends]
    starts = [0, *ends[:-1]] if ends else []
    assert [word.start_s for word in words] == [start / 10 for start in starts]
    for word, start, end in zip(words, starts, ends, strict=True):
        inside = [token.removesuffix("-") for token in tokens[start : end - 1]]
        assert word.word == "".join(inside) + tokens[end - 1]
        assert word.score == min(scores[start:end])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], []),
        (["red", "ap-", "ple"], ["red", "apple"]),
        (["vi-", "o-", "lin"], ["violin"]),
        (["ap-"], ["ap-"]),
        (["vi-", "o-"], ["vio-"]),
        (["-", "red"], ["-", "red"]),
        (["ap-", "-", "ple"], ["ap-", "ple"]),
        (["--", "--"], ["--", "--"]),
        (["red", "ap", "-ple"], ["red", "apple"]),
        (["vi", "-o", "-lin"], ["violin"]),
        (["-ple", "red"], ["-ple", "red"]),
        (["red", "->", "-", "ap"], ["red", "->", "-", "ap"]),
    ],
)
def test_hyphens(tokens: list[str], words: list[str]) -> None:
    units = [Keyword(0, token, 0.5) for token in tokens]
    assert heard_words(units) == [HeardWord(word, 0.5) for word in words]
