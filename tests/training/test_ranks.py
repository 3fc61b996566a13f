"""Two processes train what one would: gradients are averaged, the first one saves, and a failure ends both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sayclip_training import loop
from sayclip_training.ranks import Rank, launch


def _train(rank: Rank, folder: Path, steps: int) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    rows = torch.randn(8, 4)[rank.number :: rank.of]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def step(number: int) -> dict[str, float]:
        loss = (model(rows) - rows[:, :2]).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    loop.run("toy", folder, {"model": model}, optimizer, steps, step, warmup=3, rank=rank)


def _fail(rank: Rank) -> None:
    if not rank.leads:
        raise ValueError("on purpose")


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "toy.state.pt", weights_only=True)["modules"]["model"]
    return state


def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    _train(Rank(), tmp_path / "one", 12)
    launch(2, _train, tmp_path / "two", 12)
    for one, two in zip(_weights(tmp_path / "one").values(), _weights(tmp_path / "two").values(), strict=True):
        torch.testing.assert_close(one, two)


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    launch(2, _train, tmp_path, 6)
    before = (tmp_path / "toy.state.pt").read_bytes()
    launch(2, _train, tmp_path, 6)
    assert (tmp_path / "toy.state.pt").read_bytes() == before


def test_a_failure_in_one_process_is_told() -> None:
    with pytest.raises(Exception, match="on purpose"):
        launch(2, _fail)
