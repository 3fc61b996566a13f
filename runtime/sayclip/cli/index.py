"""``sayclip index``: pictures into a library."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.cli.output import Progress, error_line, one_line, print_json, print_notice
from sayclip.cli.places import default_library, named_library
from sayclip.errors import InputError, LibraryError

if TYPE_CHECKING:
    from sayclip.library import Library


def add(commands: Any) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser("index", help="add pictures to a library", allow_abbrev=False)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="pictures, or folders to look for pictures in")
    parser.add_argument("--library", metavar="FILE", help="default: $SAYCLIP_LIBRARY, else one in your data folder")
    parser.add_argument("--bundle", metavar="FOLDER", help="default: $SAYCLIP_BUNDLE, else the installed sayclip-demo")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="also remove pictures that no longer exist, below PATH or, without one, anywhere",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Returns 2 when there were pictures and none of them could be added."""
    if not arguments.paths and not arguments.prune:
        arguments.parser.error("nothing to index, name at least one picture or folder")
    from sayclip.encoder import load
    from sayclip.library import Library

    started = time.perf_counter()
    pictures, failed = collect(arguments.paths)
    if arguments.paths and not pictures and not failed:
        raise InputError(f"no pictures in {', '.join(arguments.paths)}", "name pictures, or a folder that holds some")
    if not pictures and not arguments.prune:  # no library is made for nothing
        print_failed(failed)
        return 2
    named = named_library(arguments.library)
    with load(arguments.bundle) as encoder:
        path = named or default_library(encoder.space)
        _make_parent(path)
        with Library.open_or_create(path, encoder) as library:
            with Progress("indexing") as progress, Progress("building the index") as building:
                report = library.add_many(pictures, progress=progress, index_progress=building)
            pruned = prune(library, arguments.paths) if arguments.prune else []
            held = len(library)
        notice = encoder.notice
    seconds = time.perf_counter() - started
    failed += report.failed
    print_failed(failed)
    good = report.added + report.unchanged + report.updated
    if arguments.json:
        document = report.to_dict()
        document["failed"] = [{"source": source, "message": message} for source, message in failed]
        document |= {"pruned": pruned, "pictures": held, "library": str(path), "seconds": seconds, "notice": notice}
        print_json(document)
    else:
        if good:
            print_notice(notice)
        parts = [f"{report.added} added", f"{report.unchanged} unchanged", f"{report.updated} updated"]
        parts += [f"{len(failed)} failed"] if failed else []
        parts += [f"{len(pruned)} removed"] if arguments.prune else []
        print(f"{', '.join(parts)} in {seconds:.1f} s; {one_line(str(path))} holds {held} pictures")
    return 2 if failed and not good else 0


def print_failed(failed: list[tuple[str, str]]) -> None:
    """One line a picture or folder that could not be added, on stderr."""
    for source, message in failed:
        print(error_line(message if source in message else f"{source}: {message}"), file=sys.stderr)


def collect(paths: list[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """The pictures at and below ``paths``, each once, and (source, message) of what is not there."""
    from sayclip.library import find_pictures

    found: dict[str, Path] = {}
    failed: list[tuple[str, str]] = []
    for name in paths:
        try:
            pictures = find_pictures(Path(name).expanduser())
        except InputError as error:
            failed.append((name, str(error)))
            continue
        failed += pictures.failed
        found.update((os.path.abspath(picture), picture) for picture in pictures)
    return [Path(path) for path in found], failed


def prune(library: Library, paths: list[str]) -> list[str]:
    """Remove pictures that no longer exist, only below ``paths`` if there are any; returns their sources."""
    if not paths:
        return library.prune()
    return [source for path in paths for source in library.prune(Path(path).expanduser())]


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(
            f"folder {path.parent} cannot be made ({error.strerror})", "name a library in a folder that can be written"
        ) from None
