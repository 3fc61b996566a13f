"""Results as pictures, each as SVG and PNG: speed-ups, latency against accuracy and length, cold start."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayclip.errors import InputError, MissingDependencyError

from . import plot_cold, plot_lengths, plot_pareto, plot_speedup

_PICTURES = {
    "speedup": plot_speedup.picture,
    "pareto": plot_pareto.picture,
    "lengths": plot_lengths.picture,
    "cold": plot_cold.picture,
}
_SETTINGS: Any = {"svg.hashsalt": "sayclip", "font.family": ["DejaVu Sans"], "axes.unicode_minus": True}
_DPI = 140


def draw(document: Mapping[str, Any], folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Draw ``document``, which ``document.check`` takes, into ``folder``: ``NAME-speedup.svg``, ``.png`` and so on.

    ``speedup``: bars of speed-up with their intervals; ``pareto``: p90 against what accuracy is lost; ``lengths``: p50
    against the length of the input; ``cold``: what a fresh process does until its first result. A picture whose data
    is not there is left out. The same document gives the same bytes. Returns the files written. Raises
    MissingDependencyError without matplotlib, InputError where the folder cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"plots need matplotlib ({error})", "pip install matplotlib") from None
    place = Path(folder)
    written: list[Path] = []
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # nobody's matplotlibrc
        matplotlib.rcParams.update(_SETTINGS)
        warnings.simplefilter("ignore")  # names may hold what the font lacks
        for kind, picture in _PICTURES.items():
            figure = Figure(layout="constrained")
            FigureCanvasAgg(figure)
            if not picture(figure, document):
                continue
            try:
                place.mkdir(parents=True, exist_ok=True)
                for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                    path = place / f"{name}-{kind}.{suffix}"
                    figure.savefig(path, format=suffix, dpi=_DPI, metadata=metadata)
                    written.append(path)
                _fewer_colours(written[-1])
            except OSError as error:
                raise InputError(
                    f"{place} cannot be written ({error.strerror})", "name a writable folder with room"
                ) from None
    return written


def _fewer_colours(path: Path) -> None:
    """Store a PNG with a palette, at a third of its size: what is drawn has few colours."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
