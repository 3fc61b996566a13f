"""The report as a picture: what each layer costs alone, and how the judged samples came out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayclip.errors import MissingDependencyError

_LEAST = 1e-7  # what is lost below this is rounding, and a logarithm needs a floor
_ROW_INCHES = 0.17
_LOW, _FLOAT = "#3b6fb6", "#d9822b"
_LONGEST_NAME = 44


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw the report of one encoder into the PNG ``path``: a row of two plots for each precision that has figures.

    Left, one bar a layer, the most damaging on top: 1 - worst cosine with that layer alone at the precision, on a
    logarithmic axis. Right, a histogram of 1 - cosine of every judged sample. Raises MissingDependencyError without
    matplotlib, OSError.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"the plot needs matplotlib ({error})", "pip install matplotlib") from None
    sections = [(precision, found) for precision, found in document["precisions"].items() if found["cosines"]]
    heights = [max(4.6, 1.2 + _ROW_INCHES * len(found["sensitivity"])) for _, found in sections] or [1.0]
    figure = Figure(figsize=(13, sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{document['encoder']} of {document['bundle']}", fontsize=12)
    axes = figure.subplots(max(len(sections), 1), 2, squeeze=False, width_ratios=(2.4, 1), height_ratios=heights)
    if not sections:
        for axis in axes[0]:
            axis.set_axis_off()
    for (left, right), (precision, found) in zip(axes, sections, strict=False):
        _layers(left, precision, found)
        _samples(right, precision, found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names may hold what the font lacks
        figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def _layers(axis: Any, precision: str, found: Mapping[str, Any]) -> None:
    layers = found["sensitivity"]
    back = {layer["node"] for layer in found["given_back"]}
    axis.set_title(f"What each layer costs alone at {precision}", fontsize=10)
    if not layers:
        axis.text(0.5, 0.5, "no layer was measured by itself", ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    lost = [max(1.0 - _or(layer["worst"], -1.0), _LEAST) for layer in layers]
    places = range(len(layers))
    floor = min(lost) / 2
    for low, colour, label in ((True, _LOW, f"at {precision}"), (False, _FLOAT, "given back to float")):
        chosen = [place for place in places if (layers[place]["node"] not in back) == low]
        if chosen:
            widths = [lost[place] - floor for place in chosen]
            axis.barh(chosen, widths, left=floor, height=0.75, color=colour, label=label)
    axis.set_xscale("log")
    axis.set_xlim(floor, max(max(lost) * 1.3, 10 * floor))
    axis.set_yticks(list(places), [_name(f"{layer['node']} {layer['op']}") for layer in layers], fontsize=7)
    axis.set_ylim(len(layers) - 0.4, -0.6)
    axis.set_xlabel("1 - cosine to fp32 of the worst sample", fontsize=9)
    axis.grid(axis="x", which="major", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(fontsize=8, loc="lower right")


def _samples(axis: Any, precision: str, found: Mapping[str, Any]) -> None:
    import numpy as np

    lost = np.maximum([1.0 - _or(cosine, -1.0) for cosine in found["cosines"]], _LEAST)
    low, high = 10 ** np.floor(np.log10(lost.min())), 10 ** np.ceil(np.log10(lost.max() * 1.01))  # whole decades
    axis.hist(lost, bins=np.geomspace(low, high, 41).tolist(), color=_LOW)
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.yaxis.get_major_locator().set_params(integer=True)
    kind = "centred cosine" if found["centred"] else "cosine"
    axis.set_title(f"{len(lost)} judged samples at {precision}", fontsize=10)
    axis.axvline(lost.mean(), color="black", linewidth=1, label=f"mean {_or(found['mean_cosine'], -1.0):.4f}")
    worst = _or(found["worst_cosine"], -1.0)
    label = f"worst {worst:.4f}, {_name(found['worst_sample'], 30)}"
    axis.axvline(max(1.0 - worst, _LEAST), color=_FLOAT, linewidth=1.5, linestyle="--", label=label)
    axis.set_xlabel(f"1 - {kind} to fp32", fontsize=9)
    axis.set_ylabel("samples", fontsize=9)
    axis.set_box_aspect(0.8)
    axis.set_anchor("N")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.24))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _name(text: str, longest: int = _LONGEST_NAME) -> str:
    """A name as the plot shows it: its end tells one layer from another. A dollar sign would begin a formula."""
    text = "".join(character if character.isprintable() else " " for character in text).replace("$", r"\$")
    return text if len(text) <= longest else "…" + text[1 - longest :]
