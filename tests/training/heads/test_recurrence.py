"""What recordings have in common breaks off where words end; kept, mended, and never at a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_words import WIDTH, say

from sayclip_training.heads import recurrence as module
from sayclip_training.heads.boundaries import taught
from sayclip_training.heads.recurrence import Spoken, recurrence


def test_breaks_are_where_words_end(tmp_path: Path) -> None:
    sayings = say(120)
    rows = list(range(60))
    breaks = recurrence(sayings.spoken(), rows, tmp_path)
    assert all(len(breaks[row]) == len(sayings.frames[row]) for row in rows)
    count = sum(len(sayings.starts[row]) for row in rows)
    assert sayings.agreement(taught(breaks, count)) > 0.85
    rng = np.random.default_rng(1)
    chance = {row: rng.permutation(one) for row, one in breaks.items()}
    assert sayings.agreement(taught(chance, count)) < 0.5


def test_what_means_the_same_is_not_compared_with() -> None:
    """Two recordings of one sentence go on alike to its end: they would say that it is one word."""
    sayings = say(40)
    twins = [*sayings.frames, sayings.frames[0], sayings.frames[0]]
    means = np.array([*range(40), 0, 0])
    spoken = Spoken(lambda row: twins[row], range(42), means, "twins")
    apart = replace(spoken, means=np.arange(42))
    found, wrong = (module._banks(one)[0].breaks(twins[0], 0) for one in (spoken, apart))
    alone = module._banks(sayings.spoken())[0].breaks(twins[0], 0)
    assert np.abs(found - alone).max() < 0.1 < np.abs(wrong - alone).max()


def test_what_is_kept_is_read_and_what_is_damaged_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sayings = say(30)
    first = recurrence(sayings.spoken(), list(range(8)), tmp_path)
    (file,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_banks", None)  # not to be asked
        again = recurrence(sayings.spoken(), list(range(8)), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    mended = recurrence(sayings.spoken(), list(range(8)), tmp_path)
    for row in range(8):
        assert np.array_equal(first[row], again[row])
        assert np.array_equal(first[row], mended[row])


@pytest.mark.parametrize("sizes", [(1, 2, 3), (40,), (8, 9, 10), (7, 60, 1)])
def test_short_and_few_recordings_have_finite_breaks(sizes: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    frames = [torch.randn(size, WIDTH) for size in sizes]
    spoken = Spoken(lambda row: frames[row], range(len(sizes)), np.arange(len(sizes)), "few")
    for row, one in recurrence(spoken, range(len(sizes)), tmp_path).items():
        assert one.shape == (sizes[row],)
        assert np.isfinite(one).all()
