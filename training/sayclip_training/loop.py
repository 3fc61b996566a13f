"""A resumable training loop: one file of state, at most four minutes old, and a CSV log beside it."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sayclip_training.ranks import Rank

SAVE_SECONDS = 240.0
Metrics = Mapping[str, float]


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
    rank: Rank = Rank(),  # noqa: B008 (frozen)
) -> None:
    """Run ``step(number)`` up to ``steps`` under linear warm-up and cosine decay of every group's ``lr``.

    ``step`` computes and back-propagates the loss and returns what to log; it must draw its randomness from the global
    generators, which are seeded by the step number, so that a resumed run sees what an unbroken one would.
    A finished run returns at once with its weights loaded. ``rank``: which of several processes that take part this is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, log = folder / f"{name}.state.pt", folder / f"{name}.csv"
    first, spent = _resume(target, modules, optimizer)
    base = [group.setdefault("base_lr", group["lr"]) for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    started = saved = shown = time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    for number in range(first, steps):
        torch.manual_seed(1_000_003 * number + len(name) + 7919 * rank.number)
        factor = min(1.0, (number + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * number / steps)))
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad(set_to_none=True)
        metrics = step(number)
        rank.average(parameters)
        nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        if not rank.leads:
            continue
        count += 1
        for key, value in metrics.items():
            sums[key] = sums.get(key, 0.0) + value
        now = time.monotonic()
        last = number + 1 == steps
        if evaluate is not None and ((number + 1) % evaluate_every == 0 or last):
            scores = evaluate()
            _log(log, {"step": number + 1, "seconds": round(spent + time.monotonic() - started, 1), **scores})
            _show(name, number + 1, steps, spent + time.monotonic() - started, scores)
        elif now - shown > 20:
            means = {key: value / count for key, value in sums.items()}
            _log(log, {"step": number + 1, "seconds": round(spent + now - started, 1), **means})
            _show(name, number + 1, steps, spent + now - started, means)
            shown, sums, count = now, {}, 0
        if now - saved > SAVE_SECONDS or last:
            _save(target, modules, optimizer, number + 1, spent + time.monotonic() - started)
            saved = time.monotonic()


def _resume(target: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> tuple[int, float]:
    if not target.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(target, weights_only=True)
    for key, module in modules.items():
        module.load_state_dict(state["modules"][key])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


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
    print(f"[{name}] {step}/{steps}  {seconds:.0f} s  {text}", file=sys.stderr, flush=True)


def _log(path: Path, row: Mapping[str, object]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow([f"{key}={value}" for key, value in row.items()])
