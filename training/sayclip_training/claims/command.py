"""``sayclip train claims`` on the command line."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.cli.search import positive

if TYPE_CHECKING:
    from sayclip_training.claims.study import Study

STUDIES = ("pronunciation", "segments")


def add(recipes: Any) -> None:
    """Add the parser of this recipe."""
    parser: argparse.ArgumentParser = recipes.add_parser(
        "claims",
        help="measure what the papers claim on the test bed, and write the page on it",
        description="Train every arm with every seed that has left no JSON in --results, measure it, and write the "
        "page from all JSONs that are there. An arm with one seed takes minutes on one core; the page says how many.",
    )
    parser.add_argument("what", choices=STUDIES)
    parser.add_argument("--data", type=Path, metavar="DIR", help="test bed; without it only the page is written")
    parser.add_argument("--clip", default="demo", help="a bundle with image, text and, for segments, speech encoders")
    parser.add_argument("--arm", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--seed", action="append", type=int, default=[], help="only this one (default 0, 1 and 2)")
    parser.add_argument("--steps", type=positive, help="of training, in place of each arm's own: shows that it runs")
    parser.add_argument("--results", type=Path, metavar="DIR", help="JSONs (default training/results/WHAT)")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="to write (default docs/WHAT.md)")
    parser.add_argument("--work", type=Path, default=Path("work/claims"), metavar="DIR", help="checkpoints and caches")
    parser.add_argument("--workers", type=positive, default=len(os.sched_getaffinity(0)), help="processes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what is left, then write the page."""
    from sayclip_training.claims import jobs
    from sayclip_training.claims import results as jsons

    study = named(arguments.what)
    results = (arguments.results or Path("training/results", arguments.what)).expanduser()
    page = (arguments.page or Path("docs", f"{arguments.what}.md")).expanduser()
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
        print(f"{jobs.perform(study, plan)} experiments done, their JSONs are in {results}")
    study.write_page(jsons.read(study, results), page)
    print(f"wrote {page}")
    return 0


def named(what: str) -> Study:
    """The study of that name, one of ``STUDIES``."""
    study: Study = importlib.import_module(f"sayclip_training.claims.{what}.study").STUDY
    return study
