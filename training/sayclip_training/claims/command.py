"""``sayclip train claims`` on the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sayclip.cli.search import positive

RESULTS = Path("training/results/pronunciation")
PAGE = Path("docs/pronunciation.md")


def add(recipes: Any) -> None:
    """Add the parser of this recipe."""
    parser: argparse.ArgumentParser = recipes.add_parser(
        "claims",
        help="measure what the papers claim on the test bed, and write the page on it",
        description="Train every arm with every seed that has left no JSON in --results, measure it, and write the "
        "page from all JSONs that are there. An arm with one seed takes five to six minutes on one core.",
    )
    parser.add_argument("what", choices=("pronunciation",))
    parser.add_argument("--data", type=Path, metavar="DIR", help="test bed; without it only the page is written")
    parser.add_argument("--clip", default="demo", help="as in `sayclip train pronunciation`, with an image encoder")
    parser.add_argument("--arm", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--seed", action="append", type=int, default=[], help="only this one (default 0, 1 and 2)")
    parser.add_argument("--steps", type=positive, help="of training, in place of each arm's own: shows that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"JSONs (default {RESULTS})")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE.md", help=f"to write (default {PAGE})")
    parser.add_argument("--work", type=Path, default=Path("work/claims"), metavar="DIR", help="checkpoints and caches")
    parser.add_argument("--workers", type=positive, default=len(os.sched_getaffinity(0)), help="processes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what is left, then write the page."""
    from sayclip_training.claims.pronunciation import jobs, page

    results = arguments.results.expanduser()
    if arguments.data is not None:
        plan = jobs.Plan(
            arguments.data.expanduser(),
            arguments.clip,
            results,
            arguments.work.expanduser(),
            tuple(arguments.arm),
            tuple(arguments.seed or (0, 1, 2)),
            arguments.steps,
            arguments.workers,
        )
        print(f"{jobs.perform(plan)} experiments done, their JSONs are in {results}")
    page.write(jobs.read(results), arguments.page.expanduser())
    print(f"wrote {arguments.page}")
    return 0
