"""Integrate-and-fire as one product with overlaps, against the frame-by-frame procedure it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip_export.models.speechclip.cif import Cif

WIDTH = 4


class GivenWeights(Cif):
    """CIF whose weights are set by hand."""

    def __init__(self, alpha: torch.Tensor, slots: int) -> None:
        super().__init__(WIDTH, 1, 3, slots, tail=0.5)
        self.given = alpha

    def weights(self, frames: torch.Tensor, count: torch.Tensor, padding: str = "exact") -> torch.Tensor:
        return self.given


def fire(alpha: list[float], frames: np.ndarray, slots: int) -> np.ndarray:
    """One frame after the other: what still fits into the slot goes there, the rest into the next."""
    done, slot, filled = [], np.zeros(WIDTH), 0.0
    for weight, frame in zip(alpha, frames, strict=True):
        if filled + weight < 1:
            slot, filled = slot + weight * frame, filled + weight
            continue
        done.append(slot + (1 - filled) * frame)
        filled = weight - (1 - filled)
        slot = filled * frame
    if not done:
        return slot[None]
    if filled >= 0.5:
        done.append(slot / filled)
    return np.stack(done[:slots])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 64), min_size=1, max_size=40), st.integers(3, 12))
def test_equals_the_procedure(weights: list[int], slots: int) -> None:
    """Weights of whole 64ths, so that both ways add up without rounding."""
    alpha = [weight / 64 for weight in weights]
    frames = np.random.default_rng(len(weights)).standard_normal((len(alpha), WIDTH))
    wanted = fire(alpha, frames, slots)
    cif = GivenWeights(torch.tensor([alpha]), slots)
    got = cif(torch.from_numpy(frames[None].astype(np.float32)), torch.tensor([len(alpha)], dtype=torch.int32))
    assert int(got.count[0]) == len(wanted)
    values = got.values[0].detach().numpy()
    assert np.abs(values[: len(wanted)] - wanted).max() <= 1e-5
    assert not values[len(wanted) :].any()


def fire_times(alpha: list[float], slots: int) -> list[float]:
    """Where each slot is full, in frames, linearly within the frame; the end where none is full any more."""
    edges, filled = [0.0], 0.0
    for frame, weight in enumerate(alpha):
        if weight and filled + weight >= 1:
            edges.append(frame + (1 - filled) / weight)
            filled = weight - (1 - filled)
        else:
            filled += weight
    return (edges + [float(len(alpha))] * slots)[: slots + 1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=40), st.integers(3, 12), st.integers(0, 9))
def test_edges_are_where_slots_are_full(weights: list[int], slots: int, padding: int) -> None:
    alpha = [weight / 64 for weight in weights]
    padded = torch.tensor([[*alpha, *[0.0] * padding]])
    cif = GivenWeights(padded, slots)
    got = cif(torch.zeros(1, padded.shape[1], WIDTH), torch.tensor([len(alpha)], dtype=torch.int32))
    edges = got.edges[0].tolist()
    assert edges == pytest.approx(fire_times(alpha, slots), abs=1e-4)
    assert edges[0] == 0
    assert edges == sorted(edges)


def test_a_rounding_error_moves_no_edge_over_a_silent_frame() -> None:
    """The first slot fills up to a rounding error, then come frames of hardly any weight."""
    weights = torch.tensor([[0.5, 0.5, 1e-9, 1e-9, 1e-9, 0.7]])
    count = torch.tensor([6], dtype=torch.int32)
    edges = [GivenWeights(weights * s, 3)(torch.zeros(1, 6, WIDTH), count).edges for s in (1 - 1e-6, 1.0, 1 + 1e-6)]
    assert max((edges[i] - edges[1]).abs().max().item() for i in (0, 2)) < 0.02


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (2, 5)])
def test_padding_changes_no_weight(layers: int, kernel: int) -> None:
    torch.manual_seed(0)
    cif = Cif(WIDTH, layers, kernel, 75, 0.5)
    frames = torch.randn(1, 30, WIDTH)
    count = torch.tensor([20], dtype=torch.int32)
    with torch.inference_mode():
        alone, padded = cif(frames[:, :20], count), cif(frames, count)
        leaking = cif.weights(frames, count, padding="upstream")
    assert torch.allclose(alone.alpha, padded.alpha[:, :20], atol=1e-6)
    assert torch.allclose(alone.values, padded.values, atol=1e-5)
    assert not padded.alpha[:, 20:].any()
    assert not torch.allclose(leaking, padded.alpha, atol=1e-4)
