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
