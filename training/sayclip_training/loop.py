"""A resumable training loop: one file of state, at most five minutes old, and a CSV log beside it."""

from __future__ import annotations

import csv
import math
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sayclip.cli.output import Progress
from sayclip.errors import SayclipError
from sayclip_training.ranks import Rank

SAVE_SECONDS = 240.0
SAVE_BEFORE_EVALUATING = 20.0  # seconds since the last time, as scores may take long
SHOW_SECONDS = 20.0
LARGEST_GRADIENT = 2.0  # norm of all gradients together
HEADER = ("step", "seconds", "measure", "value")
Metrics = Mapping[str, float]


class TrainingError(SayclipError):
    """Training cannot go on, or cannot begin from what lies in its folder."""


def decayed(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Groups of an optimizer: ``decay`` on matrices and tables, none on biases, norms and scalars."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def run(
    name: str,
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    steps: int,
    step: Callable[[int], Metrics],
    *,
    warmup: int = 100,
    evaluate: Callable[[], Metrics] | None = None,
    evaluate_every: int = 500,
    describe: Callable[[int], str] | None = None,
    seed: int = 0,
    rank: Rank = Rank(),  # noqa: B008 (frozen)
) -> None:
    """Run ``step(number)`` up to ``steps`` under linear warm-up and cosine decay of every group's ``lr``.

    ``step`` computes and back-propagates the loss and returns what to log; it must draw its randomness from the global
    generators, which are seeded by the step number and ``seed``, or from ones that it seeds so itself: a resumed run
    then sees what an unbroken one would, and ends with the same weights. A finished run returns at once with its
    weights loaded. ``rank``: which of several processes that take part this is. A terminal shows a bar.

    ``folder`` gets ``<name>.state.pt``, at most five minutes old, and ``<name>.csv`` with the columns of ``HEADER``.
    Raises TrainingError for a loss or gradient that is no finite number, naming the step and, by ``describe(number)``,
    its batch, and for a state that is damaged or of another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, log = folder / f"{name}.state.pt", folder / f"{name}.csv"
    first, spent = _resume(target, modules, optimizer)
    if rank.leads and first < steps:
        _cut(log, first)
    base = [group.setdefault("base_lr", group["lr"]) for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    started = saved = shown = time.monotonic()
    sums: dict[str, float] = {}
    count = 0

    def seconds() -> float:
        return spent + time.monotonic() - started

    def report(number: int, values: Metrics) -> None:
        _log(log, number, seconds(), values)
        _show(name, number, steps, seconds(), values)

    with Progress(name) as bar:
        for number in range(first, steps):
            torch.manual_seed(1_000_003 * number + len(name) + 7919 * rank.number + 104_729 * seed)
            factor = min(1.0, (number + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * number / steps)))
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * factor
            optimizer.zero_grad(set_to_none=True)
            metrics = step(number)
            rank.average(parameters)
            norm = float(nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT))
            _require_finite(number, {**metrics, "gradient": norm}, describe)
            optimizer.step()
            if not rank.leads:
                continue
            count += 1
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value
            done, last = number + 1, number + 1 == steps
            bar(done, steps)
            scored = evaluate is not None and (done % evaluate_every == 0 or last)
            since = time.monotonic() - saved
            if not last and (since > SAVE_SECONDS or (scored and since > SAVE_BEFORE_EVALUATING)):
                _save(target, modules, optimizer, done, seconds())
                saved = time.monotonic()
            if scored or last or time.monotonic() - shown > SHOW_SECONDS:
                report(done, {key: value / count for key, value in sums.items()})
                shown, sums, count = time.monotonic(), {}, 0
            if scored and evaluate is not None:
                report(done, evaluate())
            if last:
                _save(target, modules, optimizer, done, seconds())


def _require_finite(number: int, values: Metrics, describe: Callable[[int], str] | None) -> None:
    for key, value in values.items():
        if not math.isfinite(value):
            batch = describe(number) if describe else "its batch"
            raise TrainingError(
                f"{key} is {value} at step {number + 1}, in {batch}",
                "leave these out, or train with a smaller learning rate; what was saved before is kept",
            )


def _resume(target: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> tuple[int, float]:
    if not target.exists():
        return 0, 0.0
    try:
        state: dict[str, Any] = torch.load(target, weights_only=True)
        for key, module in modules.items():
            module.load_state_dict(state["modules"][key])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"]), float(state["seconds"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise TrainingError(
            f"{target} is damaged, or of another model ({reason})", "remove it to begin anew, or name another folder"
        ) from None


def _save(target: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, step: int, seconds: float) -> None:
    state = {
        "modules": {key: module.state_dict() for key, module in modules.items()},
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    part = target.with_suffix(".part")
    torch.save(state, part)
    part.replace(target)


def _show(name: str, step: int, steps: int, seconds: float, values: Metrics) -> None:
    text = "  ".join(f"{key} {value:.4f}" for key, value in values.items())
    line = f"[{name}] {step}/{steps}  {seconds:.0f} s  {text}"
    print("\r" + line.ljust(60) if sys.stderr.isatty() else line, file=sys.stderr, flush=True)  # over the bar


def _cut(path: Path, first: int) -> None:
    """Leave out of the log what a run that was stopped wrote after its last checkpoint, or what is no such log."""
    rows: list[list[str]] = []
    if first and path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            read = list(csv.reader(file))
        if read[:1] == [list(HEADER)]:
            rows = [row for row in read[1:] if len(row) == len(HEADER) and int(row[0]) <= first]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])


def _log(path: Path, step: int, seconds: float, values: Metrics) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([step, f"{seconds:.1f}", key, f"{value:.6g}"] for key, value in values.items())
