"""The IPA chart as a matrix of attributes, and the phoneme inventory of a bundle made from it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import PhonemeError
from sayclip.phonemes.distance import PLACE_PREFIX, distances, metric_coordinates

PLACES = (
    "bilabial", "labiodental", "dental", "alveolar", "postalveolar", "retroflex",
    "palatal", "velar", "uvular", "pharyngeal", "glottal",
)  # fmt: skip
MANNERS = (
    "plosive", "nasal", "trill", "tap", "fricative", "lateral fricative",
    "approximant", "lateral approximant", "click", "implosive",
)  # fmt: skip
SCALES = ("voiced", "height", "back", "round", "rhotic", "nasal", "stress", "length")
KINDS = ("consonant", "vowel", "mark")
ATTRIBUTES = (
    "consonant",
    "vowel",
    *(PLACE_PREFIX + place for place in PLACES),
    *("manner." + manner for manner in MANNERS),
    *SCALES,
)
SPECIAL = {"<pad>": 0, "<sot>": 1, "<eot>": 2, " ": 3, "<unk>": 4}


@dataclass(frozen=True)
class Chart:
    """Segments and their attributes.

    ``symbols``: V segments; ``attributes``: K names; ``matrix``: float32 [V, K], values in [0, 1];
    ``names``: the phonetic description of each segment; ``marks``: attribute vectors of K numbers by mark of stress or
    length; ``sha256``: of the content, not of the file's comments.
    """

    symbols: list[str]
    attributes: list[str]
    matrix: NDArray[np.float32]
    names: list[str]
    sha256: str
    marks: Mapping[str, list[float]] = field(default_factory=dict)
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)
    _points: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {symbol: row for row, symbol in enumerate(self.symbols)})
        object.__setattr__(self, "_points", metric_coordinates(self.matrix, self.attributes))

    def row(self, symbol: str) -> int:
        """Row of ``symbol`` in ``matrix``; ``PhonemeError`` when it is not on the chart."""
        if symbol not in self._rows:
            raise PhonemeError(f"{symbol!r} is not on the IPA chart", "add a line for it to chart.tsv")
        return self._rows[symbol]

    def distance(self, a: str, b: str) -> float:
        """Distance of two segments (``sayclip.phonemes.distance``): 0 for the same, 1 for voiced against voiceless."""
        return float(distances(self._points[self.row(a)], self._points[[self.row(b)]])[0])

    def nearest(self, symbol: str, among: Iterable[str] | None = None) -> tuple[str, float]:
        """The other segment nearest to ``symbol`` (of ``among``, default the whole chart), and its distance.

        Of equally near ones the first of the chart. ``PhonemeError`` when there is no other segment.
        """
        row = self.row(symbol)
        others = sorted({self.row(other) for other in (self.symbols if among is None else among)} - {row})
        if not others:
            raise PhonemeError(f"there is no segment to compare {symbol!r} with", "give at least one other symbol")
        gaps = distances(self._points[row], self._points[others])
        best = int(np.argmin(gaps))
        return self.symbols[others[best]], float(gaps[best])

    def neighbours(self, among: Iterable[str] | None = None) -> dict[str, str]:
        """The nearest other segment of every segment of ``among`` (default the whole chart), within ``among``."""
        chosen = list(self.symbols if among is None else among)
        return {symbol: self.nearest(symbol, chosen)[0] for symbol in chosen}


@cache
def load_chart(path: str | os.PathLike[str] | None = None) -> Chart:
    """Reads a chart (default: the one shipped here); ``PhonemeError`` with the line when one is malformed."""
    if path is None:
        text = resources.files(__package__).joinpath("chart.tsv").read_text(encoding="utf-8")
    else:
        text = Path(path).read_text(encoding="utf-8")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line and not line.startswith("#")]
    rows = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    names: dict[str, str] = {}
    vectors: dict[str, list[float]] = {}
    marks: dict[str, list[float]] = {}
    for (number, _), cells in zip(lines[1:], rows, strict=True):
        try:
            symbol = cells["symbol"]
            if not symbol or symbol in vectors or symbol in marks:
                raise ValueError(f"symbol {symbol!r} is empty or listed twice")
            (marks if cells["type"] == "mark" else vectors)[symbol] = _vector(cells)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise PhonemeError(f"line {number} of the IPA chart is malformed ({error})", "mend the line") from error
        names[symbol] = cells["name"]
    symbols = list(vectors)
    matrix = np.array(list(vectors.values()), dtype=np.float32).reshape(len(symbols), len(ATTRIBUTES))
    matrix.setflags(write=False)
    sha256 = content_sha256(ATTRIBUTES, {s: row.tolist() for s, row in zip(symbols, matrix, strict=True)}, marks)
    return Chart(symbols, list(ATTRIBUTES), matrix, [names[symbol] for symbol in symbols], sha256, marks)


def content_sha256(
    attributes: Sequence[str], segments: Mapping[str, Sequence[float]], marks: Mapping[str, Sequence[float]]
) -> str:
    """SHA-256 (hex) of a chart: K names of attributes, and vectors of K numbers by segment and by mark, in order."""
    parts = [list(segments), list(attributes), _rounded(segments)]
    if marks:  # charts of before marks had attributes keep their hash
        parts += [list(marks), _rounded(marks)]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def write_inventory(
    path: str | os.PathLike[str], chart: Chart, used_symbols: Iterable[str], marks: Iterable[str] = ()
) -> dict[str, Any]:
    """Writes the ``phonemes.json`` of a bundle and returns its content.

    ``used_symbols``: segments the encoder is trained on; they get the ids 5, 6, … in the chart's order, and after them
    the ``marks`` of stress and length that it is trained with. The other segments are listed without an id, so that the
    runtime can name the nearest known one. ``PhonemeError`` when a symbol is not on the chart.
    """
    used = {chart.symbols[chart.row(symbol)] for symbol in used_symbols if symbol != " "}
    chosen = set(marks)
    if chosen - chart.marks.keys():
        raise PhonemeError(f"{min(chosen - chart.marks.keys())!r} is no mark of the IPA chart", "add a line for it")
    numbered = [*(s for s in chart.symbols if s in used), *(mark for mark in chart.marks if mark in chosen)]
    ids = {symbol: len(SPECIAL) + n for n, symbol in enumerate(numbered)}
    vectors = dict(zip(chart.symbols, chart.matrix.tolist(), strict=True)) | {m: chart.marks[m] for m in chosen}
    listed = [*chart.symbols, *(mark for mark in chart.marks if mark in chosen)]
    inventory: dict[str, Any] = {
        "chart_sha256": chart.sha256,
        "attributes": list(chart.attributes),
        "special": dict(SPECIAL),
        "marks": {mark: list(vector) for mark, vector in chart.marks.items()},
        "symbols": [
            {"symbol": symbol, "id": ids.get(symbol), "vector": [round(value, 6) for value in vectors[symbol]]}
            for symbol in listed
        ],
    }
    entries = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in inventory["symbols"])
    head = json.dumps({key: value for key, value in inventory.items() if key != "symbols"}, ensure_ascii=False)
    Path(path).write_text(f'{head[:-1]}, "symbols": [\n  {entries}\n]}}\n', encoding="utf-8")
    return inventory


def inventory_sha256(inventory: Mapping[str, Any]) -> str:
    """The hash of the chart that the content of a ``phonemes.json`` holds, to be held against its ``chart_sha256``."""
    marks = inventory.get("marks", {})
    segments = {entry["symbol"]: entry["vector"] for entry in inventory["symbols"] if entry["symbol"] not in marks}
    return content_sha256(inventory["attributes"], segments, marks)


def folded_matrix(inventory: Mapping[str, Any]) -> NDArray[np.float32]:
    """Attribute vectors by id: float32 [ids, K]. Rows of special ids are zero; a learned residual carries those."""
    known = [entry for entry in inventory["symbols"] if entry["id"] is not None]
    matrix = np.zeros((len(inventory["special"]) + len(known), len(inventory["attributes"])), dtype=np.float32)
    for entry in known:
        matrix[entry["id"]] = entry["vector"]
    return matrix


def _rounded(vectors: Mapping[str, Sequence[float]]) -> list[list[float]]:
    return [[round(float(value), 6) for value in vector] for vector in vectors.values()]


def _vector(cells: Mapping[str, str]) -> list[float]:
    if None in cells or None in cells.values():
        raise ValueError("too few or too many columns")
    kind = cells["type"]
    if kind not in KINDS:
        raise ValueError(f"type is {kind!r}, wanted {', '.join(KINDS)}")
    place, manner = _shares(cells["place"], PLACES), _shares(cells["manner"], MANNERS)
    wanted = 1.0 if kind == "consonant" else 0.0
    if abs(sum(place) - wanted) > 1e-9 or abs(sum(manner) - wanted) > 1e-9:
        raise ValueError(f"shares of place and of manner of a {kind} add up to {wanted:g}")
    # A chart may lack a scale that later ones have.
    scales = [0.0 if cells.get(scale, "-") == "-" else float(Fraction(cells[scale])) for scale in SCALES]
    if not all(0.0 <= value <= 1.0 for value in scales):
        raise ValueError(f"{', '.join(SCALES)} are between 0 and 1")
    # Six decimals, as in phonemes.json: training and run time then see the same numbers.
    return [float(kind == "consonant"), float(kind == "vowel"), *place, *manner, *(round(value, 6) for value in scales)]


def _shares(cell: str, axis: tuple[str, ...]) -> list[float]:
    shares = [0.0] * len(axis)
    for part in [] if cell == "-" else cell.split("+"):
        name, _, share = part.partition(":")
        shares[axis.index(name)] = float(share or 1)
    return shares
