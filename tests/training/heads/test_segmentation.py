"""The detector from end to end: taught by what recurs and by other voices, kept for the next head, never at a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_words import Sayings, say

from sayclip_export.models.hubert import inside
from sayclip_export.models.segmental.detector import AS_THEY_ARE
from sayclip_export.models.segmental.detector import boundaries as detect
from sayclip_training.heads import boundaries
from sayclip_training.heads import segmentation as module
from sayclip_training.heads.segmentation import recurrences, segmentation
from sayclip_training.heads.settings import Settings
from sayclip_training.loop import TrainingError

SETTINGS = Settings(head="segmental", detector=16, unit_seconds=0.36)


class Kept:
    """Made-up recordings as ``Features`` are."""

    def __init__(self, sayings: Sayings) -> None:
        self.batch = sayings.batch
        self.seconds = np.array([0.03 * len(one) for one in sayings.frames])


def voices(count: int, seed: int = 0) -> Sayings:
    """Every sentence twice, with other noise."""
    sayings, rng = say(count, seed), np.random.default_rng(seed)
    again = [one + torch.from_numpy(rng.normal(0, 0.2, one.shape)).float() for one in sayings.frames]
    both = zip(sayings.frames, again, strict=True)
    return Sayings([one for pair in both for one in pair], [one for one in sayings.starts for _ in range(2)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "STEPS", 4)


def segmented(heard: Any, meaning: np.ndarray, made: Path, settings: Settings = SETTINGS, work: str = "work") -> Any:
    return segmentation(heard, range(len(meaning)), meaning, settings, made / "kept", made / work)


def test_recordings_that_mean_the_same_are_taught_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAUGHT", 20)
    heard: Any = Kept(voices(30))
    meaning = np.arange(60) // 2
    found = recurrences(heard, range(60), meaning, tmp_path)
    assert len(found.breaks) == 20
    assert len(found.alignments) == 10, "whose other half is taught too"
    assert set(found.breaks) == {row for pair in found.alignments for row in (pair.one, pair.other)}
    assert list(found.breaks) != sorted(found.breaks), "of pictures from anywhere in the table"
    again = recurrences(heard, range(60), meaning, tmp_path)
    assert (again.identity, list(again.breaks)) == (found.identity, list(found.breaks))


@pytest.mark.usefixtures("quick")
def test_there_is_a_second_lesson_where_other_voices_say_the_same(tmp_path: Path) -> None:
    sayings = voices(20)
    heard: Any = Kept(sayings)
    segmented(heard, np.arange(40) // 2, tmp_path)
    assert (tmp_path / "work" / "detector" / "again" / "detector.state.pt").exists()
    segmented(heard, np.arange(40), tmp_path, work="alone")
    assert (tmp_path / "alone" / "detector" / "detector.state.pt").exists()
    assert not (tmp_path / "alone" / "detector" / "again").exists(), "there is nobody else to ask"


@pytest.mark.usefixtures("quick")
def test_what_one_head_learnt_the_next_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: Any = Kept(voices(12))
    meaning = np.arange(24) // 2
    first, least = segmented(heard, meaning, tmp_path)
    (file,) = (tmp_path / "kept").glob("detector-*.npz")

    def same(other: Any) -> bool:
        return all(torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())

    with monkeypatch.context() as patch:
        patch.setattr(boundaries, "learn", None)  # not to be asked
        again, threshold = segmented(heard, meaning, tmp_path, work="other")
        assert same(again)
        assert threshold == least
        assert not again.training
        with pytest.raises(TypeError):
            segmented(heard, meaning, tmp_path, replace(SETTINGS, seed=1), "other")
    for damaged in (file.read_bytes()[:200], b""):
        file.write_bytes(damaged)
        assert same(segmented(heard, meaning, tmp_path)[0])
    file.unlink()
    with pytest.raises(TrainingError, match="holds a run with seed 0, this one has 1"):
        segmented(heard, meaning, tmp_path, replace(SETTINGS, seed=1))


def test_it_finds_words_that_it_was_told_nothing_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "STEPS", 100)
    sayings = voices(100)
    heard, rows, unheard = Kept(sayings), range(160), list(range(160, 200))
    settings = replace(SETTINGS, unit_seconds=float(heard.seconds.sum()) / sum(len(one) + 1 for one in sayings.starts))
    net, least = segmentation(heard, rows, np.arange(200) // 2, settings, tmp_path / "kept", tmp_path / "work")
    frames, count = sayings.batch(unheard)
    mask = inside(count, frames.shape[1]).float()
    with torch.inference_mode():
        starts, _ = detect(net(frames, mask), mask, least, 1e-3, 32, AS_THEY_ARE)
    found = {row: one[:some] for row, one, some in zip(unheard, starts.numpy(), count.tolist(), strict=True)}
    rng = np.random.default_rng(0)
    chance = {row: rng.permutation(one) for row, one in found.items()}
    assert sayings.agreement(found) > 0.7
    assert sayings.agreement(chance) < 0.5
