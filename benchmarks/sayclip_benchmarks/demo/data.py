"""The demo package as data: pictures, names, keywords and what was held out of training."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from sayclip.errors import InputError, MissingDependencyError


@dataclass(frozen=True)
class Demo:
    """Pictures in the order of captions.tsv; ``held_out_pairs`` are (picture index, keyword)."""

    folder: Path
    pictures: tuple[Path, ...]
    names: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    held_out_names: frozenset[int]
    held_out_pairs: frozenset[tuple[int, str]]

    @property
    def trained_names(self) -> list[int]:
        return [i for i in range(len(self.names)) if i not in self.held_out_names]

    def bearers(self, keyword: str) -> list[int]:
        """Pictures that bear a keyword, or have it as their name; case does not count."""
        wanted = keyword.casefold()
        return [
            i
            for i, (name, words) in enumerate(zip(self.names, self.keywords, strict=True))
            if wanted == name.casefold() or wanted in map(str.casefold, words)
        ]

    @property
    def trained_keywords(self) -> list[str]:
        """Keywords with at least one trained pair, each once; names and held-out strings left out."""
        names = {name.casefold() for name in self.names}
        found: dict[str, str] = {}
        for i, words in enumerate(self.keywords):
            for word in words:
                trained = (i, word) not in self.held_out_pairs and i not in self.held_out_names
                if trained and word.casefold() not in names:
                    found.setdefault(word.casefold(), word)
        return list(found.values())


def read_demo(folder: Path | None = None) -> Demo:
    """Read the demo package in ``folder``, or the installed one."""
    if folder is None:
        spec = importlib.util.find_spec("sayclip_demo")
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError("the demo data is not installed", "pip install ./demo in the source folder")
        folder = Path(spec.submodule_search_locations[0])
    pictures = folder / "pictures"
    if not (pictures / "captions.tsv").is_file():
        raise InputError(f"{folder} holds no pictures/captions.tsv", "name the folder of the demo package")
    with (pictures / "captions.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    held = json.loads((pictures / "splits.json").read_text(encoding="utf-8"))
    index = {row["file"]: i for i, row in enumerate(rows)}
    return Demo(
        folder,
        tuple(pictures / row["file"] for row in rows),
        tuple(row["name"] for row in rows),
        tuple(tuple(word for word in row["keywords"].split("|") if word) for row in rows),
        frozenset(index[file] for file in held["held_out_names"]),
        frozenset((index[file], word) for file, word in held["held_out_pairs"]),
    )
