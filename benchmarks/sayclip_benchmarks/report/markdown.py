"""Results as tables that people read: what each encoder takes, a whole query, search, scenarios, cold start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sayclip.cli.output import one_line, size

from .states import described
from .wording import NOTHING, QUERIES, against_own, candidate, change, cosine, figure, flat, megabytes, place, times

Document = Mapping[str, Any]
Column = tuple[str, Callable[[Document], str]]


def markdown(document: Document, level: int = 2) -> str:
    """The results as Markdown that ends in the line that says where they were measured.

    ``document`` is one that ``document.check`` takes. Headings begin at ``level``, so that it can stand in a page.
    Columns of which nothing was measured are left out.
    """
    rows, heading = document["rows"], "#" * level
    lines = _first(document)
    queries = [row for row in rows if row["what"] == "query"]
    if queries:
        lines += ["", f"{heading} A whole query", *_groups(queries, document, _query)]
    searches = [row for row in rows if row["what"] == "search"]
    if searches:
        lines += ["", f"{heading} Search alone", *_groups(searches, document, lambda row: row["size"])]
    rest = [row for row in rows if row["what"] not in ("query", "search")]
    for encoder in dict.fromkeys(row["encoder"] for row in rest):
        of_encoder = [row for row in rest if row["encoder"] == encoder]
        lines += ["", f"{heading} Encoder: {plain(encoder or 'none')}", *_groups(of_encoder, document, _at)]
    if document["scenarios"]:
        lines += ["", f"{heading} Scenarios", "", *_scenarios(document["scenarios"])]
    for what in dict.fromkeys(start["what"] for start in document["cold"]):
        starts = [start for start in document["cold"] if start["what"] == what]
        lines += ["", f"{heading} Cold start: {plain(what)}", "", *_cold(starts)]
    if document.get("photographs"):
        lines += ["", f"{heading} Photographs", "", *_photographs(document["photographs"])]
    return "\n".join([*lines, "", *_last(document, heading)]) + "\n"


def plain(text: str) -> str:
    """A text that Markdown shows as it is, in a table too."""
    return one_line(str(text)).replace("|", "\\|").replace("<", "&lt;")


def _first(document: Document) -> list[str]:
    lines = []
    if document["state"]["throttled"]:
        lines += ["**The machine throttled during this run: its figures are too slow, and not alike.**", ""]
    encoders = []
    for name, found in document["bundle"]["encoders"].items():
        graphs = ", ".join(f"{precision} {size(graph['bytes'])}" for precision, graph in found["graphs"].items())
        encoders.append(f"{name} ({graphs})")
    lines.append(f"Bundle {plain(document['bundle']['name'])}: {plain(', '.join(encoders)) or 'no encoder'}.")
    baseline = document["method"]["baseline"]
    against = f" Speed-ups are against {plain(baseline)}, with their 95 % intervals." if baseline else ""
    lines.append(f"One process a candidate, {document['method']['turns']} turns, taken in turns.{against}")
    return lines


def _query(row: Document) -> str:
    kind = QUERIES.get(row["encoder"] or "", row["encoder"] or "")
    return ", ".join(part for part in (f"{kind} query", row["size"], _batch(row)) if part)


def _at(row: Document) -> str:
    return ", ".join(part for part in (row["size"], _batch(row) or ("" if row["size"] else "batch 1")) if part)


def _batch(row: Document) -> str:
    return f"batch {row['batch']}" if row["batch"] > 1 else ""


def _groups(rows: Sequence[Document], document: Document, title: Callable[[Document], str]) -> list[str]:
    """A table for each size and batch, the quickest candidate first, those without figures last."""
    lines: list[str] = []
    groups: dict[tuple[Any, ...], list[Document]] = {}
    for row in rows:
        groups.setdefault((row["encoder"], row["size"], row["batch"]), []).append(row)
    before = ""
    for group in groups.values():
        kinds = list(dict.fromkeys(row["what"] for row in group))
        ordered = sorted(group, key=lambda row: (kinds.index(row["what"]), _or_last(row, "p50_ms")))
        timed = dict.fromkeys((row["what"], row["timed"]) for row in group if row["timed"])
        said = "; ".join(f"{what}: {words}" if len(kinds) > 1 else words for what, words in timed)
        columns: list[Column] = [("timed", lambda row: row["what"])] if len(kinds) > 1 else []
        lines += ["", f"**{plain(title(group[0]))}**" + (f" ({plain(said)})" if said not in ("", before) else ""), ""]
        before = said or before
        lines += _table([*columns, *_columns(document["method"]["baseline"], group)], ordered)
    return lines


def _or_last(entry: Document, name: str) -> float:
    return float(entry[name]) if entry["status"] == "ok" else math.inf


def _columns(baseline: str | None, group: Sequence[Document]) -> list[Column]:
    def known(name: str) -> bool:
        return any(row["status"] == "ok" and row[name] is not None for row in group)

    columns: list[Column] = [("candidate", candidate)]
    columns += [(f"p{rank}, ms", _of(f"p{rank}_ms", figure)) for rank in (50, 90, 99)]
    if any(row["batch"] > 1 for row in group):
        columns.append(("a second", _of("per_second", figure)))
    if known("speedup"):
        columns.append((f"against {_reference(baseline, group)}", _speedup))
    for name, head, words in (
        ("cosine", "cosine", cosine),
        ("recall_change", "recall@10", change),
        ("rss_bytes", "memory, MB", megabytes),
        ("gpu_bytes", "GPU memory, MB", megabytes),
        ("model_bytes", "model, MB", megabytes),
        ("joules", "J a query", figure),
    ):
        if known(name):
            columns.append((head, _of(name, words)))
    return [*columns, ("", _note)]


def _reference(baseline: str | None, group: Sequence[Document]) -> str:
    """What speed-ups of a group are over: the baseline, or what else has a speed-up of 1, as in searches."""
    there = [row["candidate"] for row in group if row["status"] == "ok"]
    ones = [row["candidate"] for row in group if row["status"] == "ok" and row["speedup"] == 1]
    return next((name for name in (baseline, *ones) if name in there), baseline or "the baseline")


def _of(name: str, words: Callable[[Any], str]) -> Callable[[Document], str]:
    return lambda row: words(row[name]) if row["status"] == "ok" else NOTHING


def _speedup(row: Document) -> str:
    if row["status"] != "ok" or row["speedup"] is None:
        return NOTHING
    ends = row["speedup_ci"]
    return times(row["speedup"]) + (f" ({ends[0]:.2f}–{ends[1]:.2f})" if ends else "")


def _note(row: Document) -> str:
    if row["status"] == "ok":
        return "noisy" if row["noisy"] else ""
    return f"{row['status']}: {row['why']}" if row["why"] else str(row["status"])


def _scenarios(scenarios: Sequence[Document]) -> list[str]:
    driven = any(scenario.get("driver") == "loadgen" for scenario in scenarios)
    columns: list[Column] = [
        ("scenario", lambda scenario: scenario["scenario"]),
        ("of", place),
        ("candidate", lambda scenario: scenario["candidate"]),
        *([("driver", _driver)] if driven else []),
        ("queries", lambda scenario: f"{scenario['queries']:,}"),
        ("s", lambda scenario: figure(scenario["seconds"], 1)),
        *((f"p{rank}, ms", lambda scenario, rank=rank: figure(scenario[f"p{rank}_ms"])) for rank in (50, 90, 99)),
        ("a second", lambda scenario: figure(scenario["per_second"])),
        *([("LoadGen against our own loop", against_own)] if driven else []),
        ("", lambda scenario: "" if scenario["valid"] else f"not valid: {scenario['why']}"),
    ]
    return _table(columns, scenarios)


def _driver(scenario: Document) -> str:
    return "LoadGen" if scenario.get("driver") == "loadgen" else "own loop"


def _cold(starts: Sequence[Document]) -> list[str]:
    columns: list[Column] = [
        ("candidate", lambda start: start["candidate"]),
        *((f"{part}, s", _of(f"{part}_s", figure)) for part in ("import", "load", "first", "total")),
        ("a later one, s", _of("steady_s", figure)),
        ("memory, MB", _of("rss_bytes", megabytes)),
        ("runs", _of("runs", str)),
        ("", lambda start: _note({**start, "noisy": False})),
    ]
    return _table(columns, sorted(starts, key=lambda start: _or_last(start, "total_s")))


def _photographs(seen: Document) -> list[str]:
    """What decoding large JPEGs smaller changed."""
    if seen["status"] != "ok":
        return [f"{seen['status']}: {plain(seen['why'])}"]
    columns: list[Column] = [
        ("JPEGs", lambda seen: f"{seen['pictures']:,}"),
        ("decoded smaller", lambda seen: f"{seen['shrunk']:,}"),
        ("megapixels (median)", lambda seen: figure(seen["megapixels"], 1)),
        ("difference of pixels, 1/255", lambda seen: figure(seen["mean_difference"])),
        ("of the worst", lambda seen: figure(seen["worst_difference"])),
        ("cosine", lambda seen: cosine(seen["cosine"])),
        ("the least", lambda seen: cosine(seen["worst_cosine"])),
        ("unreadable", lambda seen: ", ".join(seen["unreadable"]) or NOTHING),
    ]
    said = f"At {seen['size']} pixels a side, before normalisation, against the full decode; {plain(seen['bundle'])}."
    return [said, "", *_table(columns, [seen])]


def _last(document: Document, heading: str) -> list[str]:
    state, energy = document["state"], document["energy"]
    lines = [f"{heading} The machine", ""]
    note = plain(energy["note"]).rstrip(".")
    lines.append(
        f"Energy: measured by {plain(energy['meter'])}{f' ({note})' if note else ''}."
        if energy["meter"]
        else f"Energy: not measurable here{f' ({note})' if note else ''}."
    )
    notes = [plain(sentence).rstrip(".") for sentence in state["notes"]]
    said = "".join(f" {sentence[:1].upper()}{sentence[1:]}." for sentence in notes)
    lines.append(f"State: {plain('; '.join(described(state)))}.{said}")
    environment = dict(document["environment"])
    installed = environment.pop("install_bytes", {})
    if installed:
        parts = ", ".join(f"`{name}` {size(count)}" for name, count in installed.items())
        lines.append(f"Installed: {plain(parts)}.")
    machine = ", ".join(f"{name} {value}" for name, value in flat(environment).items())
    command = one_line(document["command"]).replace("`", "'")
    began = plain(document["started"])
    lines += ["", f"Measured by `{command}` on {plain(machine)}; {began}, {document['seconds']:.0f} s."]
    return lines


def _table(columns: Sequence[Column], rows: Sequence[Document]) -> list[str]:
    head = " | ".join(plain(name) for name, _ in columns)
    lines = [f"| {head} |", f"|{'---|' * len(columns)}"]
    return lines + [f"| {' | '.join(plain(words(row)) for _, words in columns)} |" for row in rows]
