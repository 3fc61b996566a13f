"""The ``bench`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from sayclip_benchmarks import profile
from sayclip_benchmarks.report import compare
from sayclip_benchmarks.suite import command


def add(subparsers: Any) -> None:
    """Add ``sayclip bench …`` to the command line (entry-point group ``sayclip.commands``)."""
    bench: argparse.ArgumentParser = subparsers.add_parser("bench", help="measure a bundle")
    kinds = bench.add_subparsers(dest="bench", required=True)
    for kind in (command, compare, profile):
        kind.add(kinds)
    _or_run(bench, kinds.choices)
    demo = kinds.add_parser("demo", help="the figures of the demo bundle: what it finds, how fast, in how much space")
    demo.add_argument("--demo", type=Path, help="folder of the sayclip_demo package (default: the installed one)")
    demo.add_argument("--cache", type=Path, default=Path("work/bench"), help="where flite's recordings are kept")
    demo.add_argument("--speed-only", action="store_true", help="leave out what is found")
    demo.add_argument("--out", type=Path, help="write the table (.md) and the numbers (.json) under this name")
    demo.add_argument("--readme", type=Path, help="put the table between the figures markers of this file")
    demo.add_argument("--json", action="store_true", help="print JSON instead of the table")
    demo.set_defaults(run=_demo)
    int8 = kinds.add_parser("int8", help="full-size encoders of hard random weights: what int8 costs and gains")
    int8.add_argument("--work", type=Path, default=Path("work/int8"), help="where bundles and recordings are kept")
    int8.add_argument("--demo", type=Path, help="folder of the sayclip_demo package (default: the installed one)")
    int8.add_argument("--items", type=int, default=1000, help="pictures, texts and recordings to embed")
    int8.add_argument(
        "--only",
        choices=("clip", "speech"),
        help="only this bundle: image and text, or speech; the other's figures are kept if they lie under --out",
    )
    int8.add_argument("--samples", type=int, help="inputs to calibrate with (default: as `sayclip calibrate`)")
    int8.add_argument("--gate-mean", type=float, help="mean cosine to calibrate for (default: as `sayclip calibrate`)")
    int8.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: engines are built and timed beside PyTorch's"
    )
    int8.add_argument("--turns", type=int, default=12, help="rounds of timing")
    int8.add_argument("--out", type=Path, help="write the table (.md) and the numbers (.json) under this name")
    int8.add_argument("--readme", type=Path, help="put the table between the int8 markers of this file")
    int8.add_argument("--json", action="store_true", help="print JSON instead of the table")
    int8.set_defaults(run=_int8)


def _or_run(bench: argparse.ArgumentParser, kinds: Container[str]) -> None:
    """Let `sayclip bench`, `sayclip bench BUNDLE` and `sayclip bench --quick` mean `sayclip bench run …`."""
    parse = bench.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> Any:
        words = list(args or [])
        named = bool(words) and (words[0] in kinds or words[0] in ("-h", "--help"))
        return parse(words if named else ["run", *words], namespace)

    setattr(bench, "parse_known_args", parse_known_args)  # noqa: B010 - mypy lets no method be assigned


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


def _int8(arguments: argparse.Namespace) -> int:
    from sayclip_benchmarks.demo import speed
    from sayclip_benchmarks.demo.data import read_demo
    from sayclip_benchmarks.demo.table import insert
    from sayclip_benchmarks.int8 import making, measure, table

    work: Path = arguments.work.absolute()
    given = making.inputs(read_demo(arguments.demo), work, arguments.items)
    if arguments.only:
        given = replace(given, options={arguments.only: given.options[arguments.only]})
    reports = making.bundles(work, given, arguments.samples, arguments.gate_mean)
    if arguments.device == "cuda":
        making.build(work, given.options)
    found: dict[str, Any] = {}
    bundles: list[tuple[dict[str, Any], Path, str]] = []
    for name, report in reports.items():  # first what other work on the machine would disturb
        folder = "speech" if name == "speech" else "clip"
        others = making.others(work, folder)
        points = []
        for bundle, made in [(work / folder, report), *others.items()]:
            points.append(making.described(bundle, name, made))
            points[-1]["speed"] = measure.speed(bundle, name, given, arguments.turns, arguments.device)
            points[-1]["engine_bytes"] = {one: making.engines(bundle, name, one) for one in ("fp32", "int8")}
            print(f"{bundle.name} {name}: timed", file=sys.stderr, flush=True)
        found[name] = {**points[0], "others": points[1:]}
        folders = [work / folder, *others]
        bundles += [(point, bundle, name) for point, bundle in zip([found[name], *points[1:]], folders, strict=True)]
    agreements = measure.Agreements(given)
    for point, bundle, name in bundles:
        point["agreement"] = agreements.of(bundle, name)
    document = {
        "items": arguments.items,
        "environment": {
            **speed.environment(),
            **measure.versions(["torch", "transformers", "openvino", "tensorrt-rtx"]),
        },
        "encoders": found,
    }
    if arguments.only and arguments.out:
        document = table.beside(arguments.out.with_suffix(".json"), document)
    text = table.markdown(document)
    if arguments.readme:
        insert(arguments.readme, text, "int8")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1) if arguments.json else text)
    return 0
