"""``sayclip search``: a library asked by text, speech, picture or pronunciation, or by several fused."""

from __future__ import annotations

import argparse
import math
import shutil
from typing import TYPE_CHECKING, Any

from sayclip.cli import explain, places
from sayclip.cli.output import one_line, print_json, print_notice
from sayclip.errors import BundleError, LibraryError

if TYPE_CHECKING:
    from sayclip.encoder import Encoder
    from sayclip.library import Library, SearchResult

ENCODER_OF = {
    "text": "text",
    "speech": "speech",
    "image": "image",
    "ipa": "pronunciation",
    "words": "pronunciation",
    "sounds_like": "",  # one or two, by their shares
}
MODALITIES = tuple(ENCODER_OF)


def add(commands: Any) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser("search", help="search a library", allow_abbrev=False)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to look for")
    parser.add_argument("--speech", metavar="WAV", action="append", help="a recording of somebody saying it")
    parser.add_argument("--image", metavar="PICTURE", action="append", help="a picture that looks like it")
    parser.add_argument("--ipa", metavar="IPA", action="append", help="its pronunciation, such as 'ɹɛd æpəl'")
    parser.add_argument("--words", metavar="WORDS", action="append", help="words to pronounce by espeak-ng")
    parser.add_argument(
        "--sounds-like",
        metavar="SPELLING",
        action="append",
        help="a spelling that sounds right, such as 'dollfin': read aloud by espeak-ng, and as text",
    )
    parser.add_argument(
        "--sound-share",
        type=share,
        metavar="SHARE",
        help="how much of --sounds-like is its sound, from 0 to 1; the rest is its spelling",
    )
    parser.add_argument(
        "--language", metavar="CODE", help="of --words and --sounds-like, such as de (default: the encoder's first)"
    )
    parser.add_argument(
        "--weights", type=weights, default={}, metavar="NAME=NUMBER,…", help="such as text=1,speech=0.5"
    )
    explain.add(parser)
    parser.add_argument("-k", type=positive, default=10, metavar="COUNT", help="how many hits (default 10)")
    parser.add_argument("--library", metavar="FILE", help="default: $SAYCLIP_LIBRARY, else yours, else the demo's")
    parser.add_argument("--bundle", metavar="FOLDER", help="default: $SAYCLIP_BUNDLE, else the installed sayclip-demo")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run, parser=parser)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number


def weights(text: str) -> dict[str, float]:
    """``text=1,speech=0.5`` as a dictionary."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        name = name.strip().replace("-", "_")  # as its option is written
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not equals or name not in MODALITIES or name in found or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{part!r} is not one of {', '.join(MODALITIES)}, '=' and a number, once")
        found[name] = value
    return found


def run(arguments: argparse.Namespace) -> int:
    """Print the hits, best first."""
    asked: dict[str, Any] = {name: getattr(arguments, name) for name in MODALITIES}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked:
        arguments.parser.error("nothing to search for, give a text, --speech, --image, --ipa, --words or --sounds-like")
    unused = sorted(set(arguments.weights) - set(asked))
    if unused:
        arguments.parser.error(f"--weights names {unused[0]}, but no {unused[0]} is asked for")
    if arguments.sound_share is not None and "sounds_like" not in asked:
        arguments.parser.error("--sound-share is given without --sounds-like")
    if arguments.language is not None and not {"words", "sounds_like"} & asked.keys():
        arguments.parser.error("--language is given without --words or --sounds-like")
    explain.check(arguments)
    reading = {"language": arguments.language, "sound_share": arguments.sound_share}
    from sayclip.encoder import load

    with load(arguments.bundle) as encoder:
        _require_encoders(encoder, asked, arguments.sound_share)
        heard, heard_ms = explain.hear(encoder, arguments.speech) if arguments.explain else ([], 0.0)
        if heard:
            asked["speech"] = heard
        with open_library(arguments.library, encoder, asked, reading) as library:
            for name in sorted(_needed(asked, arguments.sound_share)):
                encoder.open(name)  # so that the time of encoding is not that of loading
            result = library.search(**asked, **reading, weights=arguments.weights or None, k=arguments.k)
            path, held = str(library.path), len(library)
        result.encode_ms += heard_ms
        if arguments.explain_picture is not None:
            explain.draw(encoder, heard[0], arguments.explain_picture)
        engines = {
            name: {"backend": engine["backend"], "precision": engine["precision"], "threads": engine["threads"]}
            for name, engine in encoder.info()["encoders"].items()
            if engine["loaded"]
        }
        if arguments.json:
            about = {"notice": encoder.notice, "bundle": encoder.manifest.name, "space": encoder.space}
            explanation = {"explanation": explain.document(heard)} if arguments.explain else {}
            print_json({**about, "library": path, "encoders": engines, **explanation, **result.to_dict()})
        else:
            print_notice(encoder.notice)
            for line in explain.lines(heard):
                print(line)
            print_table(result)
            if not held:
                print(f"{one_line(path)} holds no pictures yet: add some with `sayclip index PATH`")
            print_times(result, engines)
    return 0


def open_library(name: str | None, encoder: Encoder, asked: dict[str, Any], reading: dict[str, Any]) -> Library:
    """The library that is named, else the user's own unless it is empty, else the demo's. Raises LibraryError."""
    from sayclip.library import Library

    named = places.named_library(name)
    if named is not None:
        return Library.open(named, encoder)
    default = places.default_library(encoder.space)
    pictures = places.demo_pictures(encoder)
    if default.exists():
        library = Library.open(default, encoder)
        if len(library) or pictures is None:
            return library
        library.close()
    if pictures is None:
        raise LibraryError(f"there is no library at {default} yet", "make one with `sayclip index PATH`")
    if not places.demo_is_ready(encoder):
        _refuse_bad_queries(encoder, asked, reading)
    return places.open_demo_library(encoder, pictures)


def _refuse_bad_queries(encoder: Encoder, asked: dict[str, Any], reading: dict[str, Any]) -> None:
    """Encode once before the demo's pictures are indexed, so that a bad recording is not reported after that."""
    from sayclip.library.queries import Reading, encode_queries

    encode_queries(asked, encoder, encoder.width, reading=Reading(**reading))


