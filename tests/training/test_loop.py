"""A stopped run resumes where it was and ends where an unbroken one ends."""

from __future__ import annotations

import csv
import io
import math
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


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "toy.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_log_is_a_table_without_what_was_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHOW_SECONDS", 0.0)
    _train(tmp_path / "whole", 12)
    whole = _rows(tmp_path / "whole")
    assert list(whole[0]) == list(loop.HEADER)
    assert [(row["step"], row["measure"]) for row in whole] == [(str(i), "loss") for i in range(1, 13)]
    with pytest.raises(Stopped):
        _train(tmp_path / "broken", 12, stop_at=9)
    assert len(_rows(tmp_path / "broken")) == 9, "nothing was kept yet"
    _train(tmp_path / "broken", 12)
    broken = _rows(tmp_path / "broken")
    assert [(row["step"], row["value"]) for row in broken] == [(row["step"], row["value"]) for row in whole]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_names_its_batch(value: float, tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()

    def step(number: int) -> dict[str, float]:
        model(torch.ones(1, 2)).sum().backward()
        return {"loss": value if number == 0 else 0.0}

    with pytest.raises(loop.TrainingError, match=rf"loss is {value} at step 1, in captions 0 to 5") as caught:
        loop.run("toy", tmp_path, {"model": model}, optimizer, 3, step, describe=lambda n: f"captions {n} to {n + 5}")
    assert len(str(caught.value).splitlines()) == 1
    assert torch.equal(model.weight, before)
    assert not (tmp_path / "toy.state.pt").exists()


def test_a_gradient_that_is_no_number_stops_too(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(number: int) -> dict[str, float]:
        (model(torch.zeros(1, 2)) * 0).sum().sqrt().backward()
        return {"loss": 0.0}

    with pytest.raises(loop.TrainingError, match="gradient is nan at step 1"):
        loop.run("toy", tmp_path, {"model": model}, optimizer, 3, step)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", "cut", "another model"])
def test_a_damaged_state_is_refused_in_a_line(damage: bytes | str, tmp_path: Path) -> None:
    _train(tmp_path, 4)
    state = tmp_path / "toy.state.pt"
    if damage == "another model":
        model = nn.Linear(5, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        with pytest.raises(loop.TrainingError, match="is damaged, or of another model") as caught:
            loop.run("toy", tmp_path, {"model": model}, optimizer, 4, lambda number: {})
    else:
        state.write_bytes(damage if isinstance(damage, bytes) else state.read_bytes()[:-50])
        with pytest.raises(loop.TrainingError, match="is damaged, or of another model") as caught:
            _train(tmp_path, 4)
    assert str(state) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_terminal_sees_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    _train(tmp_path / "seen", 5)
    monkeypatch.setattr("sys.stderr", pipe)
    _train(tmp_path / "unseen", 5)
    assert "toy [########################] 5/5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r"), "and leaves an empty line"
    assert "#" not in pipe.getvalue()
    assert pipe.getvalue().startswith("[toy] 5/5 ")


def test_a_checkpoint_is_written_before_a_long_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_BEFORE_EVALUATING", 0.0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(number: int) -> dict[str, float]:
        model(torch.ones(1, 2)).sum().backward()
        return {"loss": 0.0}

    def evaluate() -> dict[str, float]:
        raise Stopped

    with pytest.raises(Stopped):
        loop.run("toy", tmp_path, {"model": model}, optimizer, 6, step, evaluate=evaluate, evaluate_every=3)
    assert torch.load(tmp_path / "toy.state.pt", weights_only=True)["step"] == 3


def test_the_seed_changes_what_is_drawn(tmp_path: Path) -> None:
    drawn: dict[int, list[float]] = {}
    for seed in (0, 1):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

        drawn[seed] = seen = []

        def step(number: int, model: nn.Linear = model, seen: list[float] = seen) -> dict[str, float]:
            seen.append(torch.rand(()).item())
            model(torch.ones(1, 2)).sum().backward()
            return {"loss": 0.0}

        loop.run("toy", tmp_path / str(seed), {"model": model}, optimizer, 3, step, seed=seed)
    assert set(drawn[0]).isdisjoint(drawn[1])
