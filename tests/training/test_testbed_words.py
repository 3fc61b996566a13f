"""Homophones and misspellings: read by espeak-ng as is claimed, and like what people write."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.phonemes.g2p import EspeakG2P
from sayclip_training.synthesis.mispronounce import NEAR
from sayclip_training.testbed import graphemes, homophones, reading, words
from sayclip_training.testbed.misspellings import LEVELS, WANTED, Misspeller, changeable, near
from sayclip_training.testbed.spelling import spellings

NAMES = (
    "red apple", "banana", "guitar", "elephant", "dolphin", "bear", "full moon", "birthday cake", "tiger", "rocket",
    "umbrella with rain drops", "penguin", "camera", "pineapple", "spider", "shield", "kite", "telescope", "ice",
    "sailboat",
)  # fmt: skip


@cache
def misspeller() -> Misspeller:
    return Misspeller(NAMES, {word for name in NAMES for word in name.split()})


def edits(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Segments that must be changed, dropped or added."""
    row = list(range(len(second) + 1))
    for number, a in enumerate(first, 1):
        before, row[0] = row[0], number
        for place, b in enumerate(second, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (a != b))
    return row[-1]


def test_the_ipa_is_the_runtimes_own() -> None:
    assert [reading.ipa(name) for name in NAMES] == EspeakG2P("en-us")(list(NAMES))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), level=st.sampled_from(LEVELS))
def test_misspellings_are_read_as_claimed(name: str, level: int) -> None:
    found = misspeller().misspelt(name, level)
    assert len(found) <= WANTED
    assert len({item.spelling for item in found}) == len(found)
    for item in found:
        assert item.ipa == reading.ipa(item.spelling)
        assert item.spelling not in NAMES
        assert len(item.spelling.split()) == len(name.split())
        apart = edits(reading.broad(name), reading.broad(item.spelling))
        if level == 0:
            assert apart == 0
        else:
            assert level <= apart <= 2 * level, "a diphthong counts two"
    assert misspeller().misspelt(name, level) == found, "the same every time"


def test_most_names_can_be_misspelt() -> None:
    for level in LEVELS:
        share = sum(bool(misspeller().misspelt(name, level)) for name in NAMES) / len(NAMES)
        assert share >= 0.75, level


def test_a_misspelling_is_no_word_that_exists_and_no_other_name() -> None:
    strict = Misspeller(["bear", "pear", "dare"], ["bear", "pear", "dare", "bare", "pair"])
    for level in (0, 1):
        for item in strict.misspelt("bear", level):
            assert item.spelling not in ("bear", "pear", "dare", "bare", "pair")
            if level:
                assert reading.broad(item.spelling) not in (reading.broad("pear"), reading.broad("dare"))


def test_short_names_have_no_three_phonemes_to_change() -> None:
    assert misspeller().misspelt("ice", 3) == []
    assert Misspeller(["OK"], []).misspelt("OK", 1) == []
    assert not changeable("ATM")
    assert not changeable("with")
    assert changeable("Santa")


def test_changed_phonemes_are_neighbours() -> None:
    assert "b" in near("p")
    assert "eɪ" in near("iː")
    assert near("əl") == []
    assert all(near({"hh": "h", "r": "ɹ"}.get(symbol, symbol)) for symbol in NEAR if len(symbol) == 1 or symbol == "hh")


@pytest.mark.parametrize(
    ("units", "spelling"),
    [(("k", "eɪ", "k"), "cake"), (("ɹ", "ɑː", "k", "ɪ", "t"), "rocket"), (("ʃ", "ɪ", "p"), "ship"),
     (("f", "iː", "l", "d"), "field"), (("n", "aɪ", "t"), "knight"), (("b", "ɔɪ"), "boy")],
)  # fmt: skip
def test_the_table_spells_real_words(units: tuple[str, ...], spelling: str) -> None:
    assert spelling in spellings(units)


@given(units=st.lists(st.sampled_from([*graphemes.CONSONANTS, *graphemes.VOWELS]), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_spellings_are_letters_and_each_comes_once(units: list[str]) -> None:
    found = spellings(units)
    assert len(set(found)) == len(found)
    assert all(word.isalpha() and word.islower() and word.isascii() for word in found)
    assert found == spellings(units)


def test_what_is_not_in_the_table_cannot_be_spelt() -> None:
    assert spellings(["k", "ʘ"]) == []


def test_homophones_are_found_by_ear(tmp_path: Path) -> None:
    listed = ["bear", "bare", "son", "sun", "flower", "flour", "tail", "tale", "pear", "pair", "apple"]
    table = homophones.homophones(["bear", "sun", "flower", "apple"], listed)
    assert table == {"bear": ["bare"], "sun": ["son"], "flower": ["flour"]}
    assert homophones.of_name("bear face", table) == ["bare face"]
    assert homophones.of_name("apple", table) == []
    (tmp_path / "words").write_text("bare\nbare's\nPaul\nétude\nsun\n", encoding="utf-8")
    assert homophones.word_list(tmp_path / "words") == ["bare", "sun"]
    assert homophones.word_list(tmp_path / "nothing") == []


def test_entries_hold_what_the_file_promises() -> None:
    table = words.find_homophones(["bear", "tail"], ["bare bones", "tale"])
    (entry,) = words.entries([("pictures/x.webp", "bear")], ["bear", "tail"], ["bare bones"], table, 0)
    assert set(entry) == {"name", "file", "ipa", "homophones", "misspelt"}
    assert "bare" in entry["homophones"]
    assert set(entry["misspelt"]) == {"0", "1", "3"}
    assert all(set(item) == {"spelling", "ipa"} for row in entry["misspelt"].values() for item in row)
