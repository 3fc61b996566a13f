"""What the test bed will hold: scenes, splits that keep words, combinations and voices out, and their pictures."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sayclip_training.demo_data import names, pictures
from sayclip_training.synthesis.espeak import EspeakSettings, held_back
from sayclip_training.synthesis.flite import HELD_OUT_VOICE, FliteSettings
from sayclip_training.testbed import captions, drawing, languages, splits
from sayclip_training.testbed.contents import QUICK, Contents, Size, contents
from sayclip_training.testbed.scenes import PATTERNS, RELATIONS, Scene, Thing, scenes
from sayclip_training.testbed.voices import said

NOUNS = ["apple", "car", "dog", "owl", "umbrella", "unicorn", "ship", "tiger"]

pytestmark = pytest.mark.skipif(
    not (names.EMOJI_TEST.exists() and names.CLDR.exists()), reason="Debian's unicode-data and unicode-cldr-core"
)


@cache
def whole(seed: int = 0) -> Contents:
    return contents(Size(), seed)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60))
def test_scenes_say_different_things_in_two_to_six_words(seed: int, count: int) -> None:
    found = scenes(NOUNS, count, seed)
    assert len(found) == count
    assert len({scene.meaning for scene in found}) == count
    for scene in found:
        words = scene.caption.split()
        assert 2 <= len(words) <= 6
        assert [thing.noun for thing in scene.things] == [word for word in words if word in NOUNS]
        assert (len(scene.things) == 2) == (scene.relation in RELATIONS)
        assert "a owl" not in scene.caption
        assert "an unicorn" not in scene.caption
        assert "a umbrella" not in scene.caption
    assert scenes(NOUNS, count, seed) == found


def test_few_nouns_give_as_many_scenes_as_there_are() -> None:
    found = scenes(["apple", "car"], 100_000, 0)
    assert 100 < len(found) < 3000


def test_equal_meanings_are_found() -> None:
    apple, car = Thing("apple", "red"), Thing("car")
    assert Scene("", (apple, car), "below").meaning == Scene("", (car, apple), "above").meaning
    assert Scene("", (apple, car), "and").meaning == Scene("", (car, apple), "beside").meaning
    assert Scene("", (apple, car), "left of").meaning != Scene("", (car, apple), "left of").meaning
    assert Scene("", (apple, car), "above").bonds == {("red", "apple"), ("apple", "above")}


def test_every_pattern_has_its_length() -> None:
    for length, patterns in PATTERNS.items():
        assert all(len(pattern.replace("R", "R R").split()) == length for pattern in patterns)


def test_the_example_can_be_said() -> None:
    assert {"apple", "car"} <= set(whole().nouns)
    assert "A N r a A N" in PATTERNS[6], "red apple above a blue car"


def test_held_out_words_are_in_no_other_caption() -> None:
    rows = whole().captions
    trained = set().union(*(splits.stems(row.text) for row in rows if row.split != splits.WORD))
    held_out = splits.held_out_words([row.text for row in rows if row.kind != captions.SCENE], whole().nouns, 0)
    assert 50 < len(held_out) < 400
    assert not trained & held_out
    assert all(splits.stems(row.text) & held_out for row in rows if row.split == splits.WORD)


def test_held_out_combinations_are_in_no_caption_for_training_but_their_words_are() -> None:
    of = {scene.caption: scene for scene in whole().scenes}
    rows = [row for row in whole().captions if row.kind == captions.SCENE]
    trained = set().union(*(of[row.text].bonds for row in rows if row.split in (splits.TRAIN, splits.VALIDATION)))
    words = set().union(*(splits.stems(row.text) for row in whole().captions if row.split == splits.TRAIN))
    kept = [row for row in rows if row.split == splits.COMPOSITION]
    assert len(kept) >= 40
    for row in kept:
        assert of[row.text].bonds - trained
        assert splits.stems(row.text) <= words


def test_a_caption_is_in_one_split_whatever_it_belongs_to() -> None:
    where: dict[str, set[str]] = {}
    for row in whole().captions:
        where.setdefault(row.text.casefold(), set()).add(row.split)
    assert all(len(found) == 1 for found in where.values())


def test_every_split_is_large_enough_to_be_scored() -> None:
    rows = whole().captions
    for kind, least in ((captions.NAME, 40), (captions.SCENE, 20)):
        often = Counter(row.split for row in rows if row.kind == kind)
        assert often[splits.TRAIN] > 0.6 * often.total()
        assert often[splits.WORD] >= least
        assert often[splits.VALIDATION] >= 0.5 * least
    assert Counter(row.kind for row in rows)[captions.NAME] == len(whole().emoji)


def test_other_seeds_make_other_splits() -> None:
    first, second = ({row.text for row in whole(seed).captions if row.split == splits.WORD} for seed in (0, 1))
    assert len(first & second) < 0.5 * len(first)


@pytest.mark.parametrize(
    ("word", "same"), [("apples", "apple"), ("cherries", "cherry"), ("foxes", "fox"), ("Watches", "watch"),
                       ("glass", "glass"), ("bus", "bus"), ("cat's", "cat")],
)  # fmt: skip
def test_plurals_are_the_same_word(word: str, same: str) -> None:
    assert same in splits.stems(word)


def test_voices_kept_out_say_trained_captions_alone_and_no_trained_caption_hears_them() -> None:
    split_of = {row.text: row.split for row in whole().captions}
    kept_out = set()
    for recording in whole().recordings:
        voice = recording.voice
        out = (
            voice.voice == HELD_OUT_VOICE
            if isinstance(voice, FliteSettings)
            else held_back(voice.voice.partition("+")[2])
        )
        assert out == (recording.split == splits.VOICE)
        if out:
            kept_out.add(recording.voice_name)
            assert split_of[recording.caption] == splits.TRAIN
        else:
            assert recording.split == split_of[recording.caption]
    assert f"flite/{HELD_OUT_VOICE}" in kept_out
    assert len(kept_out) > 10


def test_every_scene_is_said_by_ten_voices_and_every_name_by_three() -> None:
    often = Counter(recording.caption for recording in whole().recordings)
    for row in whole().captions:
        if row.kind == captions.SCENE:
            assert often[row.text] == 10
        elif row.kind == captions.NAME and said(row.text):
            assert often[row.text] == 3
    assert len({recording.file for recording in whole().recordings}) == len(whole().recordings)
    assert len({recording.voice_name for recording in whole().recordings}) > 100
    assert any(isinstance(r.voice, EspeakSettings) and r.voice.gap for r in whole().recordings)


@pytest.mark.parametrize(
    ("caption", "words"),
    [("Japanese “here” button", ("Japanese", "here", "button")), ("eight o’clock", ("eight", "o'clock")),
     ("family: man, boy", ("family", "man", "boy")), ("ON! arrow", ("ON", "arrow")), ("—", ())],
)  # fmt: skip
def test_what_is_said_of_a_caption(caption: str, words: tuple[str, ...]) -> None:
    assert said(caption) == words


def test_quick_is_a_few_of_everything() -> None:
    few = contents(QUICK, 0)
    assert len(few.emoji) == 40
    assert len(few.scenes) == 20
    assert {"apple", "car"} <= set(few.nouns)
    assert {row.kind for row in few.captions} == set(captions.KINDS)
    assert 60 < len(few.recordings) <= 100
    assert contents(QUICK, 0) == few
    assert contents(QUICK, 1).scenes != few.scenes


def test_three_languages_name_the_pictures() -> None:
    red_apple = next(item for item in whole().emoji if item.name == "red apple")
    file = captions.picture_file(red_apple)
    said_in = {language: dict(languages.names(whole().emoji, language)) for language in languages.LANGUAGES}
    assert (said_in["en"][file], said_in["de"][file], said_in["fr"][file]) == (
        "red apple",
        "roter Apfel",
        "pomme rouge",
    )
    assert all(len(rows) > 0.95 * len(whole().emoji) for rows in said_in.values())


@pytest.mark.skipif(not pictures.FONT.exists(), reason="Debian's fonts-noto-color-emoji")
def test_scenes_show_what_their_captions_say() -> None:
    font = pictures.emoji_font()
    nouns, emoji = whole().nouns, whole().emoji

    def drawn(scene: Scene) -> np.ndarray:
        picture = drawing.draw_scene(scene, nouns, emoji, font, [0, 0])
        assert (picture.mode, picture.size) == ("RGB", (drawing.SIDE, drawing.SIDE))
        return np.asarray(picture, np.float32)

    def centre(picture: np.ndarray, channel: int) -> tuple[float, float]:
        """Row and column of what is strong in one colour and weak in the others."""
        others = [other for other in range(3) if other != channel]
        weight = np.clip(picture[..., channel] - picture[..., others].max(-1) - 60, 0, None)
        rows, columns = np.indices(weight.shape)
        return float((rows * weight).sum() / weight.sum()), float((columns * weight).sum() / weight.sum())

    red, blue = Thing("apple", "red"), Thing("car", "blue")
    for relation, axis, first in (("above", 0, -1), ("below", 0, 1), ("left of", 1, -1), ("right of", 1, 1)):
        picture = drawn(Scene("", (red, blue), relation))
        apart = centre(picture, 0)[axis] - centre(picture, 2)[axis]
        assert 60 < apart * first < 150, relation
    big, small = (drawn(Scene("", (Thing("apple", size),))) for size in ("big", "small"))
    assert (big < 250).any(-1).sum() > 3 * (small < 250).any(-1).sum()
    assert len({drawn(Scene("", (Thing("car", colour),))).tobytes() for colour in drawing.TINTS}) == len(drawing.TINTS)


def test_tints_keep_shape_and_transparency() -> None:
    cell = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    cell.putpixel((1, 1), (200, 180, 20, 255))
    cell.putpixel((2, 1), (20, 20, 20, 255))
    blue = drawing.tinted(cell, "blue")
    assert blue.getchannel("A").tobytes() == cell.getchannel("A").tobytes()
    light, dark = blue.getpixel((1, 1)), blue.getpixel((2, 1))
    assert isinstance(light, tuple)
    assert isinstance(dark, tuple)
    assert sum(light[:3]) > sum(dark[:3])
    assert light[2] >= max(light[:2])
