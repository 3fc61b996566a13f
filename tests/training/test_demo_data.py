"""The demo's names, splits and strings: what may be learnt, and that nothing held out slips in."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from sayclip.text.tokenizer import Tokenizer
from sayclip_training.demo_data import names
from sayclip_training.demo_data.names import Emoji
from sayclip_training.demo_data.strings import Strings, trained_strings
from sayclip_training.demo_data.vocabulary import write_vocabulary

pytestmark = pytest.mark.skipif(
    not (names.EMOJI_TEST.exists() and names.CLDR.exists()), reason="Debian's unicode-data and unicode-cldr-core"
)


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    return names.read_emoji()


@pytest.fixture(scope="module")
def split(emoji: list[Emoji]) -> names.Split:
    return names.split(emoji)


@pytest.fixture(scope="module")
def strings(emoji: list[Emoji], split: names.Split) -> Strings:
    return trained_strings(emoji, split)


def test_emoji_are_the_wanted_ones(emoji: list[Emoji]) -> None:
    assert 1500 < len(emoji) < 1800
    assert len({item.name for item in emoji}) == len(emoji) == len({item.stem for item in emoji})
    text = "".join(item.text for item in emoji)
    assert not any(0x1F3FB <= ord(c) <= 0x1F3FF or ord(c) == 0x20E3 for c in text)
    assert not any(item.name.startswith("flag:") for item in emoji)
    apple = next(item for item in emoji if item.name == "red apple")
    assert "fruit" in apple.keywords


def test_split_shares_and_stability(emoji: list[Emoji], split: names.Split) -> None:
    assert 0.03 < len(split.held_out_names) / len(emoji) < 0.07
    pairs = len(split.trained_pairs) + len(split.held_out_pairs)
    assert 0.08 < len(split.held_out_pairs) / pairs < 0.16
    assert not split.trained_pairs & split.held_out_pairs
    shuffled = names.split(emoji[::-1])
    assert {emoji[::-1][i].name for i in shuffled.held_out_names} == {emoji[i].name for i in split.held_out_names}


def test_no_held_out_string_is_trained(emoji: list[Emoji], split: names.Split, strings: Strings) -> None:
    trained = {text.casefold() for text in strings.texts}
    assert not trained & {emoji[i].name.casefold() for i in split.held_out_names}
    row = {text.casefold(): number for number, text in enumerate(strings.texts)}
    for i, word in split.held_out_pairs:
        number = row.get(word.casefold())
        if number is not None:
            assert strings.target[number, i] == 0
            assert strings.ignored[number, i]


def test_targets_are_distributions(strings: Strings) -> None:
    assert np.allclose(strings.target.sum(1), 1, atol=1e-5)
    assert not (strings.ignored & (strings.target > 0)).any()
    assert not strings.target[:, sorted(np.flatnonzero(strings.ignored.all(0)))].any()


def test_committed_splits_are_those_of_the_code(emoji: list[Emoji], split: names.Split, tmp_path: Path) -> None:
    names.write_splits(emoji, split, tmp_path / "splits.json")
    spec = importlib.util.find_spec("sayclip_demo")
    assert spec is not None
    assert spec.submodule_search_locations
    committed = Path(spec.submodule_search_locations[0]) / "pictures" / "splits.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == json.loads((tmp_path / "splits.json").read_text())


def test_vocabulary_makes_whole_words_of_the_names(strings: Strings, tmp_path: Path) -> None:
    count = write_vocabulary(strings.texts, tmp_path / "vocabulary.txt", merges=400)
    assert count == 400
    tokenizer = Tokenizer.from_file(tmp_path / "vocabulary.txt")
    assert tokenizer.vocabulary_size == 512 + 400 + 2
    ids = tokenizer.encode("woman and man")
    assert len(ids) == 5
    for text in strings.texts[:200]:
        assert "".join(tokenizer.decode(tokenizer.encode(text)).split()) == "".join(text.lower().split())
