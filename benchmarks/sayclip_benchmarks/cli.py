"""The ``bench`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    """Add ``sayclip bench …`` to the command line (entry-point group ``sayclip.commands``)."""
    bench: argparse.ArgumentParser = subparsers.add_parser("bench", help="measure a bundle")
    kinds = bench.add_subparsers(dest="bench", required=True)
    demo = kinds.add_parser("demo", help="the figures of the demo bundle: what it finds, how fast, in how much space")
    demo.add_argument("--demo", type=Path, help="folder of the sayclip_demo package (default: the installed one)")
    demo.add_argument("--cache", type=Path, default=Path("work/bench"), help="where flite's recordings are kept")
    demo.add_argument("--speed-only", action="store_true", help="leave out what is found")
    demo.add_argument("--out", type=Path, help="write the table (.md) and the numbers (.json) under this name")
    demo.add_argument("--readme", type=Path, help="put the table between the figures markers of this file")
    demo.add_argument("--json", action="store_true", help="print JSON instead of the table")
    demo.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from sayclip.sessions.cpu import is_x86
    from sayclip_benchmarks.demo import accuracy, speed, table
    from sayclip_benchmarks.demo.data import read_demo

    demo = read_demo(arguments.demo)
    report: dict[str, Any] = {
        **accuracy.identity(demo),
        "environment": speed.environment(),
        "speed": speed.measure(demo),
    }
    if not arguments.speed_only:
        report["accuracy"] = {
            "fp32": accuracy.measure(demo, "fp32", arguments.cache),
            "int8": accuracy.measure(demo, "int8-u8" if is_x86() else "int8", arguments.cache),
        }
        report["torch"] = accuracy.against_torch(demo)
    rows = table.rows(report)
    text = table.markdown(rows, report)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.readme:
        table.insert(arguments.readme, text)
    print(json.dumps(report, indent=1) if arguments.json else text)
    return 0
