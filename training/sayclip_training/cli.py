"""The ``train`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sayclip.cli.search import positive
from sayclip_training.claims import command as claims
from sayclip_training.distillation import command as distillation
from sayclip_training.heads import command as heads


def add(subparsers: Any) -> None:
    """Add ``sayclip train …`` to the command line (entry-point group ``sayclip.commands``)."""
    train: argparse.ArgumentParser = subparsers.add_parser("train", help="train encoders that nobody publishes")
    recipes = train.add_subparsers(dest="recipe", required=True)
    demo = recipes.add_parser("demo", help="the demo bundle, from Debian's packages alone; resumes where it stopped")
    demo.add_argument("--out", type=Path, default=Path("demo/sayclip_demo"), help="folder of the demo package")
    demo.add_argument("--work", type=Path, default=Path("work/demo"), help="features, checkpoints and logs")
    demo.add_argument("--workers", type=positive, default=len(os.sched_getaffinity(0)), help="processes and threads")
    demo.add_argument("--quick", action="store_true", help="a few steps of everything: shows that it runs")
    demo.set_defaults(run=_demo)
    _add_demo_data(recipes)
    distillation.add(recipes)
    heads.add(recipes)
    claims.add(recipes)


def _demo(arguments: argparse.Namespace) -> int:
    from sayclip_training.demo import Budget, train_demo

    quick = Budget(4, 4, 4, 4, 0, 0, 1, 0, 0, 1)
    train_demo(arguments.out, arguments.work, quick if arguments.quick else Budget(), arguments.workers)
    return 0


def _add_demo_data(recipes: Any) -> None:
    data = recipes.add_parser(
        "demo-data", help="pictures, scenes, words and timed speech, from Debian's packages alone; resumes"
    )
    data.add_argument("--out", type=Path, required=True, help="folder, empty or a test bed that was begun before")
    data.add_argument("--seed", type=_natural, default=0, metavar="N", help="of scenes, splits, voices (default 0)")
    data.add_argument("--voices", type=positive, metavar="N", help="recordings of a scene (default 10, --quick 3)")
    data.add_argument("--workers", type=positive, default=len(os.sched_getaffinity(0)), metavar="N", help="processes")
    data.add_argument("--quick", action="store_true", help="a few of everything: shows that it runs")
    data.set_defaults(run=_demo_data)


def _demo_data(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from sayclip_training.testbed.build import build
    from sayclip_training.testbed.contents import QUICK, Size

    size = QUICK if arguments.quick else Size()
    if arguments.voices is not None:
        size = replace(size, voices=arguments.voices)
    counts = build(arguments.out, size, arguments.seed, arguments.workers)["counts"]
    print(f"{arguments.out}: {sum(counts['recordings'].values())} recordings, {counts['hours']:.2f} hours")
    return 0


def _natural(text: str) -> int:
    """A whole number from 0 on, as an argument."""
    if not text.isdecimal() or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)
