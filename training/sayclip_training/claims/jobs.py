"""All experiments that have left no JSON yet, several processes at once: every arm with one seed before the next."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from sayclip.cli.output import one_line
from sayclip.errors import InputError
from sayclip_training.claims import results
from sayclip_training.claims.study import Place, Study
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

    def place(self, study: Study) -> Place:
        """Raises InputError for a test bed that is not there or not whole."""
        return Place(open_testbed(self.data, study.also), self.clip, self.work, self.steps)


def perform(study: Study, plan: Plan) -> int:
    """Do what is left of ``plan``; how many experiments that was.

    Raises InputError for an arm or a test bed that is not there, or a result that is none.
    """
    for arm in plan.arms:
        if arm not in study.arms:
            raise InputError(f"there is no arm {arm!r}", f"name one of {', '.join(study.arms)}")
    wanted = [arm for arm in study.arms if not plan.arms or arm in plan.arms]
    plan.place(study)
    left = [(arm, seed) for seed in plan.seeds for arm in wanted if not results.done(study, plan.results, arm, seed)]
    if not left:
        return 0
    plan.work.mkdir(parents=True, exist_ok=True)
    workers = min(plan.workers, len(left))
    if workers == 1:
        for job in left:
            _one(study, plan, job)
        return len(left)
    with _pool(1) as pool:  # a process of its own: what it read is gone when the others start
        pool.submit(_prepare, study, plan, workers).result()
    with _pool(workers) as pool:
        jobs = [pool.submit(_one, study, plan, job) for job in left]
        done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        for waits in waiting:
            waits.cancel()
        for ended in done:
            ended.result()
    return len(left)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"))


def _prepare(study: Study, plan: Plan, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    study.prepare(plan.place(study))


def _one(study: Study, plan: Plan, job: tuple[str, int]) -> None:
    import torch

    arm, seed = job
    torch.set_num_threads(1)
    started = time.monotonic()
    say = _teller(arm, seed)
    found = study.run(arm, seed, plan.place(study), say)
    results.write(found, plan.results / f"{results.file_name(arm, seed)}.json")
    say(f"measured after {time.monotonic() - started:.0f} s")


def _teller(arm: str, seed: int) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(one_line(f"[{arm}, seed {seed}] {line}"), file=sys.stderr, flush=True)

    return say
