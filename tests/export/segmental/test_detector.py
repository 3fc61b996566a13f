"""The static detector against the frame-by-frame procedure, and what must never make a boundary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from segmental_parts import procedure
from torch import Tensor

from sayclip_export.models.segmental.detector import boundaries, highest
from sayclip_export.models.segmental.pooling import pool

THRESHOLD, EPS = 0.05, 1e-3


def turning(angles: list[float]) -> Tensor:
    """Frames f32 [1,T,2] of length 1, each turned by so much from the one before."""
    turned = np.cumsum([0.0, *angles])
    return torch.from_numpy(np.stack([np.cos(turned), np.sin(turned)], 1)[None].astype(np.float32))


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    slots=st.integers(1, 14),
    smooth=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_equals_the_procedure(counts: list[int], extra: int, slots: int, smooth: bool, seed: int) -> None:
    """Whatever the length, the padding and the number of slots, one and two frames among them."""
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((len(counts), max(counts) + extra, 6))
    if smooth:
        frames = np.cumsum(frames, axis=1)
    mask = (np.arange(frames.shape[1])[None] < np.array(counts)[:, None]).astype(np.float32)
    starts, prominence = boundaries(
        torch.from_numpy(frames.astype(np.float32)), torch.from_numpy(mask), THRESHOLD, EPS, slots
    )
    for row, count in enumerate(counts):
        wanted, heights, _ = procedure(frames[row, :count], THRESHOLD, EPS, slots)
        ordered = np.sort(heights[heights > EPS])
        assume(np.abs(heights - EPS).min(initial=1) > 1e-4)  # nothing that rounding decides
        assume(np.diff(ordered).min(initial=1) > 1e-4)
        assert torch.nonzero(starts[row])[:, 0].tolist() == wanted
        assert np.abs(prominence[row, :count].numpy() - heights).max() < 1e-4
        assert not prominence[row, count:].any()


def test_the_first_and_the_last_pair_are_no_peaks() -> None:
    """Their missing neighbours count as a rise of 0; of three frames no pair has both."""
    angles = [1.5, 0.1, 0.1, 0.8, 0.1, 0.1, 1.4]
    starts, _ = boundaries(turning(angles), torch.ones(1, 8), THRESHOLD, EPS, 9)
    assert torch.nonzero(starts[0])[:, 0].tolist() == [4]
    for count in (1, 2, 3):
        assert not boundaries(turning(angles)[:, :count], torch.ones(1, count), THRESHOLD, EPS, 9)[0].any()


@pytest.mark.parametrize("frame", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_silence_is_one_segment(frame: float, noise: float) -> None:
    """Cosines of equal frames differ by rounding errors, which no scaling may blow up."""
    torch.manual_seed(0)
    frames = torch.full((2, 300, 192), frame) + noise * torch.randn(2, 300, 192) * (frame > 0)
    starts, prominence = boundaries(frames, torch.ones(2, 300), THRESHOLD, EPS, 32)
    assert not starts.any()
    assert torch.isfinite(prominence).all()


def test_a_peak_just_over_the_threshold_is_a_whole_boundary() -> None:
    """The trap of the published forms: tanh(1000 p) is a fraction there, and every later frame would be lost."""
    turn, slight = math.pi / 2, math.acos(1 - 0.055)
    frames = turning([0.0, turn, 0.0, 0.0, slight, 0.0, 0.0, turn, 0.0, 0.0])
    starts, prominence = boundaries(frames, torch.ones(1, 11), THRESHOLD, EPS, 32)
    assert prominence[0, 5].item() == pytest.approx(5e-3, abs=1e-4)
    assert torch.tanh(1000 * prominence[0, 5]).item() < 1
    assert torch.nonzero(starts[0])[:, 0].tolist() == [2, 5, 8]
    number = torch.cumsum(starts, 1)
    assert torch.equal(number, number.round())
    means, count, edges = pool(frames, starts, torch.ones(1, 11), 32)
    assert count.tolist() == [4]
    assert edges[0, :5].tolist() == [0, 2, 5, 8, 11]
    assert torch.allclose(means[0, 3], frames[0, 8:].mean(0))


def test_of_equally_high_peaks_the_first_stay() -> None:
    frames = torch.eye(2)[torch.tensor([0, 0, 1, 1] * 6)][None]  # cosines of exactly 0 and 1
    starts, prominence = boundaries(frames, torch.ones(1, 24), THRESHOLD, EPS, 5)
    assert prominence[0, 2:-1:2].unique().tolist() == pytest.approx([0.95])
    assert torch.nonzero(starts[0])[:, 0].tolist() == [2, 4, 6, 8]


def test_highest_breaks_ties_by_position() -> None:
    values = torch.tensor([[0.0, 3.0, 1.0, 3.0, 1.0, 0.0]])
    assert highest(values, 3).tolist() == [[False, True, True, True, False, False]]
    assert not highest(values, 0).any()


def test_autocast_changes_no_boundary() -> None:
    torch.manual_seed(0)
    frames, mask = torch.randn(3, 200, 64).cumsum(1), torch.ones(3, 200)
    plain = boundaries(frames, mask, THRESHOLD, EPS, 60)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = boundaries(frames, mask, THRESHOLD, EPS, 60)
    assert all(torch.equal(one, two) for one, two in zip(plain, cast, strict=True))
    assert cast[1].dtype == torch.float32


@pytest.mark.parametrize("kind", ["random", "constant", "zero", "short"])
def test_prominences_have_finite_gradients(kind: str) -> None:
    torch.manual_seed(0)
    frames = torch.randn(2, 1 if kind == "short" else 20, 8)
    if kind in ("constant", "zero"):
        frames = torch.full_like(frames, float(kind == "constant"))
    frames.requires_grad_()
    starts, prominence = boundaries(frames, torch.ones(2, frames.shape[1]), THRESHOLD, EPS, 8)
    assert not starts.requires_grad
    (prominence.sum() + 0 * frames.sum()).backward()
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()
    assert bool(frames.grad.any()) == (kind == "random")
