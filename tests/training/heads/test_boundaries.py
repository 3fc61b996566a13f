"""The detector learns where words end from what recurs, comes out better than its teacher, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_words import WIDTH, Sayings, say

from sayclip_export.models.segmental.detector import AS_THEY_ARE
from sayclip_export.models.segmental.detector import boundaries as detect
from sayclip_export.models.segmental.surroundings import Surroundings
from sayclip_training import loop
from sayclip_training.heads import boundaries
from sayclip_training.heads.boundaries import expected, learn, taught, threshold

EPS = 1e-3


@pytest.fixture(scope="module")
def sayings() -> Sayings:
    return say(160)


@pytest.fixture(scope="module")
def noisy(sayings: Sayings) -> dict[int, np.ndarray]:
    """Breaks of which one in four is somewhere else."""
    rng = np.random.default_rng(0)
    found = {}
    for row in range(120):
        marks = rng.uniform(0, 0.1, len(sayings.frames[row])).astype(np.float32)
        for start in sayings.starts[row]:
            marks[start if rng.random() < 0.75 else rng.integers(1, len(marks))] = rng.uniform(0.5, 1)
        found[row] = marks
    return found


def found_by(net: Surroundings | None, least: float, sayings: Sayings, rows: list[int]) -> dict[int, np.ndarray]:
    frames, count = sayings.batch(rows)
    mask = (torch.arange(frames.shape[1])[None, :] < count[:, None]).float()
    with torch.inference_mode():
        looked_at = frames if net is None else net(frames, mask)
        starts, _ = detect(looked_at, mask, least, EPS, 32, *([] if net is None else [AS_THEY_ARE]))
    return dict(zip(rows, starts.numpy(), strict=True))


def test_it_comes_out_better_than_its_teacher(
    sayings: Sayings, noisy: dict[int, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundaries, "STEPS", 150)
    wanted = sum(len(sayings.starts[row]) for row in noisy)
    net = learn(noisy, wanted, 32, 0, sayings.batch, tmp_path)
    unheard = list(range(120, 160))
    least = threshold(net, list(noisy), wanted, sayings.batch, EPS)
    ours = sayings.agreement(found_by(net, least, sayings, unheard))
    raw = sayings.agreement(found_by(None, 0.05, sayings, unheard))
    assert ours > sayings.agreement(taught(noisy, wanted)) + 0.05
    assert ours > raw + 0.1


def test_so_many_are_taught(noisy: dict[int, np.ndarray]) -> None:
    for count in (0, 1, 50, 10**6):
        marks = taught(noisy, count)
        peaks = sum(int(boundaries._is_peak(one).sum()) for one in noisy.values())
        assert sum(one.sum() for one in marks.values()) == min(count, peaks)
        assert all(one[0] == one[-1] == 0 for one in marks.values())


def test_the_threshold_finds_so_many(sayings: Sayings) -> None:
    rows = list(range(100))
    for count in (60, 300):
        least = threshold(None, rows, count, sayings.batch, EPS)
        assert sum(one.sum() for one in found_by(None, least, sayings, rows).values()) == count
    assert threshold(None, rows, 10**6, sayings.batch, EPS) == boundaries.LEAST


def test_where_nothing_is_to_be_found_the_threshold_is_the_highest() -> None:
    still = Sayings([torch.ones(30, WIDTH)] * 3, [[]] * 3)
    assert threshold(None, [0, 1, 2], 5, still.batch, EPS) == boundaries.MOST


def test_words_take_so_long() -> None:
    assert expected([2.0, 1.2], 0.4) == pytest.approx(6)
    assert expected([0.1, 0.1], 0.4) == 0


def test_a_stopped_lesson_ends_as_an_unbroken_one_does(
    sayings: Sayings, noisy: dict[int, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundaries, "STEPS", 6)
    whole = learn(noisy, 200, 16, 3, sayings.batch, tmp_path / "whole")
    calls = iter(range(100))

    def stop(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return sayings.batch(rows)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            learn(noisy, 200, 16, 3, stop, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "detector.state.pt").exists()
    again = learn(noisy, 200, 16, 3, sayings.batch, tmp_path / "stopped")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
