"""Segments in fixed slots: means, count and edges as a loop over frames gives them, and gradients through the means."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmental_parts import procedure

from sayclip_export.models.segmental.detector import boundaries
from sayclip_export.models.segmental.pooling import pool


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    slots=st.integers(1, 24),
    silent=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_equals_a_loop(counts: list[int], extra: int, slots: int, silent: bool, seed: int) -> None:
    """From the boundaries on, more than there are slots for, and the one segment of silence, among them."""
    torch.manual_seed(seed)
    frames = torch.randn(len(counts), max(counts) + extra, 5)
    if silent:
        frames[:] = frames[:, :1]
    mask = (torch.arange(frames.shape[1])[None] < torch.tensor(counts)[:, None]).float()
    starts, _ = boundaries(frames, mask, 0.05, 1e-3, slots)
    means, found, edges = pool(frames, starts, mask, slots)
    assert means.shape == (len(counts), slots, 5)
    assert (edges.dtype, found.dtype) == (torch.float32, torch.int32)
    for row, count in enumerate(counts):
        begins = [0, *torch.nonzero(starts[row, :count])[:, 0].tolist(), count]
        wanted = [frames[row, a:b].mean(0) for a, b in itertools.pairwise(begins)]
        assert found[row] == len(wanted) <= slots
        assert not silent or len(wanted) == 1
        assert torch.allclose(means[row, : len(wanted)], torch.stack(wanted), atol=1e-5)
        assert not means[row, len(wanted) :].any()
        assert edges[row].tolist() == begins + [count] * (slots - len(wanted))


def test_equals_the_whole_procedure() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((60, 6))
    starts, _, means = procedure(frames, 0.05, 1e-3, 8)
    given_frames, mask = torch.from_numpy(frames.astype(np.float32))[None], torch.ones(1, 60)
    got, count, edges = pool(given_frames, boundaries(given_frames, mask, 0.05, 1e-3, 8)[0], mask, 8)
    assert count.tolist() == [8]
    assert edges[0].tolist() == [0, *starts, 60]
    assert np.abs(got[0].numpy() - means).max() < 1e-5


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=4), extra=st.integers(0, 9), seed=st.integers(0, 999))
def test_padding_changes_nothing(counts: list[int], extra: int, seed: int) -> None:
    torch.manual_seed(seed)
    frames = torch.randn(len(counts), max(counts) + extra, 5)
    mask = (torch.arange(frames.shape[1])[None] < torch.tensor(counts)[:, None]).float()
    together = pool(frames, boundaries(frames, mask, 0.05, 1e-3, 9)[0], mask, 9)
    for row, count in enumerate(counts):
        own = frames[row : row + 1, :count]
        alone = pool(own, boundaries(own, torch.ones(1, count), 0.05, 1e-3, 9)[0], torch.ones(1, count), 9)
        assert torch.allclose(together[0][row], alone[0][0], atol=1e-6)
        assert torch.equal(together[1][row], alone[1][0])
        assert torch.equal(together[2][row], alone[2][0])


def test_gradients_reach_every_real_frame() -> None:
    """Each has its share of one mean; constant frames too."""
    for frames in (torch.randn(2, 12, 3), torch.ones(2, 12, 3)):
        frames.requires_grad_()
        mask = torch.ones(2, 12)
        mask[1, 8:] = 0
        pool(frames, boundaries(frames, mask, 0.05, 1e-3, 4)[0], mask, 4)[0].sum().backward()
        assert frames.grad is not None
        assert torch.isfinite(frames.grad).all()
        assert (frames.grad[mask == 1] > 0).all()
        assert not frames.grad[mask == 0].any()
        frames.grad = None


def test_half_precision_frames_are_pooled_in_single() -> None:
    torch.manual_seed(0)
    frames, mask = torch.randn(1, 40, 4), torch.ones(1, 40)
    starts = boundaries(frames, mask, 0.05, 1e-3, 9)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = pool(frames, starts, mask, 9)
    assert all(torch.equal(one, two) for one, two in zip(cast, pool(frames, starts, mask, 9), strict=True))
