"""The phonemes an encoder was trained on: IPA to ids, and the nearest known symbol for one it does not know.

Read from a bundle's ``phonemes.json``: every segment of the IPA chart with its attribute vector; those with an id are
known to the encoder. How IPA is split, and what is dropped, is ``sayclip.phonemes.segments``' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BundleError, PhonemeError
from sayclip.phonemes.distance import distances, metric_coordinates
from sayclip.phonemes.lookalikes import lookalike
from sayclip.phonemes.segments import MARKS, WORD_BOUNDARY, Segmenter, is_composite

MAX_CHARACTERS = 10_000
SPECIAL = {"<pad>": 0, "<sot>": 1, "<eot>": 2, WORD_BOUNDARY: 3, "<unk>": 4}
_SOUNDS = ("consonant", "vowel")  # attributes of which a mark has none
_MIN_CONTEXT = 3
_NAMED = 5  # unknown symbols named in one message
_REMEDY = "export or train the pronunciation encoder anew"


class PhonemeInventory:
    """Segments and ids of one pronunciation encoder; the same object may be used by several threads.

    ``symbols``: known segments by id, from id 5 on, among them the marks of stress and length that the encoder was
    trained with; ``size``: number of ids; ``attributes``: names of the K attributes; ``chart_sha256``: of the chart it
    was made from.
    """

    def __init__(self, content: Mapping[str, Any], *, where: str = "the phoneme inventory") -> None:
        """``content``: that of a ``phonemes.json``; ``BundleError`` when it is malformed, naming ``where``."""
        try:
            entries = [(str(e["symbol"]), e["id"]) for e in content["symbols"]]
            vectors = np.array([e["vector"] for e in content["symbols"]], dtype=np.float32)
            self.attributes = tuple(str(name) for name in content["attributes"])
            self.chart_sha256 = str(content["chart_sha256"])
            special = dict(content["special"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"{where} is malformed ({type(error).__name__}: {error})", _REMEDY) from error
        ids = {symbol: number for symbol, number in entries if number is not None}
        first = len(SPECIAL)
        problem = ""
        if special != SPECIAL:
            problem = f"its special ids are {special}, wanted {SPECIAL}"
        elif not ids.keys() - set(MARKS) or len({symbol for symbol, _ in entries}) != len(entries):
            problem = "no symbol has an id, or one is listed twice"
        elif any(type(number) is not int for number in ids.values()) or sorted(ids.values()) != list(
            range(first, first + len(ids))
        ):
            problem = f"its ids are not {first} to {first + len(ids) - 1}, each once"
        elif vectors.shape != (len(entries), len(self.attributes)) or not np.isfinite(vectors).all():
            wanted = (len(entries), len(self.attributes))
            problem = f"its vectors have the shape {vectors.shape}, wanted {wanted} and finite"
        # What is made of simpler segments is read as these where the encoder does not know the whole.
        read = [s for s, number in entries if number is not None or not (is_composite(s) or s in MARKS)]
        self._segmenter = Segmenter(read)
        unreachable = next((symbol for symbol in read if self._segmenter.split(symbol) != [symbol]), None)
        if not problem and unreachable is None:
            sounds = [column for column, name in enumerate(self.attributes) if name in _SOUNDS]
            rows = [row for row, (symbol, _) in enumerate(entries) if symbol in MARKS]
            unreachable = next((entries[row][0] for row in rows if not sounds or vectors[row, sounds].any()), None)
        if not problem and unreachable is not None:
            problem = f"{unreachable!r} is listed as a segment and is none"
        if problem:
            raise BundleError(f"{where} is malformed: {problem}", _REMEDY)

        self.symbols = tuple(sorted(ids, key=ids.__getitem__))
        self.size = first + len(ids)
        self._ids = {**ids, WORD_BOUNDARY: SPECIAL[WORD_BOUNDARY]}
        points = metric_coordinates(vectors, self.attributes)
        self._points: dict[str, NDArray[np.float64]] = {
            symbol: point for (symbol, _), point in zip(entries, points, strict=True) if symbol not in MARKS
        }
        # In the order of the chart, so that the first of equally near ones is the same as in training.
        self._known = [symbol for symbol, number in entries if number is not None and symbol not in MARKS]
        self._known_points = np.stack([self._points[symbol] for symbol in self._known])

    @classmethod
    def from_file(cls, path: Path) -> PhonemeInventory:
        """Reads a ``phonemes.json``; ``BundleError`` when it is missing, damaged or malformed."""
        try:
            content = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: the phoneme inventory cannot be read ({error.strerror})", _REMEDY) from error
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path}: the phoneme inventory is no JSON ({error})", _REMEDY) from error
        return cls(content, where=str(path))

    def segments(self, ipa: str) -> list[str]:
        """Segments of ``ipa`` in order, ``" "`` between words, known to the encoder or not.

        ``PhonemeError`` when there are none, or when ``ipa`` has more than 10,000 characters.
        """
        if not isinstance(ipa, str):
            raise PhonemeError(f"the IPA is a {type(ipa).__name__}, wanted a str", "pass a string such as 'ɹɛd æpəl'")
        if len(ipa) > MAX_CHARACTERS:
            raise PhonemeError(
                f"the IPA has {len(ipa):,} characters, at most {MAX_CHARACTERS:,} are taken", "give a few words"
            )
        tokens = self._segmenter.split(ipa)
        if all(token in MARKS or token == WORD_BOUNDARY for token in tokens):
            raise PhonemeError(f"the IPA {ipa[:20]!r} holds no sound", "give at least one segment, e.g. 'ɹɛd æpəl'")
        return tokens

    def encode(self, ipa: str, *, context: int = 77, nearest: bool = False) -> list[int]:
        """Ids ``[sot, …, eot]``, at most ``context`` of them; longer IPA is cut and keeps its end of text.

        ``PhonemeError`` when a symbol is not known, naming each with the nearest known one; also as ``segments``. With
        ``nearest`` that one is taken, and only what is near nothing is refused.
        """
        if context < _MIN_CONTEXT:
            raise ValueError(f"context is {context}, wanted at least {_MIN_CONTEXT}")
        tokens = self.segments(ipa)
        unknown = list(dict.fromkeys(token for token in tokens if token not in self._ids))
        stands_for: dict[str, str] = {}
        for token in unknown if nearest else []:
            with suppress(PhonemeError):
                stands_for[token] = self.nearest(token)[0]
        if len(stands_for) < len(unknown):
            raise self._refusal([token for token in unknown if token not in stands_for], ipa)
        ids = [self._ids[stands_for.get(token, token)] for token in tokens[: context - 2]]
        return [SPECIAL["<sot>"], *ids, SPECIAL["<eot>"]]

    def nearest(self, symbol: str) -> tuple[str, float]:
        """The known segment nearest to ``symbol`` and the distance (``sayclip.phonemes.distance``), 0 for itself.

        A symbol that is not on the chart stands for the one it looks like; ``PhonemeError`` when there is none.
        """
        stand_in = symbol
        if stand_in not in self._points:
            parts = self._segmenter.split(symbol)
            stand_in = parts[0] if len(parts) == 1 else symbol
        if stand_in not in self._points:
            stand_in = lookalike(stand_in, self._points) or ""
        if not stand_in:
            raise PhonemeError(
                f"{symbol!r} is no IPA symbol and looks like none", f"known are {' '.join(self.symbols)}"
            )
        gaps = distances(self._points[stand_in], self._known_points)
        best = int(np.argmin(gaps))
        return self._known[best], float(gaps[best])

    def _refusal(self, unknown: list[str], ipa: str) -> PhonemeError:
        named = unknown[:_NAMED]
        nearest: dict[str, str] = {}
        for symbol in named:
            with suppress(PhonemeError):
                nearest[symbol] = self.nearest(symbol)[0]
        far = [symbol for symbol in named if symbol not in nearest]
        hints = []
        if len(named) == 1 and nearest:
            hints.append(f"the nearest known one is {nearest[named[0]]!r}")
        elif nearest:
            pairs = ", ".join(f"{known!r} for {symbol!r}" for symbol, known in nearest.items())
            hints.append(f"the nearest known ones are {pairs}")
        if far:
            hints.append(f"nothing known is near {', '.join(map(repr, far))}, leave it out")
        names = ", ".join(f"{symbol!r} ({' '.join(f'U+{ord(part):04X}' for part in symbol)})" for symbol in named)
        more = f" and {len(unknown) - len(named)} more" if len(unknown) > len(named) else ""
        shown = ipa if len(ipa) <= 40 else ipa[:39] + "…"
        plural = "s" if len(unknown) > 1 else ""
        return PhonemeError(f"unknown IPA symbol{plural} {names}{more} in {shown!r}", "; ".join(hints))
