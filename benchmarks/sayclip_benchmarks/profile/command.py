"""``sayclip bench profile``: tables, a trace and the roofline of one encoder on one backend or several."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.errors import InputError, SayclipError

if TYPE_CHECKING:
    from sayclip.bundle.manifest import Manifest
    from sayclip_benchmarks.profile.ceilings import Ceilings
    from sayclip_benchmarks.profile.events import Recording
    from sayclip_benchmarks.profile.feeds import Feed

SCHEMA = "sayclip-profile/1"


def add(kinds: Any) -> None:
    """Add the parser of this command to those of ``sayclip bench``."""
    parser = kinds.add_parser("profile", help="where the time goes inside a graph, operator by operator")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="default: $SAYCLIP_BUNDLE, else the sayclip-demo")
    parser.add_argument("--encoder", required=True, metavar="NAME", help="image, text, pronunciation, speech or audio")
    parser.add_argument(
        "--backend", help="onnxruntime, openvino, openvino-bf16, … (default: ONNX Runtime and OpenVINO, where they are)"
    )
    parser.add_argument("--precision", help="fp32, fp16, int8, int8-u8 (default: the one the backend is quickest with)")
    parser.add_argument("--size", help="'3 s' of speech, '77 tokens' of text (default: 3 s, 8 tokens)")
    parser.add_argument("--runs", type=int, default=20, help="runs to take medians of (default: 20)")
    parser.add_argument("--threads", type=int, help="default: all cores that this process may use")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write profile.md, profile.json and trace.json there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Profile, print, and write what was asked for. Raises InputError, BundleError, BackendError, OSError."""
    from sayclip.bundle.find import find_bundle
    from sayclip.bundle.manifest import Manifest
    from sayclip.sessions.choose import Request
    from sayclip_benchmarks.profile import ceilings, feeds, record, trace

    if not 1 <= arguments.runs <= 1000:
        raise InputError(f"--runs is {arguments.runs}", "give 1 to 1000")
    Request(threads=arguments.threads)  # refuses what makes no sense
    backends = record.chosen(arguments.backend)
    manifest = Manifest.read(find_bundle(arguments.bundle))
    given, size = feeds.make(manifest, arguments.encoder, arguments.size)
    recordings = []
    for backend in backends:
        precision = record.precision_for(manifest, arguments.encoder, backend, arguments.precision)
        recorded = record.record(
            manifest,
            arguments.encoder,
            backend,
            precision,
            given,
            runs=arguments.runs,
            threads=arguments.threads,
        )
        recordings.append(recorded)
    limits = ceilings.measure(backends, recordings[0].threads)
    found = [_figures(manifest, arguments.encoder, recorded, given[0], limits) for recorded in recordings]
    title = " ".join(part for part in (arguments.encoder, size) if part)
    document = {
        "schema": SCHEMA,
        "bundle": manifest.name,
        "encoder": arguments.encoder,
        "size": size,
        "backends": found,
    }
    text = markdown(title, document)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "profile.md").write_text(text, encoding="utf-8")
        (arguments.out / "profile.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        trace.write(arguments.out / "trace.json", recordings, title)
    print(json.dumps(document, indent=1) if arguments.json else text)
    return 0


def _figures(manifest: Manifest, name: str, recorded: Recording, feed: Feed, limits: Ceilings) -> dict[str, Any]:
    """``operators.table`` with the roofline, or with why there is none."""
    from sayclip_benchmarks.profile import operators, roofline, work

    figures: dict[str, Any] = operators.table(recorded)
    if recorded.backend == "onnxruntime-cuda":
        why = "they are the processor's, and a GPU computes"
        return {**figures, "roofline": {"ceilings": roofline.told(limits), "why": why}}
    path = manifest.path(manifest.entry(name).graphs[recorded.precision].file)
    try:
        figures["roofline"] = roofline.roofline(recorded, work.of_graph(path, feed), limits, work.sums(path))
    except SayclipError as error:
        figures["roofline"] = {"ceilings": roofline.told(limits), "why": error.problem}
    return figures


def markdown(title: str, document: dict[str, Any]) -> str:
    """All tables of the document, a section for each backend."""
    from sayclip_benchmarks.profile import operators, roofline

    parts = [f"## Profile of {title} ({document['bundle']})", ""]
    for figures in document["backends"]:
        parts += [operators.markdown(figures), roofline.markdown(figures["roofline"])]
    return "\n".join(parts)
