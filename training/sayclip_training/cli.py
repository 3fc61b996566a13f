"""The ``train`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sayclip.cli.search import positive


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


def _demo(arguments: argparse.Namespace) -> int:
    from sayclip_training.demo import Budget, train_demo

    quick = Budget(4, 4, 4, 4, 0, 0, 1, 0, 0, 1)
    train_demo(arguments.out, arguments.work, quick if arguments.quick else Budget(), arguments.workers)
    return 0