def _require_encoders(encoder: Encoder, asked: dict[str, Any], sound_share: float | None) -> None:
    """Refuse at once what the bundle has no encoder for. Raises BundleError naming what it can be asked by."""
    there = encoder.manifest.encoders
    for modality in asked:
        missing = sorted(_needed({modality: asked[modality]}, sound_share) - there.keys())
        if missing:
            known = [_asked_by(name) for name, needs in ENCODER_OF.items() if needs in there]
            raise BundleError(
                f"bundle {encoder.manifest.name} cannot be asked by {_asked_by(modality)}: "
                f"it has no {missing[0]} encoder, only {', '.join(there)}",
                f"ask by {' or '.join(known)}, or use another bundle" if known else "use another bundle",
            )


def _asked_by(modality: str) -> str:
    return "typed text" if modality == "text" else f"--{modality.replace('_', '-')}"


def _needed(asked: dict[str, Any], sound_share: float | None) -> set[str]:
    """The encoders that what is asked goes through."""
    from sayclip.library import sounds_like

    names = {ENCODER_OF[modality] for modality in asked} - {""}
    if "sounds_like" in asked:
        names |= set(sounds_like.factors(sounds_like.checked_share(sound_share)))
    return names


def print_table(result: SearchResult) -> None:
    """One line a hit: rank, score, caption, source."""
    captions = [one_line(hit.caption or "") for hit in result]
    width = min(max([len(caption) for caption in captions], default=0), 48)
    columns = shutil.get_terminal_size((100, 24)).columns
    for rank, (hit, caption) in enumerate(zip(result, captions, strict=True), start=1):
        label = caption if len(caption) <= width else caption[: width - 1] + "…"
        start = f"{rank:3d}  {hit.score:6.3f}  " + (label.ljust(width) + "  " if width else "")
        source = one_line(hit.source)
        room = columns - len(start)
        if caption and len(source) > room:  # the end of a path says more than its beginning
            source = "…" + source[-(room - 1) :] if room > 8 else ""
        print((start + source).rstrip())


def print_times(result: SearchResult, engines: dict[str, Any]) -> None:
    """One line: what the encoding and the searching took, and what computed."""
    used = ", ".join(f"{name} on {engine['backend']} {engine['precision']}" for name, engine in engines.items())
    print(f"encoded in {result.encode_ms:.1f} ms ({used}), searched in {result.search_ms:.1f} ms")
