"""The phonemes that an encoder learns: which of the chart's symbols get an id, and what becomes of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.errors import InputError, PhonemeError
from sayclip.phonemes.inventory import SPECIAL, PhonemeInventory
from sayclip.phonemes.segments import HALF_LONG, LONG, MARKS, SECONDARY_STRESS, STRESS, WORD_BOUNDARY, is_composite
from sayclip_export.phonemes.chart import load_chart, write_inventory

RARE = 1e-4  # of all segments; what is rarer could not be learnt, and counts as the nearest that is not
_SHOWN = 12  # symbols named in one line of the report


@dataclass(frozen=True)
class Symbols:
    """What the encoder knows, and how IPA is read.

    ``content``: that of phonemes.json; ``ids``: of every symbol that occurs, none for what is left out; ``report``: a
    line for each kind of symbol that counts as another; ``whole``: splits IPA by the whole chart.
    """

    content: dict[str, Any]
    ids: Mapping[str, Sequence[int]]
    report: list[str]
    whole: PhonemeInventory

    def encode(self, ipa: str, context: int) -> list[int]:
        """Ids ``[sot, …, eot]`` of IPA, at most ``context``; none where it holds nothing to say."""
        tokens = _tokens(self.whole, ipa)
        if not any(self.ids[token] and token not in (*MARKS, WORD_BOUNDARY) for token in tokens):
            return []
        found = [number for token in tokens for number in self.ids[token]]
        return [SPECIAL["<sot>"], *found[: context - 2], SPECIAL["<eot>"]]


def choose(
    trained: Iterable[str], others: Iterable[str], target: Path, *, stress: bool = False, length: bool = False
) -> Symbols:
    """Give an id to every symbol of the IPA that is ``trained``, unless rare; write ``target``, its phonemes.json.

    ``others``: IPA that will be read too. A symbol that has no id counts as the one nearest by attributes, a rare
    affricate as its two parts. ``stress`` and ``length``: whether their marks are symbols. Raises InputError where
    nothing can be said.
    """
    chart = load_chart()
    marks = [*((STRESS, SECONDARY_STRESS) if stress else ()), *((LONG, HALF_LONG) if length else ())]
    whole = PhonemeInventory(write_inventory(target, chart, chart.symbols, marks))
    often = _count(whole, trained)
    on_chart = set(chart.symbols)
    sounds = {symbol: count for symbol, count in often.items() if symbol in on_chart}
    known = {symbol for symbol, count in sounds.items() if count >= RARE * sum(sounds.values())}
    if not known:
        target.unlink(missing_ok=True)
        raise InputError("no caption holds anything to say", "give captions in a language that espeak-ng reads")
    content = write_inventory(target, chart, known, [mark for mark in marks if often[mark]])
    inventory = PhonemeInventory(content)
    number = {entry["symbol"]: entry["id"] for entry in content["symbols"]} | {WORD_BOUNDARY: SPECIAL[WORD_BOUNDARY]}

    ids: dict[str, list[int]] = {}
    outside, rare, apart, dropped = list[str](), list[str](), list[str](), list[str]()
    for symbol in often + _count(whole, others):
        if number.get(symbol) is not None:
            ids[symbol] = [number[symbol]]
        elif symbol in MARKS:
            ids[symbol] = []
        elif symbol in on_chart and is_composite(symbol):
            ids[symbol] = inventory.encode(symbol, nearest=True)[1:-1]
            apart.append(symbol)
        else:
            try:
                near = inventory.nearest(symbol)[0]
            except PhonemeError:
                dropped.append(symbol)
                ids[symbol] = []
            else:
                ids[symbol] = [number[near]]
                (rare if symbol in on_chart else outside).append(f"{symbol} as {near}")
    report = [
        _line("outside the chart, read as the nearest on it", outside),
        _line("rare, read as the nearest that is not", rare),
        _line("rare, read as simpler ones", apart),
        _line("outside the chart and like nothing on it, left out", dropped),
    ]
    return Symbols(content, ids, [line for line in report if line], whole)


def _count(whole: PhonemeInventory, ipa: Iterable[str]) -> Counter[str]:
    often: Counter[str] = Counter()
    for text, count in Counter(ipa).items():
        for token in _tokens(whole, text):
            often[token] += count
    return often


def _tokens(whole: PhonemeInventory, ipa: str) -> list[str]:
    try:
        return whole.segments(ipa)
    except PhonemeError:  # nothing to say
        return []


def _line(what: str, symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else ""
    return f"symbols {what}: {', '.join(symbols[:_SHOWN])}{more}" if symbols else ""
