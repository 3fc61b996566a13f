"""Recordings that say the same are laid beside each other, and agree on more than each knows alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_words import say
from torch.nn.functional import normalize

from sayclip_training.heads import consensus as module
from sayclip_training.heads.boundaries import taught
from sayclip_training.heads.consensus import Alignment, agreed, agreed_units, align, between_voices, together

Frames = np.ndarray


def unit(rng: np.random.Generator, count: int, width: int = 5) -> Frames:
    frames = rng.normal(size=(count, width)).astype(np.float32)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True)


def least(far: Frames, i: int, j: int) -> float:
    """The total of the shortest path to a cell, as the definition has it."""
    if i < 0 or j < 0:
        return np.inf
    before = 0.0 if i == j == 0 else min(least(far, i - 1, j - 1), least(far, i - 1, j), least(far, i, j - 1))
    return float(far[i, j]) + before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_no_path_is_shorter(sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(unit(rng, one), unit(rng, other)) for one, other in sizes]
    for (one, other), (mean, here, there) in zip(pairs, module._paths(pairs), strict=True):
        far = 1 - one @ other.T
        steps = list(zip(here.tolist(), there.tolist(), strict=True))
        assert (steps[0], steps[-1]) == ((0, 0), (len(one) - 1, len(other) - 1))
        assert {(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(steps)} <= {(1, 1), (1, 0), (0, 1)}
        assert mean * len(steps) == pytest.approx(sum(far[step] for step in steps), abs=1e-4)
        assert mean * len(steps) == pytest.approx(least(far, len(one) - 1, len(other) - 1), abs=1e-4)


def slower(frames: Frames, rng: np.random.Generator) -> tuple[Frames, Frames]:
    """The same at a slower and uneven tempo, and which frame each of it was."""
    where = np.repeat(np.arange(len(frames)), rng.integers(1, 3, len(frames)))
    made = frames[where] + 0.1 * rng.normal(size=(len(where), frames.shape[1])).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True), where


def test_the_same_at_another_tempo_is_aligned_and_what_is_different_is_not() -> None:
    rng = np.random.default_rng(0)
    frames = unit(rng, 40, 16)
    same, where = slower(frames, rng)
    known = [frames, same, unit(rng, 35, 16), frames]
    (found,) = align(lambda row: known[row], [0, 1, 2, 3], np.array([7, 7, 7, 8]))
    assert (found.one, found.other) == (0, 1), "2 says something else of the same picture, 3 is of another"
    assert np.abs(where[found.there] - found.here).max() <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_everybody_is_beside_some_and_nobody_beside_many(count: int, seed: int) -> None:
    frames = unit(np.random.default_rng(seed), 6)
    pairs = [(found.one, found.other) for found in align(lambda row: frames, range(count), np.zeros(count, np.int64))]
    assert len(set(pairs)) == len(pairs)
    assert all(one < other for one, other in pairs)
    beside = [sum(row in pair for pair in pairs) for row in range(count)]
    assert beside == [min(count - 1, 2 * module.REACH)] * count


def test_what_is_too_long_is_not_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FRAMES", 50)
    monkeypatch.setattr(module, "_CELLS", 100)  # so that every pair is a batch of its own
    rng = np.random.default_rng(0)
    known = [unit(rng, count) for count in (51, 50, 50, 0, 20)]
    known[2], known[4] = known[1], known[1][:20]
    found = align(lambda row: known[row], range(5), np.zeros(5, np.int64))
    assert {row for pair in found for row in (pair.one, pair.other)} <= {1, 2, 4}
    assert (1, 2) in {(pair.one, pair.other) for pair in found}


def test_curves_are_averaged_at_the_same_sounds() -> None:
    pair = Alignment(3, 5, np.array([0, 1, 2, 2]), np.array([0, 0, 1, 2]))
    curves = {3: np.array([0, 4, 0], np.float32), 5: np.array([1, 2, 8], np.float32), 9: np.ones(2, np.float32)}
    found = agreed(curves, [pair, Alignment(3, 4, pair.here, pair.there)])
    assert found[3].tolist() == [0.5, 2.5, 4.0], "of the two frames beside the last one the higher counts"
    assert found[5].tolist() == [2.5, 1.0, 4.0]
    assert found[9].tolist() == [1, 1], "who stands alone is asked alone"
    assert set(found) == {3, 5, 9}, "of the other of the second pair nothing is known"


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_neither_scale_nor_offset_of_a_curve_counts(scale: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    one, other = ({row: rng.random(9).astype(np.float32) for row in range(3)} for _ in range(2))
    moved = {row: (scale * curve + offset).astype(np.float32) for row, curve in other.items()}
    for row, curve in together(one, other).items():
        assert curve.min() >= 0
        np.testing.assert_allclose(together(one, moved)[row], curve, atol=2e-3)
    still = together({0: np.zeros(4, np.float32)}, {0: np.ones(4, np.float32)})
    assert still[0].tolist() == [0, 0, 0, 0]


def test_voices_that_err_apart_know_more_together() -> None:
    """Four recordings of each sentence, of which each is marked wrongly in four of ten places, but not in the same."""
    sayings, rng = say(40), np.random.default_rng(2)
    frames, starts, marks, means = [], [], {}, []
    for meaning, (one, right) in enumerate(zip(sayings.frames, sayings.starts, strict=True)):
        for _ in range(4):
            same, where = slower(normalize(one, dim=1).numpy(), rng)
            begin = [int(np.flatnonzero(where == start)[0]) for start in right]
            curve = rng.uniform(0, 0.1, len(same)).astype(np.float32)
            for place in begin:
                curve[place if rng.random() < 0.6 else rng.integers(1, len(curve))] = rng.uniform(0.5, 1)
            marks[len(frames)] = curve
            frames.append(same)
            starts.append(begin)
            means.append(meaning)
    alignments = align(lambda row: frames[row], range(len(frames)), np.array(means))
    assert len(alignments) == 40 * 6
    judge = type(sayings)([], starts)
    wanted = sum(map(len, starts))
    alone, both = (judge.agreement(taught(curves, wanted)) for curves in (marks, agreed(marks, alignments)))
    assert both > alone + 0.1


def test_units_agree_by_what_lies_beside_their_frames() -> None:
    found = {0: np.array([[1.0, 0], [0, 1.0]], np.float32), 1: np.array([[0, 4.0]], np.float32), 2: np.ones((1, 2))}
    unit = {0: np.array([0, 0, 1]), 1: np.array([0, 0]), 2: np.array([0])}
    mean = agreed_units(found, unit, [Alignment(0, 1, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]))])
    # Two frames of its own and three places beside the other's; one frame and one place; two frames, three and one.
    assert mean[0] == pytest.approx(np.array([[2 / 5, 12 / 5], [0, 5 / 2]]))
    assert mean[1] == pytest.approx(np.array([[3 / 6, (2 * 4 + 1) / 6]]))
    assert mean[2] == pytest.approx(np.ones((1, 2))), "which nobody is beside"
    assert found[0][0, 1] == 0, "and nothing that was given is changed"


def test_a_voice_between_two_says_the_same() -> None:
    known = {0: torch.zeros(3, 2), 1: torch.tensor([[1.0, 10], [2, 20]]), 2: torch.full((4, 2), 7.0)}

    def batch(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        count = [len(known[row]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence([known[row] for row in rows], batch_first=True), torch.tensor(count)

    mixed = between_voices(batch, [Alignment(0, 1, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]))])
    shares = []
    for seed in range(50):
        torch.manual_seed(seed)
        frames, count = mixed([0, 2, 1])
        assert count.tolist() == [3, 4, 2]
        share = float(frames[0, 0, 0])
        assert frames[0, :3].tolist() == pytest.approx(share * known[1][[0, 1, 1]].numpy())
        assert (frames[0, 3] == 0).all()
        assert (frames[1] == 7).all(), "which nobody is beside"
        assert frames[2, 0, 1] == pytest.approx(10 * float(frames[2, 0, 0]), rel=1e-5)
        shares.append(share)
        torch.manual_seed(seed)
        assert torch.equal(mixed([0, 2, 1])[0], frames), "what resumes sees the same"
    assert 0 <= min(shares) < 0.2
    assert 0.8 < max(shares) <= 1
