"""The ``calibrate`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sayclip_calibration.encoders import Core, Feed, Progress, Request, Result
    from sayclip_calibration.gates import Gate
    from sayclip_calibration.report import Calibrated

_PRECISIONS = ("int8", "fp16")
_SCALES = ("search", "minmax", "percentile", "entropy", "mse")
_SHOWN_LAYERS = 10


def add(subparsers: Any) -> None:
    """Add ``sayclip calibrate …`` to the command line (entry-point group ``sayclip.commands``)."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "calibrate",
        help="add int8 and fp16 graphs to a bundle",
        description="Add int8 and fp16 graphs to a bundle, held against its fp32 graphs on real inputs first. What "
        "misses its gates is not written.",
        allow_abbrev=False,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    inputs = parser.add_argument_group("inputs, for the encoders that take them")
    inputs.add_argument("--images", type=Path, metavar="DIR", help="folder of pictures")
    inputs.add_argument("--speech", type=Path, metavar="DIR", help="folder of recorded speech")
    inputs.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="captions, one a line, or file<TAB>caption; a picture or recording with the same name, but for folder and "
        "suffix, belongs to the caption, and to one another",
    )
    inputs.add_argument("--ipa", type=Path, metavar="FILE", help="IPA, likewise; by default made of the captions")
    inputs.add_argument("--sounds", type=Path, metavar="DIR", help="folder of recordings of any sound")
    inputs.add_argument(
        "--samples",
        type=_count(4, 100_000),
        metavar="N",
        help="inputs to take the ranges from, and as many others to judge by (default: 64 recordings, 256 of all "
        "else); of fewer, half each",
    )
    inputs.add_argument("--seed", type=_count(0, 2**32 - 1), default=0, metavar="N", help="chooses them (default: 0)")
    what = parser.add_argument_group("what is made")
    what.add_argument(
        "--encoder", action="append", default=[], metavar="NAME", help="only this one; may be given again for another"
    )
    what.add_argument(
        "--precision", type=_precisions, default=_PRECISIONS, metavar="P,...", help="int8, fp16 or both (default)"
    )
    what.add_argument("--scales", choices=_SCALES, default="search", help="how ranges become scales (default: search)")
    what.add_argument("--no-smooth", action="store_true", help="leave channels as they are")
    what.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave layers whose name matches in float; may be given again",
    )
    what.add_argument("--out", type=Path, metavar="DIR", help="write a new bundle instead of changing this one")
    gates = parser.add_argument_group("gates")
    for name, about in (
        ("mean", "mean cosine to fp32 (default: 0.995, speech 0.99)"),
        (
            "worst",
            "cosine of the worst sample (default: 0.9 where centred, from 32 samples on; else 0.98)",
        ),
        ("recall", "what recall@1, 5 and 10 may lose (default: 0.01, or one query)"),
        ("keywords", "share of equal keywords (default: 0.95)"),
        ("boundaries", "share of boundaries within 20 ms (default: 0.95)"),
    ):
        gates.add_argument(f"--gate-{name}", type=float, metavar="X", help=about)
    gates.add_argument("--force", action="store_true", help="also write what misses its gates, marked so")
    gates.add_argument(
        "--crosscheck",
        choices=("modelopt",),
        help="compare with what nvidia-modelopt makes of the same model; needs the extra [modelopt], or "
        "$SAYCLIP_MODELOPT_PYTHON, the python of an environment that has it",
    )
    parser.add_argument("--threads", type=_count(1, 1024), metavar="N", help="default: all that this process may use")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, core: Core | None = None) -> int:
    """Returns 2 where something was not written that had been asked for; ``core`` stands in for this package's own."""
    from sayclip.cli.output import error_line, one_line, print_json
    from sayclip_calibration.encoders import calibrate_bundle

    def say(line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)

    with _Bars() as bars:

        def said(line: str) -> None:
            bars.clear()
            say(line)

        result = calibrate_bundle(_request(arguments), core or OwnCore(), said, bars)
    if arguments.json:
        print_json(_document(result))
    else:
        for name, report in result.reports.items():
            _print(name, report)
    for line in result.failed:
        print(error_line(line), file=sys.stderr)
    return 2 if result.failed else 0


