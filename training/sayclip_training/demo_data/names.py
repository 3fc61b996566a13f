"""Names and keywords of the emoji, and which of them training may see.

Sources: Unicode's ``emoji-test.txt`` (Debian ``unicode-data``) for the list and the names, CLDR's English annotations
(Debian ``unicode-cldr-core``) for the keywords. Splits are made by hash, so they never depend on order or on a seed.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from sayclip.errors import MissingDependencyError
from sayclip_training import hashed

EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
CLDR = Path("/usr/share/unicode/cldr/common")
HELD_OUT_NAMES = 0.05
HELD_OUT_PAIRS = 0.10
SHOWN = frozenset({"red apple"})  # the demo's IPA query, which everybody tries: never held out

_LINE = re.compile(r"^([0-9A-F ]+);\s*fully-qualified\s*#\s*(\S+)\s+E\S+\s+(.+)$")
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_KEYCAP = 0x20E3


@dataclass(frozen=True)
class Emoji:
    """One picture of the demo: its characters, its name, CLDR's keywords for it, and its group in Unicode's list."""

    text: str
    name: str
    keywords: tuple[str, ...]
    group: str = ""

    @property
    def stem(self) -> str:
        """File name without suffix: the code points in hexadecimal, joined by ``_`` as the Noto project does."""
        return "emoji_u" + "_".join(f"{ord(c):x}" for c in self.text if c != "\ufe0f")


@dataclass(frozen=True)
class Split:
    """What training may see; ``pairs`` are (picture index, keyword). A held-out name is in no trained pair either."""

    held_out_names: frozenset[int]
    trained_pairs: frozenset[tuple[int, str]]
    held_out_pairs: frozenset[tuple[int, str]]


def read_emoji(emoji_test: Path = EMOJI_TEST, cldr: Path = CLDR) -> list[Emoji]:
    """All fully-qualified emoji without skin tones, flags and keycaps, in Unicode's order.

    Raises MissingDependencyError where the two Debian packages are not installed.
    """
    for path, package in ((emoji_test, "unicode-data"), (cldr / "annotations" / "en.xml", "unicode-cldr-core")):
        if not path.exists():
            raise MissingDependencyError(
                f"{path} is missing, it names the demo's pictures", f"apt-get install {package}"
            )
    keywords = _annotations(cldr / "annotations" / "en.xml") | _annotations(cldr / "annotationsDerived" / "en.xml")
    found: list[Emoji] = []
    group = ""
    for line in emoji_test.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        match = _LINE.match(line)
        if match is None or group == "Flags":
            continue
        codes = [int(code, 16) for code in match[1].split()]
        if _KEYCAP in codes or any(code in _SKIN_TONES for code in codes):
            continue
        text, name = "".join(map(chr, codes)), match[3].strip()
        found.append(Emoji(text, name, keywords.get(text.replace("\ufe0f", ""), ()), group))
    return found


def split(emoji: list[Emoji]) -> Split:
    """Keep 5 % of the names (but ``SHOWN``) and 10 % of the (picture, keyword) pairs out, by SHA-256 of the strings."""
    held_names = frozenset(
        i for i, e in enumerate(emoji) if e.name not in SHOWN and hashed.share(f"name\t{e.name}") < HELD_OUT_NAMES
    )
    held_strings = {emoji[i].name.casefold() for i in held_names}
    trained: set[tuple[int, str]] = set()
    held: set[tuple[int, str]] = set()
    for i, e in enumerate(emoji):
        for word in e.keywords:
            if word.casefold() == e.name.casefold():
                continue  # the name itself, which CLDR often repeats among the keywords
            out = hashed.share(f"pair\t{e.name}\t{word}") < HELD_OUT_PAIRS or word.casefold() in held_strings
            (held if out else trained).add((i, word))
    return Split(held_names, frozenset(trained), frozenset(held))


def _annotations(path: Path) -> dict[str, tuple[str, ...]]:
    rows: dict[str, tuple[str, ...]] = {}
    for node in ElementTree.parse(path).getroot().iter("annotation"):
        if node.get("type") is None and node.text:
            rows[node.get("cp", "")] = tuple(dict.fromkeys(w.strip() for w in node.text.split("|") if w.strip()))
    return rows


def write_splits(emoji: list[Emoji], split: Split, target: Path) -> None:
    """Write the held-out names and pairs as JSON, for whoever scores the bundle without this package."""
    held = {
        "held_out_names": [f"{emoji[i].stem}.webp" for i in sorted(split.held_out_names)],
        "held_out_pairs": [[f"{emoji[i].stem}.webp", word] for i, word in sorted(split.held_out_pairs)],
    }
    target.write_text(json.dumps(held, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
