"""A stopped run resumes where it was and ends where an unbroken one ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sayclip_training import loop


class Stopped(Exception):
    """Stands for a kill in the middle of a run."""


def _train(folder: Path, steps: int, stop_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def step(number: int) -> dict[str, float]:
        if number == stop_at:
            raise Stopped
        x = torch.randn(8, 4)
        loss = (model(x) - x[:, :2]).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    loop.run("toy", folder, {"model": model}, optimizer, steps, step, warmup=3)
    return model


def test_resumed_run_equals_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    whole = _train(tmp_path / "whole", 30)
    with pytest.raises(Stopped):
        _train(tmp_path / "broken", 30, stop_at=17)
    resumed = _train(tmp_path / "broken", 30)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_finished_run_is_loaded_not_repeated(tmp_path: Path) -> None:
    first = _train(tmp_path, 12)
    again = _train(tmp_path, 12, stop_at=0)
    assert torch.equal(first.weight, again.weight)


def test_state_is_at_most_five_minutes_old() -> None:
    assert loop.SAVE_SECONDS <= 300
