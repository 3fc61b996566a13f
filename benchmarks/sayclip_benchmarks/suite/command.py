"""``sayclip bench [BUNDLE …]``: time a bundle's encoders beside PyTorch and every library that is here."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

FULL_SIZE = ("clip", "speech")


def add(kinds: Any) -> None:
    """Add ``run``, which is what `sayclip bench` does where no other kind is named."""
    parser: argparse.ArgumentParser = kinds.add_parser(
        "run", help="time encoders, search and whole queries beside PyTorch and other libraries (the default)"
    )
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="default: the installed demo's")
    parser.add_argument(
        "--full-size",
        action="store_true",
        help="ViT-B/32, CLIP text and HuBERT-base of random weights in place of a bundle, made and calibrated where "
        "they are not under WORK yet, which takes a quarter of an hour",
    )
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME", help="only this one; or `search`")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME", help="only what begins so")
    parser.add_argument("--vectors", type=int, default=100_000, metavar="N", help="pictures that queries search")
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="rounds of timing (default: 7)")
    parser.add_argument(
        "--minimum-seconds", type=float, default=10.0, metavar="S", help="of each scenario (MLPerf: 600; 0: none)"
    )
    parser.add_argument(
        "--loadgen", action="store_true", help="let MLPerf's LoadGen drive the scenarios, too (mlcommons-loadgen)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes, one batch, nothing compiled")
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="JPEGs of which to say, too, what decoding them at a part of their size changes",
    )
    parser.add_argument(
        "--repeat",
        type=Path,
        metavar="EARLIER.json",
        help="results of the same command: medians that differ by more than 10 %% are marked as noisy",
    )
    parser.add_argument("--no-cold", action="store_true", help="leave cold starts out")
    parser.add_argument("--work", type=Path, default=Path("work/bench"), metavar="DIR", help="kept: inputs, vectors")
    parser.add_argument("--demo", type=Path, help="folder of the sayclip_demo package (default: the installed one)")
    parser.add_argument("--out", type=Path, metavar="NAME", help="write NAME.json, NAME.md and plots beside them")
    parser.add_argument("--readme", type=Path, help="put the figures between the bench markers of this file")
    parser.add_argument("--json", action="store_true", help="print the JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0; what could not be timed is a row."""
    from sayclip.bundle.find import find_bundle
    from sayclip.cli.output import Progress, one_line, print_json
    from sayclip.errors import InputError
    from sayclip_benchmarks.cold import demo as cold
    from sayclip_benchmarks.cold.optimum import beside_optimum
    from sayclip_benchmarks.demo.data import read_demo
    from sayclip_benchmarks.demo.table import insert
    from sayclip_benchmarks.report import document as documents
    from sayclip_benchmarks.report.markdown import markdown
    from sayclip_benchmarks.suite import figures, photographs, repeat
    from sayclip_benchmarks.suite.bench import Options, measure
    from sayclip_benchmarks.suite.inputs import Sources

    if arguments.turns < 2 or arguments.vectors < 100:
        raise InputError("turns or vectors are too few", "give at least 2 turns and 100 vectors")
    demo = read_demo(arguments.demo)
    work: Path = arguments.work.absolute()
    bundles = list(arguments.bundles) or [find_bundle(None)]
    if arguments.full_size:
        if arguments.bundles:
            raise InputError("--full-size and a bundle are both given", "give one of them")
        bundles = _full_size(demo, work)
    earlier = documents.read(arguments.repeat) if arguments.repeat else None
    if arguments.photographs:  # what is wrong with it is said before anything is timed
        photographs.jpegs(arguments.photographs)
        seeing = photographs.chosen(bundles)
    options = Options(
        turns=arguments.turns,
        vectors=arguments.vectors,
        scenario_s=arguments.minimum_seconds,
        quick=arguments.quick,
        loadgen=arguments.loadgen,
        encoders=tuple(arguments.encoder),
        only=tuple(arguments.candidate),
    )
    recordings = sorted((demo.folder / "queries").glob("*.wav"))
    sources = Sources(demo.pictures, demo.names, recordings)
    with Progress("timing") as bar:

        def progress(label: str, done: int, total: int | None) -> None:
            bar(done, total)

        document = measure(
            bundles, work, sources, options, lambda line: print(one_line(line), file=sys.stderr), progress
        )
    document["command"] = shlex.join(["sayclip", *sys.argv[1:]])
    starts = 3 if arguments.quick else 5
    document["cold"] = []
    if not arguments.no_cold:
        document["cold"] = cold.over_demo(demo, work, starts) + beside_optimum(bundles, demo, work, starts)
    if arguments.photographs:
        document["photographs"] = photographs.section(arguments.photographs, seeing)
    if earlier is not None:
        repeat.hold(document, earlier)
    table = figures.markdown(document)
    text = f"{table}\n{markdown(document)}"
    if arguments.out:
        from sayclip_benchmarks.report.plots import draw

        out: Path = arguments.out
        out.parent.mkdir(parents=True, exist_ok=True)
        documents.write(document, out.with_suffix(".json"))
        out.with_suffix(".md").write_text(text, encoding="utf-8")
        for path in draw(document, out.parent, out.name):
            print(path, file=sys.stderr)
    if arguments.readme:
        insert(arguments.readme, table, "bench")
    if arguments.json:
        print_json(document)
    else:
        print(text)
    return 0


def _full_size(demo: Any, work: Path) -> list[Path]:
    """The bundles of `sayclip bench int8`, made and calibrated where they are not there yet."""
    from sayclip_benchmarks.int8 import making

    folder = work / "full"
    given = making.inputs(demo, folder, 200)
    making.bundles(folder, given, points=False)
    return [folder / name for name in FULL_SIZE]
