"""``sayclip info``: what a bundle is, and what runs it here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sayclip.cli.output import Progress, one_line, print_json, size
from sayclip.errors import SayclipError
from sayclip.sessions.reference import OUTPUT

if TYPE_CHECKING:
    from sayclip.encoder import Encoder


def add(commands: Any) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser("info", help="say what a bundle is and what runs it here", allow_abbrev=False)
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="default: $SAYCLIP_BUNDLE, else the sayclip-demo")
    parser.add_argument("--bundle", metavar="FOLDER", dest="named", help="the same, as for other commands")
    parser.add_argument("--verify", action="store_true", help="hash every file again")
    parser.add_argument("--measure", action="store_true", help="time again what could run each encoder here")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Load every encoder, because only then is it known what runs it, and print what is known."""
    from sayclip.bundle.files import verify_files
    from sayclip.encoder import Encoder, load
    from sayclip.sessions.choose import Request

    with (
        load(arguments.named if arguments.bundle is None else arguments.bundle) as loaded,
        Encoder(loaded.manifest, Request(again=arguments.measure)) as encoder,
    ):
        hashed = None
        if arguments.verify:
            with Progress("hashing") as progress:
                hashed = verify_files(encoder.manifest, again=True, progress=progress)
        document = describe(encoder)
        document["verified_files"] = hashed
        if arguments.json:
            print_json(document)
        else:
            print("\n".join(lines(document)))


def describe(encoder: Encoder) -> dict[str, Any]:
    """``encoder.info()`` with every encoder loaded, or the error why it cannot be, and its files' sizes."""
    errors: dict[str, str] = {}
    for name in encoder.names:
        try:
            encoder.open(name)
        except SayclipError as error:
            errors[name] = str(error)
    document = encoder.info()
    for name, entry in encoder.manifest.encoders.items():
        about = document["encoders"][name]
        about["bytes"] = {
            precision: graph.bytes + sum(file.bytes for file in graph.data) for precision, graph in entry.graphs.items()
        }
        about["preprocessing"] = entry.to_dict()["preprocessing"]
        about["outputs"] = sorted({spec.name for graph in entry.graphs.values() for spec in graph.outputs})
        if name in errors:
            about["error"] = errors[name]
    document["bytes"] = sum(file.bytes for file in encoder.manifest.files())
    return document


def lines(document: dict[str, Any]) -> list[str]:
    """The description for a person."""
    found = [f"{document['name']}  {document['folder']}"]
    if document["notice"]:
        found.append(document["notice"])
    about = [f"space {document['space']}", f"width {document['width']}", size(document["bytes"])]
    about += [document["license"]] if document["license"] else []
    about += [f"made by {document['created_by']}"] if document["created_by"] else []
    found.append(", ".join(about))
    for name, encoder in document["encoders"].items():
        graphs = ", ".join(f"{precision} {size(count)}" for precision, count in encoder["bytes"].items())
        if "error" in encoder:
            found.append(f"  {name:<14} cannot run here: {encoder['error']}")
        else:
            engine = f"{encoder['backend']} {encoder['precision']}"
            threads = {0: "", 1: ", 1 thread"}.get(encoder["threads"], f", {encoder['threads']} threads")
            used, *others = encoder["attempts"]
            found.append(f"  {name:<14} {engine}{threads}{_figures(used, ': ')} ({used['reason']})")
            for attempt in others:
                told = f"{attempt['reason']}{_figures(attempt, '; ')}"
                found.append(f"  {'':<14} not {attempt['backend']} {attempt['precision']}: {told}")
        found.append(f"  {'':<14} graphs: {graphs}")
        if encoder["outputs"] != [OUTPUT]:
            found.append(f"  {'':<14} gives: {', '.join(encoder['outputs'])}")
        for what in ("preprocessing", "measured", "provenance"):
            facts = [f"{key} {_short(value)}" for key, value in encoder[what].items() if value is not None]
            if facts:
                found.append(f"  {'':<14} {what}: {', '.join(facts)}")
    if document["verified_files"] is not None:
        found.append(f"verified {document['verified_files']} files")
    return [one_line(line) for line in found]


def _figures(attempt: dict[str, Any], before: str) -> str:
    """What was measured of a candidate, after ``before``; empty where nothing was."""
    told = []
    if attempt["p50_ms"] is not None:
        told.append(f"p50 {attempt['p50_ms']:.3g} ms, p90 {attempt['p90_ms']:.3g} ms")
    if attempt["accuracy"] is not None:
        told.append(f"cosine {attempt['accuracy']:.5f}")
    return before + ", ".join(told) if told else ""


def _short(value: Any) -> Any:
    """A file by its name, gates by whether they were passed, other objects and lists without brackets."""
    if isinstance(value, dict):
        if "file" in value:
            return value["file"]
        if value and all(isinstance(part, dict) and "passed" in part for part in value.values()):
            return " ".join(f"{key} {'passed' if part['passed'] else 'missed'}" for key, part in value.items())
        return " ".join(map(str, value.values()))
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
