"""``sayclip build``: TensorRT engines of a bundle's graphs, made on the device that they run on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.cli.output import Progress, one_line, print_json, size
from sayclip.errors import BackendError, BundleError, InputError, SayclipError
from sayclip.sessions.tensorrt import BACKENDS

if TYPE_CHECKING:
    from sayclip.bundle.manifest import Manifest

AUTO, ALL = "auto", "all"
PRECISIONS = ("int8", "fp16", "fp32")
PLANS = ("query", "index")


def add(commands: Any) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser(
        "build", help="make TensorRT engines of a bundle on this device", allow_abbrev=False, description=_DESCRIPTION
    )
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="default: $SAYCLIP_BUNDLE, else the sayclip-demo")
    parser.add_argument("--encoder", action="append", metavar="NAME", help="only this encoder; may be given again")
    parser.add_argument(
        "--precision",
        choices=(AUTO, *reversed(PRECISIONS)),
        default=AUTO,
        help="auto: int8 and fp16 where the bundle has them, fp32 where neither is there or accurate",
    )
    parser.add_argument(
        "--profile",
        choices=(*PLANS, ALL),
        default=ALL,
        help="query: one input at a time; index: batches; all (the default): an engine for each",
    )
    parser.add_argument("--backend", choices=BACKENDS, help="default: tensorrt, else tensorrt_rtx")
    parser.add_argument(
        "--workspace", type=_megabytes, default=0, metavar="MB", help="limit of the builder's own memory"
    )
    parser.add_argument("--force", action="store_true", help="build again what is in the cache already")
    parser.add_argument(
        "--target",
        type=lambda text: [part for part in text.split(",") if part],
        metavar="SM,…",
        help="without a GPU: build for these, such as sm_86,sm_120 (tensorrt_rtx only); wants --out",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where engines for --target go")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


_DESCRIPTION = (
    "Engines are kept in the user's cache and are used by backend='auto' from then on. They belong to this GPU, this "
    "driver and this version of TensorRT: when one of them changes, run this again."
)


def run(arguments: argparse.Namespace) -> int:
    """Build, check and report engine by engine. Returns 2 when an encoder ends without any that is accurate."""
    from sayclip.bundle.files import verify_files
    from sayclip.bundle.find import find_bundle
    from sayclip.bundle.manifest import Manifest
    from sayclip.sessions.tensorrt import building

    if bool(arguments.target) != bool(arguments.out):
        raise InputError("--target and --out belong together", "give both, or neither to build for this machine")
    backend = arguments.backend or _backend(ahead=bool(arguments.target))
    manifest = Manifest.read(find_bundle(arguments.bundle))
    encoders = arguments.encoder or list(manifest.encoders)
    for name in encoders:
        manifest.entry(name)
    with Progress("hashing") as progress:
        verify_files(manifest, progress=progress)
    maker: building.Builder | building.AheadBuilder
    if arguments.target:
        maker = building.AheadBuilder(manifest, backend, tuple(arguments.target), arguments.out, arguments.workspace)
    else:
        maker = building.Builder(manifest, backend, arguments.workspace, arguments.force)
    plans = PLANS if arguments.profile == ALL else (arguments.profile,)
    report = _Report(manifest, str(maker), arguments.json)
    with maker:
        for name in dict.fromkeys(encoders):
            _build_encoder(maker, report, name, arguments.precision, plans)
    report.end()
    return 2 if report.failed else 0


def _build_encoder(maker: Any, report: _Report, name: str, precision: str, plans: Sequence[str]) -> None:
    """All engines of one encoder; with ``auto`` down to fp32 where no smaller precision is accurate."""
    graphs = maker.manifest.entry(name).graphs
    if precision != AUTO:
        if precision not in graphs:
            has = ", ".join(graphs)
            raise BundleError(f"encoder {name!r} has no {precision!r} graph, it has {has}", "use one, or --encoder")
        good = _build_precision(maker, report, name, precision, plans)
    else:
        wanted = [choice for choice in PRECISIONS[:-1] if choice in graphs]
        good = any([_build_precision(maker, report, name, choice, plans) for choice in wanted])
        if not good and "fp32" in graphs:
            good = _build_precision(maker, report, name, "fp32", plans)
    if not good:
        report.failed.append(name)


def _build_precision(maker: Any, report: _Report, name: str, precision: str, plans: Sequence[str]) -> bool:
    """Whether every plan of this precision is there in the end. What goes wrong with one is said, not raised."""
    good = True
    for plan in plans:
        label = f"{name} {precision} {plan}"
        try:
            with Progress(f"building {label}") as progress:
                outcome = maker.build(name, precision, plan, progress)
        except (BackendError, BundleError) as error:
            report.refused(name, precision, plan, error)
            good = False
            continue
        report.add(outcome)
        good = good and bool(outcome["accurate"])
    return good


class _Report:
    """What was built, printed as it goes, or as one JSON document at the end."""

    def __init__(self, manifest: Manifest, place: str, as_json: bool) -> None:
        self.failed: list[str] = []
        self._json = as_json
        self._document: dict[str, Any] = {
            "bundle": manifest.name,
            "built_by": place,
            "engines": [],
            "failed": self.failed,
        }
        if not as_json:
            print(one_line(f"{manifest.name}, {place}"))

    def add(self, outcome: dict[str, Any]) -> None:
        """One engine, built now or found in the cache."""
        self._document["engines"].append(outcome)
        for line in () if self._json else lines(outcome):
            print(one_line(line), flush=True)

    def refused(self, name: str, precision: str, plan: str, error: SayclipError) -> None:
        """One engine that could not be built."""
        told = {"encoder": name, "precision": precision, "profile": plan, "status": "refused", "error": str(error)}
        self._document["engines"].append(told)
        if not self._json:
            print(one_line(f"{_title(told)} failed: {error}"), flush=True)

    def end(self) -> None:
        """The JSON document, and on stderr what failed."""
        import sys

        if self._json:
            print_json(self._document)
        if self.failed:
            told = [engine for engine in self._document["engines"] if engine["encoder"] in self.failed]
            why = next((engine["error"] for engine in told if "error" in engine), "see above")
            print(one_line(f"sayclip: no engine for {', '.join(self.failed)}: {why}"), file=sys.stderr)


def lines(outcome: dict[str, Any]) -> list[str]:
    """One engine for a person."""
    facts = outcome["facts"]
    how = "in the cache already" if outcome["status"] == "cached" else f"built in {facts['seconds']:.1f} s"
    found = [f"{_title(outcome)} {how}, {size(outcome['bytes'])}"]
    if facts.get("weakly_typed_because"):
        found.append(f"{'':<6}weakly typed, since strongly typed it is refused ({facts['weakly_typed_because']})")
    int8 = facts.get("int8")
    if int8 is not None and facts["asked_int8"]:
        found.append(f"{'':<6}{len(int8['int8'])} of {facts['asked_int8']} quantised layers run in int8")
        for layer, types in int8["other"].items():
            found.append(f"{'':<6}not int8 but {types}: {layer}")
        if int8["unknown"]:
            found.append(f"{'':<6}not told by the engine's report: {', '.join(int8['unknown'])}")
    elif facts["asked_int8"]:
        found.append(f"{'':<6}the graph asks for {facts['asked_int8']} layers in int8")
    if facts.get("reference"):
        found.append(f"{'':<6}{facts['reference']}")
    if not outcome["accurate"]:
        found.append(f"{'':<6}not kept: it is not accurate enough")
    return found


def _title(outcome: dict[str, Any]) -> str:
    return f"  {outcome['encoder']:<14} {outcome['precision']:<5} {outcome['profile']:<6}"


def _megabytes(text: str) -> int:
    """Megabytes as bytes."""
    if not text.isdigit() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes from 1 on")
    return int(text) << 20


def _backend(ahead: bool) -> str:
    """The library to use where none is named: TensorRT where it is installed, TensorRT-RTX otherwise."""
    from sayclip.sessions.tensorrt.library import installed

    rtx = ahead or (installed("tensorrt_rtx") and not installed("tensorrt"))
    return "tensorrt_rtx" if rtx else "tensorrt"
