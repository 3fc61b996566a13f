"""The picture of what was heard, and its labels, which never cover each other."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sayclip.cli import labels
from sayclip.cli.explain_picture import EDGE, LEFT, RIGHT, TOP, WAVE, envelope, picture
from sayclip.text.keywords import Keyword

WORDS = st.one_of(
    st.sampled_from(["red", "apple", "i", "extraordinary" * 5, "日本語", "a\nb", ""]), st.text(max_size=9)
)


def said(seconds: float, rate: int = 16000) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=round(rate * seconds)) * 0.1).astype(np.float32)


def drawn(wave: np.ndarray, units: list[Keyword], title: str = "q.wav") -> Image.Image:
    image = Image.open(io.BytesIO(picture(wave, 16000, units, title)))
    image.load()
    return image


def timed(words: list[str], edges: list[float]) -> list[Keyword]:
    return [Keyword(0, word, 0.5, *pair) for word, pair in zip(words, pairwise(edges), strict=True)]


@pytest.mark.parametrize("samples", [2, 800, 1100, 1101, 320_000])
def test_the_envelope_holds_every_sample(samples: int) -> None:
    wave = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    low, high = envelope(wave, 1100)
    assert low.shape == high.shape == (1100,)
    assert (low <= high).all()
    assert (low.min(), high.max()) == (wave.min(), wave.max())


def test_boundaries_stand_where_units_begin_and_end() -> None:
    image = drawn(said(2.0), timed(["red", "ap-", "ple"], [0.0, 0.5, 1.0, 2.0]))
    assert (image.width, image.mode) == (1200, "RGB")
    colour = tuple(int(EDGE[place : place + 2], 16) for place in (1, 3, 5))
    row = np.asarray(image)[TOP + WAVE - 1]
    columns = np.flatnonzero((row == colour).all(axis=1))
    assert {round((column - LEFT) / (RIGHT - LEFT) * 2, 2) for column in columns} == {0.0, 0.5, 1.0, 2.0}


def test_what_is_not_told_is_not_drawn() -> None:
    colour = tuple(int(EDGE[place : place + 2], 16) for place in (1, 3, 5))
    for units in ([], [Keyword(0, "red", 0.5), Keyword(0, "cat", 0.5)]):
        assert not (np.asarray(drawn(said(1.0), units)) == colour).all(axis=2).any()


@settings(max_examples=40, deadline=None)
@given(
    heard=st.lists(st.tuples(WORDS, st.floats(0, 0.4), st.floats(-1, 1)), max_size=30),
    seconds=st.floats(0.05, 20),
    title=st.text(max_size=200),
    told=st.booleans(),
)
def test_anything_can_be_drawn(heard: list[tuple[str, float, float]], seconds: float, title: str, told: bool) -> None:
    """Empty units, units that end after the recording, any characters."""
    edges = np.cumsum([0.0, *[length for _, length, _ in heard]]).tolist()
    units = [
        Keyword(0, word, score, *(edges[place : place + 2] if told else ()))
        for place, (word, _, score) in enumerate(heard)
    ]
    assert drawn(said(seconds), units, title).width == 1200


@settings(max_examples=100, deadline=None)
@given(
    heard=st.lists(st.tuples(WORDS, st.floats(0, 200), st.floats(-1, 1)), max_size=90),
    size=st.sampled_from([10, 15, 22]),
)
def test_labels_never_cover_each_other(heard: list[tuple[str, float, float]], size: int) -> None:
    line = (50.0, 1150.0)
    edges = np.minimum(50 + np.cumsum([0.0, *[length for _, length, _ in heard]]), 1150).tolist()
    texts, scores = [word for word, _, _ in heard], [score for _, _, score in heard]
    font = labels.font_of(size)
    found = labels.along(texts, list(pairwise(edges)), scores, line, font, 150)
    assert [label.item for label in found] == sorted({label.item for label in found})
    for label in found:
        assert label.left >= line[0] - 1e-6
        assert label.left + label.width <= line[1] + 1e-6
        assert font.getlength(label.text) <= (150 if label.turned else label.width + 1e-6)
        assert label.text.isascii() or labels.drawable(label.text, font) == label.text
    for one, following in pairwise(found):
        assert one.left + one.width < following.left
    left_out = set(range(len(heard))) - {label.item for label in found}
    if left_out:
        assert all(label.turned or label.width <= labels.line_height(font) for label in found)
        assert max(scores[item] for item in left_out) <= min(scores[label.item] for label in found)


def test_letters_that_the_font_lacks() -> None:
    font = labels.font_of(15)
    assert labels.drawable("red apple", font) == "red apple"
    assert labels.drawable("café", font) in ("café", "cafe")
    assert labels.drawable("日", font) in ("日", "\\u65e5")
    assert labels.drawable("a\tb\n", font) == "a b "


def test_long_words_are_cut() -> None:
    font = labels.font_of(15)
    assert labels.cut("red", font, 100) == "red"
    assert labels.cut("extraordinary" * 5, font, 100).startswith("extraord")
    assert labels.cut("extraordinary" * 5, font, 100).endswith("...")
    assert labels.cut("red", font, 5) == ""
