"""CLDR's names of the pictures in several languages (Debian ``unicode-cldr-core``)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from sayclip.errors import MissingDependencyError
from sayclip_training.demo_data.names import CLDR, Emoji
from sayclip_training.testbed.captions import picture_file

LANGUAGES = ("en", "de", "fr")
_PRESENTATION = "\ufe0f"  # CLDR leaves it out


def names(emoji: Sequence[Emoji], language: str, cldr: Path = CLDR) -> list[tuple[str, str]]:
    """(file, name) of every picture that has a name in ``language``; MissingDependencyError without CLDR."""
    said: dict[str, str] = {}
    for folder in ("annotations", "annotationsDerived"):
        path = cldr / folder / f"{language}.xml"
        if not path.exists():
            raise MissingDependencyError(
                f"{path} is missing, it names pictures in the language {language!r}",
                "apt-get install unicode-cldr-core",
            )
        for node in ElementTree.parse(path).getroot().iter("annotation"):
            if node.get("type") == "tts" and node.text and node.text.strip():
                said[node.get("cp", "").replace(_PRESENTATION, "")] = node.text.strip()
    keyed = ((picture_file(item), said.get(item.text.replace(_PRESENTATION, ""))) for item in emoji)
    return [(file, name) for file, name in keyed if name]


def table(rows: Sequence[tuple[str, str]]) -> str:
    """The rows as they stand in ``languages/*.tsv``."""
    return "".join(f"{file}\t{name}\n" for file, name in [("file", "name"), *rows])
