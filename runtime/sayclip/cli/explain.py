"""``sayclip search --explain``: what the speech encoder heard, and where, printed, as JSON, and as a picture."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.cli.output import one_line
from sayclip.errors import InputError

if TYPE_CHECKING:
    from sayclip.encoder import Encoder
    from sayclip.explanation import Explanation
    from sayclip.text.heard_words import HeardWord


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of this module to the parser of the search."""
    parser.add_argument("--explain", action="store_true", help="say what was heard in the recordings, and when")
    parser.add_argument(
        "--explain-picture", metavar="FILE.png", help="with --explain: draw it, for one recording, as a PNG"
    )


def check(arguments: argparse.Namespace) -> None:
    """End with a line of usage where the options do not go together, or where no picture can be written."""
    refuse = arguments.parser.error
    if arguments.explain and not arguments.speech:
        refuse("--explain is given without --speech, the only query that is heard")
    if arguments.explain_picture is None:
        return
    if not arguments.explain:
        refuse("--explain-picture is given without --explain")
    if len(arguments.speech) > 1:
        refuse(f"--explain-picture draws one recording, {len(arguments.speech)} are given, name one with --speech")
    place = _place(arguments.explain_picture)
    if place.suffix.lower() != ".png":
        refuse(f"--explain-picture is {arguments.explain_picture!r}, wanted a name that ends in .png")
    if not os.path.isdir(place.parent):
        refuse(f"the folder {place.parent} of --explain-picture does not exist, make it or name another")
    if os.path.isdir(place):
        refuse(f"--explain-picture {place} is a folder, name a file")


def hear(encoder: Encoder, recordings: Sequence[str]) -> tuple[list[Explanation], float]:
    """What was heard in each of ``recordings``, and how many ms that took; loading the graph is not counted.

    Raises BundleError for an encoder that gives no keywords (before its graph is loaded), and as `Encoder.speech` does.
    """
    encoder.explain([])
    encoder.open("speech")
    start = time.perf_counter()
    heard = encoder.explain(recordings)
    return heard, (time.perf_counter() - start) * 1e3


def lines(heard: Sequence[Explanation]) -> list[str]:
    """A line for each recording: ``heard``, then its words; of several, each begins with the recording's name."""
    from sayclip.text.heard_words import heard_words

    found = []
    for one in heard:
        name = f"{one.source}  " if len(heard) > 1 else ""
        words = " · ".join(_told(word) for word in heard_words(one.units))
        found.append(one_line(f"{name}heard  {words or 'nothing'}"))
    return found


def document(heard: Sequence[Explanation]) -> list[dict[str, Any]]:
    """The units of each recording as JSON holds them; times are null where the encoder does not tell them."""
    return [
        {
            "recording": one.source,
            "units": [
                {
                    "start_s": unit.start_s,
                    "end_s": unit.end_s,
                    "word": unit.word,
                    "score": unit.score,
                    "id": unit.token_id,
                }
                for unit in one.units
            ],
        }
        for one in heard
    ]


def draw(encoder: Encoder, heard: Explanation, name: str) -> None:
    """Write the picture of one recording to the file ``name``, whole or not at all.

    Raises InputError where it cannot be written, MissingDependencyError for a Pillow without FreeType.
    """
    from sayclip.bundle.whole_file import write_whole
    from sayclip.cli.explain_picture import picture
    from sayclip.hearing import whole_settings
    from sayclip.inputs.whole_wave import read_whole

    settings = whole_settings(encoder.manifest.entry("speech"))
    wave = read_whole(heard.source, settings)
    content = picture(wave, settings.sample_rate, heard.units, os.path.basename(heard.source))
    place = _place(name)
    try:
        write_whole(place, content)
    except OSError as error:
        raise InputError(
            f"{place} cannot be written ({error.strerror or error})", "name a writable place with room"
        ) from None


def _told(word: HeardWord) -> str:
    times = "" if word.start_s is None or word.end_s is None else f"{word.start_s:.2f}–{word.end_s:.2f} "
    return f"{times}{word.word} ({word.score:.2f})"


def _place(name: str) -> Path:
    return Path(os.path.expanduser(name))
