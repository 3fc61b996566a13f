"""``sayclip bench compare``: what differs between two results beyond the noise."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sayclip.cli.output import one_line, print_json
from sayclip.errors import InputError

from .document import read
from .wording import cosine, figure, flat, place

THRESHOLD = 5.0
"""Per cent that a median must move by, beside intervals that do not touch."""
ACCURACY = {"cosine": 0.001, "recall_change": 0.01}
"""What an accuracy may lose."""
_SCHEMA = "sayclip-bench-compare/1"
_SHOWN = 12
Document = Mapping[str, Any]
Key = tuple[Any, ...]


def add(kinds: Any) -> None:
    """Add ``compare`` to the kinds of ``sayclip bench``."""
    parser: argparse.ArgumentParser = kinds.add_parser(
        "compare", help="what differs between two results beyond the noise; ends with 1 on a regression"
    )
    parser.add_argument("before", type=Path, metavar="A.json", help="results to hold against")
    parser.add_argument("after", type=Path, metavar="B.json", help="results to judge")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="PERCENT",
        help=f"medians that differ by less are the same (default: {THRESHOLD:g})",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what differs; 1 where something got worse, else 0. Raises InputError."""
    if not (math.isfinite(arguments.threshold) and arguments.threshold >= 0):
        raise InputError(f"--threshold is {arguments.threshold}", "give per cent, 0 or more")
    found = compare(read(arguments.before), read(arguments.after), arguments.threshold)
    if not found["compared"]:
        raise InputError(
            f"{arguments.before} and {arguments.after} have no measurement in common",
            "compare results of the same encoders, sizes and candidates",
        )
    if arguments.json:
        print_json(found)
    else:
        print("\n".join(described(found)))
    return 1 if found["regressions"] else 0


def compare(before: Document, after: Document, threshold: float = THRESHOLD) -> dict[str, Any]:
    """What differs between two documents that ``document.check`` takes, as plain data for JSON.

    ``regressions`` and ``improvements``: of each ``what``, ``encoder``, ``batch``, ``size``, ``candidate``, and
    ``figure`` (``p50_ms``, ``cosine``, ``recall_change`` or ``status``), ``before``, ``after``; of a time also
    ``percent``, by which the slower one's median is above the quicker one's, and both intervals. A time counts where
    the intervals are disjoint and it differs by more than ``threshold`` per cent; times of rows that are noisy in
    either are not judged (``noisy`` counts them), their accuracy is. An accuracy counts where it differs by more than
    ``ACCURACY``. What ran and now fails is a regression, the other way round an improvement. ``gone`` and ``new``:
    what only one of them measured. ``compared``: rows that both have, ``unchanged``: of which nothing is said.
    ``warnings``: sentences on what else differs.
    """
    old, new = by_key(before["rows"]), by_key(after["rows"])
    found: dict[str, list[dict[str, Any]]] = {"regressions": [], "improvements": [], "gone": [], "new": []}
    compared = noisy = unchanged = 0
    for key, one in old.items():
        two = new.get(key)
        if two is None or (one["status"] == "ok" and two["status"] == "missing"):
            if one["status"] == "ok":
                found["gone"].append({**_named(one), "why": two["why"] if two else ""})
            continue
        if one["status"] == "missing" and two["status"] == "ok":
            found["new"].append(_named(two))
            continue
        if "missing" in (one["status"], two["status"]) or one["status"] == two["status"] == "failed":
            continue
        compared += 1
        changes = list(_changes(one, two, threshold))
        for worse, change in changes:
            found["regressions" if worse else "improvements"].append({**_named(two), **change})
        both = one["status"] == two["status"] == "ok"
        not_judged = both and (one["noisy"] or two["noisy"])
        noisy += not_judged
        unchanged += not changes and not not_judged
    found["new"] += [_named(row) for key, row in new.items() if key not in old and row["status"] == "ok"]
    return {
        "schema": _SCHEMA,
        "threshold_percent": threshold,
        "compared": compared,
        **found,
        "noisy": noisy,
        "unchanged": unchanged,
        "warnings": _warnings(before, after),
    }