def _request(arguments: argparse.Namespace) -> Request:
    from sayclip.sessions.cpu import default_threads
    from sayclip_calibration.data import Given
    from sayclip_calibration.encoders import Request

    def place(path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    given = {name: place(getattr(arguments, name)) for name in ("images", "text", "ipa", "speech", "sounds")}
    return Request(
        bundle=Path(arguments.bundle).expanduser(),
        given=Given(**given),
        out=place(arguments.out),
        encoders=tuple(arguments.encoder),
        precisions=tuple(arguments.precision),
        samples=arguments.samples,
        seed=arguments.seed,
        scales=arguments.scales,
        smooth=not arguments.no_smooth,
        exclude=tuple(arguments.exclude),
        limits={
            name: getattr(arguments, f"gate_{name}") for name in ("mean", "worst", "recall", "keywords", "boundaries")
        },
        force=arguments.force,
        threads=arguments.threads or default_threads(),
        crosscheck=arguments.crosscheck is not None,
    )


class OwnCore:
    """This package's own calibration."""

    def int8(
        self,
        fp32: Path,
        out: Path,
        name: str,
        calibration: Sequence[Feed],
        judged: Sequence[Feed],
        gate: Gate,
        request: Request,
        progress: Progress,
    ) -> Calibrated:
        from sayclip_calibration.recipe import Options, calibrate_encoder

        options = Options(
            scales=request.scales,
            smooth=request.smooth,
            exclude=request.exclude,
            seed=request.seed,
            threads=request.threads,
        )
        return calibrate_encoder(fp32, out, name, calibration, judged, gate, options, progress)

    def fp16(
        self, fp32: Path, out: Path, name: str, judged: Sequence[Feed], gate: Gate, progress: Progress
    ) -> Calibrated:
        from sayclip_calibration.recipe import halve_encoder

        return halve_encoder(fp32, out, name, judged, gate, progress)


class _Bars:
    """One progress bar after another on the same line, a new one for every new label."""

    def __init__(self) -> None:
        self._label = ""
        self._bar: Any = None

    def __call__(self, label: str, done: int, total: int | None) -> None:
        from sayclip.cli.output import Progress

        if label != self._label:
            self.clear()
            self._label, self._bar = label, Progress(label)
        self._bar(done, total)

    def clear(self) -> None:
        """Take the bar off the line, so that a line can be printed."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._label, self._bar = "", None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def _print(name: str, report: Mapping[str, Any]) -> None:
    from sayclip.cli.output import one_line, size
    from sayclip_calibration.markdown import ranked, verdict

    for precision, found in report["precisions"].items():
        recall = ", ".join(f"{key} {100 * value:+.1f} %" for key, value in found["recall"].items())
        kind = "centred cosine" if found["centred"] else "cosine"
        parts = [
            f"{name} {precision}: {verdict(found)}",
            f"{kind} mean {found['mean_cosine']:.4f}, worst {found['worst_cosine']:.4f} ({found['worst_sample']})",
            *([recall] if recall else []),
            f"{len(found['layers'])} layers at {precision}, {len(found['given_back'])} given back",
            f"{size(found['bytes'])}, {100 * found['smaller']:.0f} % of fp32",
            f"{found['seconds']:.0f} s",
        ]
        print(one_line("; ".join(parts)))
        if found["crosscheck"]:
            other = found["crosscheck"]
            print(
                one_line(
                    f"  {other['tool']} {other['version']} over the same inputs: {kind} mean "
                    f"{other['mean_cosine']:.4f}, worst {other['worst_cosine']:.4f}; {size(other['bytes'])}"
                )
            )
        for line in ranked(found, precision, _SHOWN_LAYERS):
            print(f"  {line}")
        more = len(found["sensitivity"]) - _SHOWN_LAYERS
        if more > 0:
            print(f"  … and {more} more, in the report")


def _document(result: Result) -> dict[str, Any]:
    return {
        "bundle": str(result.bundle),
        "encoders": result.reports,
        "skipped": result.skipped,
        "left_out": [{"name": name, "reason": reason} for name, reason in result.left_out],
        "failed": result.failed,
    }


def _precisions(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not chosen or any(part not in _PRECISIONS for part in chosen):
        raise argparse.ArgumentTypeError(f"{text!r} is not of {', '.join(_PRECISIONS)}")
    return chosen


def _count(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return value

    return parse
