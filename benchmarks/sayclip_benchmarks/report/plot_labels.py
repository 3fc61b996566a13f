"""Names beside points, placed so that they hide neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .plot_style import INK

_DISTANCES = (6.0, 11.0, 18.0, 28.0, 40.0, 55.0, 72.0)
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_POINT = 4.0  # half the width of a point, in points of 1/72 inch
_NEAR = 10.0
_HIDING = 5.0
_SPARE = 1.5
_CROSSED = 25.0  # as bad as that much further away
Box = tuple[float, float, float, float]


def label(
    axis: Any,
    points: Sequence[tuple[float, float]],
    words: Sequence[str],
    size: float,
    line: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each of ``words`` beside its point (data coordinates), with a thin line to it where it is not next to it.

    Greedy, in the order of ``points``: each name takes the nearest place that is free of points, names and ``line``
    (corners of straight pieces, in data coordinates), or the one that covers least. The axis must have its final
    limits and the figure its final size.
    """
    figure = axis.figure
    figure.draw_without_rendering()
    renderer, scale = figure.canvas.get_renderer(), figure.dpi / 72.0
    frame = axis.get_window_extent(renderer)
    places = [tuple(axis.transData.transform(point)) for point in points]
    reach = _POINT * scale
    taken = [(x - reach, y - reach, x + reach, y + reach) for x, y in places]
    corners = [tuple(axis.transData.transform(corner)) for corner in line]
    for (x, y), (to_x, to_y) in pairwise(corners):
        taken.append((min(x, to_x) - scale, min(y, to_y) - scale, max(x, to_x) + scale, max(y, to_y) + scale))
    names: list[Box] = []
    for (x, y), point, text in zip(places, points, words, strict=True):
        probe = axis.text(0, 0, text, fontsize=size)
        box = probe.get_window_extent(renderer)
        probe.remove()
        best: tuple[float, float, int, int, Box] | None = None
        for distance in _DISTANCES:
            for across, up in _SIDES:
                left = x + across * distance * scale - box.width * (1 - across) / 2
                low = y + up * distance * scale - box.height * (1 - up) / 2
                place = (left, low, left + box.width, low + box.height)
                cost = (
                    _HIDING * sum(_overlap(place, other) for other in taken)
                    + 4.0 * _outside(place, frame)
                    + distance * scale
                )
                if distance >= _NEAR:
                    cost += _CROSSED * sum(_crosses((x, y), place, other) for other in names) * scale
                if best is None or cost < best[0]:
                    best = (cost, distance, across, up, place)
        assert best is not None
        _, distance, across, up, place = best
        spare = _SPARE * scale
        taken.append((place[0] - spare, place[1] - spare, place[2] + spare, place[3] + spare))
        names.append(place)
        leader = {"arrowstyle": "-", "color": "#666666", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 2}
        written = axis.annotate(
            text,
            xy=point,
            xytext=(across * distance, up * distance),
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[across],
            va={1: "bottom", 0: "center", -1: "top"}[up],
            fontsize=size,
            color=INK,
            arrowprops=leader if distance >= _NEAR else None,
            zorder=5,
        )
        written.set_in_layout(False)  # else the axis would move after names have their places


def _overlap(one: Sequence[float], two: Sequence[float]) -> float:
    across = min(one[2], two[2]) - max(one[0], two[0])
    up = min(one[3], two[3]) - max(one[1], two[1])
    return across * up if across > 0 and up > 0 else 0.0


def _crosses(point: tuple[float, float], place: Box, other: Box) -> bool:
    """Whether the line from a point to its name at ``place`` runs through another name."""
    x, y = point
    to_x, to_y = min(max(x, place[0]), place[2]), min(max(y, place[1]), place[3])
    along = [(x + (to_x - x) * step / 12, y + (to_y - y) * step / 12) for step in range(13)]
    return any(other[0] <= across <= other[2] and other[1] <= up <= other[3] for across, up in along)


def _outside(place: Sequence[float], frame: Any) -> float:
    inside = _overlap(place, (frame.x0, frame.y0, frame.x1, frame.y1))
    return (place[2] - place[0]) * (place[3] - place[1]) - inside
