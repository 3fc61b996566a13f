"""All experiments that have left no JSON yet, several processes at once: every arm with one seed before the next."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sayclip.cli.output import one_line
from sayclip.errors import InputError
from sayclip_training.claims.pronunciation.arms import Trial, trials
from sayclip_training.claims.pronunciation.experiment import FORMAT, Place, file_name, run, write
from sayclip_training.claims.testbed import open_testbed


@dataclass(frozen=True)
class Plan:
    """Which experiments on which test bed; ``results``: the folder of their JSONs; ``steps`` None: each arm's own."""

    data: Path
    clip: str
    results: Path
    work: Path
    arms: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    steps: int | None = None
    workers: int = 1


def perform(plan: Plan) -> int:
    """Do what is left of ``plan``; how many experiments that was.

    Raises InputError for an arm or a test bed that is not there, or a result that is none.
    """
    known = trials(plan.steps)
    for arm in plan.arms:
        if arm not in known:
            raise InputError(f"there is no arm {arm!r}", f"name one of {', '.join(known)}")
    wanted = {arm: trial for arm, trial in known.items() if not plan.arms or arm in plan.arms}
    open_testbed(plan.data)
    left = [(arm, seed) for seed in plan.seeds for arm in wanted if not _done(plan.results, arm, seed)]
    if not left:
        return 0
    plan.work.mkdir(parents=True, exist_ok=True)
    if plan.workers == 1:
        for job in left:
            _one(plan, job, wanted)
        return len(left)
    with ProcessPoolExecutor(min(plan.workers, len(left)), get_context("spawn")) as pool:
        jobs = [pool.submit(_one, plan, job, wanted) for job in left]
        done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        for waits in waiting:
            waits.cancel()
        for ended in done:
            ended.result()
    return len(left)


def read(results: Path) -> list[dict[str, Any]]:
    """The JSONs of all experiments in ``results``, by arm and seed. Raises InputError for a file that is none."""
    order = list(trials())
    found = [_read(path) for path in sorted(results.glob("*.json"))]
    return sorted(found, key=lambda one: (order.index(one["arm"]), one["seed"]))


def _done(results: Path, arm: str, seed: int) -> bool:
    path = results / f"{file_name(arm, seed)}.json"
    return path.is_file() and _read(path)["arm"] == arm


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        good = found["format"] == FORMAT and found["arm"] in trials() and isinstance(found["seed"], int)
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise InputError(f"{path} is no result of this version", "remove it")
    return dict(found)


def _one(plan: Plan, job: tuple[str, int], known: Mapping[str, Trial]) -> None:
    import torch

    arm, seed = job
    torch.set_num_threads(1)
    started = time.monotonic()

    def say(line: str) -> None:
        print(one_line(f"[{arm}, seed {seed}] {line}"), file=sys.stderr, flush=True)

    found = run(arm, known[arm], seed, Place(open_testbed(plan.data), plan.clip, plan.work), say)
    write(found, plan.results / f"{file_name(arm, seed)}.json")
    say(f"measured after {time.monotonic() - started:.0f} s")