def described(found: Document) -> list[str]:
    """The comparison as lines of text."""
    lines = [f"warning: {one_line(sentence)}" for sentence in found["warnings"]]
    for name in ("regressions", "improvements", "gone", "new"):
        if found[name]:
            lines += [f"{name} ({len(found[name])})", *(f"  {one_line(_line(entry))}" for entry in found[name])]
    if not (found["regressions"] or found["improvements"]):
        lines.append(f"nothing differs beyond the noise and {found['threshold_percent']:g} %")
    noisy = f", {found['noisy']} too noisy to judge their times" if found["noisy"] else ""
    return [*lines, f"{found['compared']} compared, {found['unchanged']} unchanged{noisy}"]


def by_key(rows: Any) -> dict[Key, Document]:
    """Rows by what they measure; the second of the same is the second in both documents."""
    found: dict[Key, Document] = {}
    for row in rows:
        key: Key = tuple(row[name] for name in ("what", "encoder", "batch", "size", "candidate"))
        while key in found:
            key = (*key, "again")
        found[key] = row
    return found


def _named(row: Document) -> dict[str, Any]:
    return {name: row[name] for name in ("what", "encoder", "batch", "size", "candidate")}


def _changes(one: Document, two: Document, threshold: float) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Whether it got worse, and how, for each figure that differs."""
    if one["status"] != two["status"]:
        worse = one["status"] == "ok"
        why = (two if worse else one)["why"]
        yield worse, {"figure": "status", "before": one["status"], "after": two["status"], "why": why}
        return
    if one["status"] != "ok":
        return
    if not (one["noisy"] or two["noisy"]):
        was, now = one["p50_ms"], two["p50_ms"]
        (low, high), (next_low, next_high) = one["ci_ms"], two["ci_ms"]
        slower, quicker = next_low > high and now > was, next_high < low and now < was
        percent = 100.0 * (max(was, now) / min(was, now) - 1.0)
        if (slower or quicker) and percent > threshold:
            told = {"figure": "p50_ms", "before": was, "after": now, "percent": percent}
            yield slower, {**told, "ci_before": list(one["ci_ms"]), "ci_after": list(two["ci_ms"])}
    for name, limit in ACCURACY.items():
        was, now = one[name], two[name]
        if was is not None and now is not None and abs(now - was) > limit:
            yield now < was, {"figure": name, "before": was, "after": now}


def _line(entry: Document) -> str:
    words = f"{entry['what']} {place(entry)}".strip() + f": {entry['candidate']}"
    kind = entry.get("figure")
    if kind is None:
        return words + (f" ({entry['why']})" if entry.get("why") else "")
    was, now = entry["before"], entry["after"]
    if kind == "status":
        return f"{words}, {was} → {now}" + (f" ({entry['why']})" if entry["why"] else "")
    if kind == "p50_ms":
        (low, high), (next_low, next_high) = entry["ci_before"], entry["ci_after"]
        intervals = f"{figure(low)}–{figure(high)} → {figure(next_low)}–{figure(next_high)}"
        direction = "slower" if now > was else "faster"
        moved = f"{figure(was)} → {figure(now)} ms, {entry['percent']:.1f} % {direction}"
        return f"{words}, {moved} (95 %: {intervals})"
    if kind == "cosine":
        return f"{words}, cosine {cosine(was)} → {cosine(now)}"
    return f"{words}, change of recall@10 {was:+.3f} → {now:+.3f}"


def _warnings(before: Document, after: Document) -> list[str]:
    lines = []
    differing = _differing(flat(before["environment"]), flat(after["environment"]))
    if differing:
        lines.append(f"the machines or environments differ: {differing}")
    differing = _differing(flat(before["method"]), flat(after["method"]))
    if differing:
        lines.append(f"the methods differ: {differing}")
    old, new = _graphs(before), _graphs(after)
    graphs = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if graphs:
        lines.append(f"the graphs differ: {_some(graphs)}")
    for name, document in (("first", before), ("second", after)):
        if document["state"]["throttled"]:
            lines.append(f"the machine throttled during the {name} run")
    return lines


def _graphs(document: Document) -> dict[str, str]:
    encoders = document["bundle"]["encoders"]
    return {
        f"{encoder} {precision}": graph["sha256"]
        for encoder, found in encoders.items()
        for precision, graph in found["graphs"].items()
    }


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return _some([f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}" for name in names])


def _some(parts: list[str]) -> str:
    more = len(parts) - _SHOWN
    return ", ".join(parts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
