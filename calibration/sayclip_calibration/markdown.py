"""The report for people: Markdown of what ``report`` describes, and the table that the command prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sayclip.cli.output import one_line, size

Document = Mapping[str, Any]


def markdown(document: Document, plot: str | None = None) -> str:
    """The report as a page; ``plot``: the file of its picture, where there is one."""
    fp32 = document["fp32"]
    lines = [
        f"# Calibration of `{document['encoder']}` in {_plain(document['bundle'])}",
        "",
        f"From `{fp32['file']}` ({size(fp32['bytes'])}, sha256 `{fp32['sha256'][:12]}…`), space `{document['space']}`.",
    ]
    if plot:
        lines += ["", f"![What each layer costs, and the cosine of every judged sample]({plot})"]
    for precision, found in document["precisions"].items():
        lines += ["", *_section(precision, found)]
    return "\n".join(lines) + "\n"


def verdict(found: Document) -> str:
    """In a few words what became of a precision."""
    if found["passed"]:
        return "passed"
    return "missed its gates, written with --force" if found["forced"] else "missed its gates, not written"


def ranked(found: Document, precision: str, count: int | None = None) -> list[str]:
    """The most damaging layers as lines of plain text, worst first; ``count`` None for all."""
    layers = found["sensitivity"][:count]
    if not layers:
        return []
    back = {layer["node"] for layer in found["given_back"]}
    width = max(len(layer["node"]) for layer in layers)
    lines = [f"{'layer':<{width}}  {'op':<6}  {'mean':>8}  {'worst':>8}  left at"]
    for layer in layers:
        left = "float" if layer["node"] in back or layer["node"] in found["in_float"] else precision
        figures = f"{_number(layer['mean'], 6)}  {_number(layer['worst'], 6)}"
        lines.append(f"{layer['node']:<{width}}  {layer['op']:<6}  {figures}  {left}")
    return [one_line(line) for line in lines]


def _section(precision: str, found: Document) -> list[str]:
    data, search = found["data"], found["data"]["search"]
    lines = [f"## {precision}: {verdict(found)}", ""]
    lines.append(
        f"{data['calibration']} inputs of {data['option']} for the ranges and {data['judged']} others to judge by "
        f"(seed {data['seed']}, sha256 `{data['sha256'][:12]}…`); {len(data['left_out'])} left out, {data['repeated']} "
        "the same as others."
    )
    if search:
        among = "among themselves" if search["against"] is None else f"against {search['against']} others"
        lines.append(f"Searched {among}; the truth is {search['truth']}.")
    lines += ["", *_table(("gate", "seen", "wanted at least", "met"), map(_gate, found["gates"]))]
    worst = f"Worst sample: {_plain(found['worst_sample'])}, cosine {_number(found['worst_cosine'])}"
    lines += ["", worst + (", after taking off the mean of all." if found["centred"] else ".")]
    lines.append(
        f"Embeddings as they are have the mean cosine {_number(found['raw_mean_cosine'])} and the worst "
        f"{_number(found['raw_worst_cosine'])}, the bundle's reference inputs {_number(found['reference_cosine'])}; "
        f"sessions are held to {_number(found['tolerance'])}."
    )
    lines += [f"- missed: {_plain(sentence)}" for sentence in found["missed"]]
    lines += ["", f"Size: {size(found['bytes'])}, {_share(found['smaller'])} of fp32. Time: {found['seconds']:.0f} s."]
    lines.append(
        f"Layers: {len(found['layers'])} at {precision}, {len(found['in_float'])} in float, of which "
        f"{len(found['given_back'])} given back to meet the gates."
    )
    if found["given_back"]:
        back = ((f"`{layer['node']}`", layer["to"]) for layer in found["given_back"])
        lines += ["", "### Given back", "", *_table(("layer", "to"), back)]
    if len(found["points"]) > 1:
        rows = (
            (str(point["given_back"]), _share(point["int8_share"]), _number(point["mean"]), _number(point["worst"]))
            for point in found["points"]
        )
        head = ("given back", "multiplications in int8", "mean cosine", "worst cosine")
        lines += ["", "### What accuracy costs", "", *_table(head, rows)]
    if found["crosscheck"]:
        lines += ["", "### The same inputs through another tool", "", *_crosscheck(precision, found)]
    if found["sensitivity"]:
        layers = (
            (f"`{layer['node']}`", layer["op"], _number(layer["mean"], 6), _number(layer["worst"], 6))
            for layer in found["sensitivity"]
        )
        lines += ["", f"### What each layer costs alone at {precision}", ""]
        lines += _table(("layer", "op", "mean cosine", "worst cosine"), layers)
    if found["smoothed"]:
        norms = ((f"`{norm}`", _number(alpha, 2)) for norm, alpha in found["smoothed"].items())
        lines += ["", "### Smoothed", "", *_table(("norm, projection or activation", "alpha"), norms)]
    if found["scales"]:
        scales = (
            (f"`{tensor}`", scale["method"], *(f"{scale[key]:.6g}" for key in ("absmax_seen", "absmax_used", "scale")))
            for tensor, scale in found["scales"].items()
        )
        lines += ["", "### Scales", "", *_table(("tensor", "method", "largest seen", "largest used", "scale"), scales)]
    if data["left_out"]:
        unused = ((each["name"], each["reason"]) for each in data["left_out"])
        lines += ["", "### Left out", "", *_table(("input", "reason"), unused)]
    made = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return [*lines, "", f"Made with {made} on {_plain(found['processor'])}."]


def _gate(check: Document) -> Sequence[str]:
    return check["gate"], _number(check["seen"]), _number(check["wanted"]), "yes" if check["met"] else "**no**"


def _crosscheck(precision: str, found: Document) -> list[str]:
    other = found["crosscheck"]
    keys = ("passed", "mean_cosine", "worst_cosine", "raw_worst_cosine", "recall@1", "recall@5", "recall@10", "bytes")

    def figures(side: Document) -> list[Any]:
        flat = {**side, **side["recall"], "bytes": size(side["bytes"]), "passed": "yes" if side["passed"] else "no"}
        return [flat.get(key) for key in keys]

    rows = [
        (key, *(cell if isinstance(cell, str) else _number(cell) for cell in cells))
        for key, *cells in zip(keys, figures(found), figures(other), strict=True)
    ]
    return _table(("", f"this {precision}", f"{other['tool']} {other['version']}"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]


def _plain(text: str) -> str:
    return one_line(str(text)).replace("|", "\\|")


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
