"""What units are called while a head learns: what the whole encoder says of them alone, as far as voices agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip_training.heads import naming, recipe
from sayclip_training.heads.listener import Listener
from sayclip_training.heads.naming import words_of
from sayclip_training.heads.objective import NONE
from sayclip_training.heads.pairs import TRAIN

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"


@pytest.fixture(scope="module")
def heard(bed: Path, kept: Path) -> recipe.Material:
    return recipe.gather(str(DEMO), str(DEMO), bed / "speech.tsv", kept)


def read_as_letters(texts: list[str]) -> Any:
    return np.array([[text.count(letter) for letter in "abcdefg"] for text in texts], np.float32) + 0.1


def test_words_stand_for_their_first_token() -> None:
    pieces = {"a": [1], "cab": [2, 3], "cage": [2, 4], "bag": [5, 4], "of": []}
    words = words_of(["a cab, a cage", "bag of cab!"], lambda text: pieces[text], read_as_letters)
    assert words is not None
    assert words.tokens.tolist() == [1, 5, 2, 2], "a, bag, cab, cage"
    assert np.linalg.norm(words.embeddings, axis=1) == pytest.approx(np.ones(4))
    assert words_of(["", "...", "of"], lambda text: pieces[text], read_as_letters) is None


class Even:
    """Hears every recording as so many units of the same length."""

    def __init__(self, exam: Any, units: int) -> None:
        self.features, self.pairs, self.tokens, self.units = exam.features, exam.pairs, exam.tokens, units
        self.pictures, self.picture = exam.pictures, exam.picture

    def hear(self, head: Any, rows: list[int]) -> Any:
        seconds = self.features.seconds
        return SimpleNamespace(edges=[np.linspace(0, seconds[row], self.units + 1).tolist() for row in rows])


def test_whole_recordings_are_called_by_their_captions(
    heard: recipe.Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in heard.rows(TRAIN) if len(heard.pairs.rows[row].words) == 1]
    assert rows
    captions = [heard.pairs.rows[row].caption for row in heard.rows(TRAIN)]
    words = words_of(captions, heard.teacher.tokens, heard.teacher.read)  # type: ignore[arg-type]
    assert words is not None
    exam: Any = Even(heard.exam, 1)
    given = (exam, heard.pairs.folder, heard.listener, words, None, rows, tmp_path)
    found = naming.names(*given)  # type: ignore[arg-type]
    assert found.shape == (len(heard.pairs.rows), 1)
    assert (found[[row for row in range(len(found)) if row not in rows]] == NONE).all()
    right = [found[row, 0] in heard.teacher.tokens(heard.pairs.rows[row].caption) for row in rows]
    assert np.mean(right) > 0.6, "of words that the encoder learnt in other voices"
    with monkeypatch.context() as patch:
        patch.setattr(Listener, "say", None)  # not to be asked
        assert (naming.names(*given) == found).all()  # type: ignore[arg-type]
    (file,) = tmp_path.glob("said-*.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert (naming.names(*given) == found).all()  # type: ignore[arg-type]


def test_what_is_cut_out_is_the_unit_and_a_little_more(heard: recipe.Material) -> None:
    path = heard.pairs.folder / heard.pairs.rows[0].speech
    wave = read_audio(path, AudioSettings(16000, 0.1, 20.0))
    end = len(wave) / 16000
    first, last = naming._cut([(0, 0.0, 0.1), (0, 0.1, end)], {0: path})
    assert (first == np.pad(wave[: 1600 + 400], 800)).all()
    assert (last == np.pad(wave[1600 - 400 :], 800)).all()


def test_frames_lie_in_the_unit_that_their_middle_is_in() -> None:
    assert naming._unit_of_frames([0.0, 0.0575, 0.0875, 0.15], 5, 0.03).tolist() == [0, 0, 1, 2, 2]
    assert naming._unit_of_frames([0.0, 0.15], 5, 0.03).tolist() == [0] * 5


def test_names_are_learnt_by_heads_with_a_vocabulary_alone(
    heard: recipe.Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def names(*given: Any) -> Any:
        asked.append("names")
        return np.full((len(heard.pairs.rows), 4), NONE)

    monkeypatch.setattr(naming, "names", names)
    for vocabulary, wanted in (("none", 0), ("regularise", 1), ("quantise", 1)):
        settings = recipe.Settings(vocabulary=vocabulary, steps=1, batch=4, detector=0)
        recipe.train_head(heard, settings, tmp_path / vocabulary)
        assert len(asked) == wanted, vocabulary
        asked.clear()


@pytest.mark.parametrize("lacks", ["captions", "space", "text"])
def test_where_nothing_can_tell_units_are_drawn_to_any_word(
    lacks: str, heard: recipe.Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "names", None)  # not to be asked
    if lacks == "captions":
        pairs = replace(heard.pairs, rows=[replace(pair, caption="") for pair in heard.pairs.rows])
        heard = replace(heard, pairs=pairs)
    elif lacks == "space":
        heard = replace(heard, listener=replace(heard.listener, space="another"))
    else:
        heard = replace(heard, teacher=replace(heard.teacher, read=None))
    settings = recipe.Settings(vocabulary="regularise", steps=2, batch=4, detector=0)
    recipe.train_head(heard, settings, tmp_path)
    log = (tmp_path / "speech.csv").read_text(encoding="utf-8")
    assert "vocabulary" in log


def test_a_head_learns_its_names(heard: recipe.Material, tmp_path: Path) -> None:
    settings = recipe.Settings(vocabulary="regularise", steps=60, batch=24, rate=3e-3, detector=0, slots=16)
    trained = recipe.train_head(heard, settings, tmp_path / "head")
    rows = heard.rows(TRAIN)
    captions = [heard.pairs.rows[row].caption for row in rows]
    words = words_of(captions, heard.teacher.tokens, heard.teacher.read)  # type: ignore[arg-type]
    assert words is not None
    head = trained.speech.head
    given = (heard.exam, heard.pairs.folder, heard.listener, words, head, rows, heard.kept)
    called = naming.names(*given)
    outcome = heard.exam.hear(head, rows)
    same = [
        token == name
        for row, tokens in zip(rows, outcome.named, strict=True)
        for token, name in zip(tokens, called[row], strict=False)
    ]
    assert np.mean(same) > 0.5
