"""What the pictures of pages have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sayclip_training import whole

BLUE, ORANGE, GREEN, GREY, INK = "#1f5fa8", "#e08214", "#3a7d44", "#8d8d8d", "#222222"
PURPLE, DARK = "#a83a6b", "#6b6b6b"
_DPI = 130


def write(path: Path, inches: tuple[float, float], fill: Callable[[Any], None]) -> Path:
    """Write the picture that ``fill`` draws on a matplotlib figure of ``inches`` to ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    fill(figure)
    # Without the version and the date the same figures give the same file.
    whole.write(path, lambda target: figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None}))
    return path


def bare(axis: Any) -> None:
    """No frame but the axes, and a light grid behind."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)
