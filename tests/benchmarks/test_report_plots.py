"""The pictures of a run: what is in them, what is left out of them, and that the same results give the same bytes."""

from __future__ import annotations

import builtins
import hashlib
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sayclip.errors import InputError, MissingDependencyError
from sayclip_benchmarks.report import plot_cold, plot_lengths, plot_pareto, plot_speedup
from sayclip_benchmarks.report.document import check
from sayclip_benchmarks.report.plot_pareto import front
from sayclip_benchmarks.report.plot_style import COLOURS, spread
from sayclip_benchmarks.report.plots import draw

pytest.importorskip("matplotlib")
Results = Callable[..., dict[str, Any]]


def figure() -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def drawn(module: Any, found: dict[str, Any]) -> Any:
    check(found)
    picture = figure()
    assert module.picture(picture, found)
    picture.draw_without_rendering()
    return picture


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def boxes(axis: Any) -> list[Any]:
    """Where each name stands, without the line that leads to it."""
    from matplotlib.text import Text

    renderer = axis.figure.canvas.get_renderer()
    return [Text.get_window_extent(text, renderer) for text in axis.texts]


def test_all_of_them_are_written_the_same_every_time(results: Results, tmp_path: Path) -> None:
    found = results()
    paths = draw(found, tmp_path / "one", "run")
    names = [f"run-{kind}.{suffix}" for kind in ("speedup", "pareto", "lengths", "cold") for suffix in ("svg", "png")]
    assert [path.name for path in paths] == names
    again = draw(found, tmp_path / "two", "run")
    assert [hashlib.sha256(path.read_bytes()).digest() for path in paths] == [
        hashlib.sha256(path.read_bytes()).digest() for path in again
    ]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width == 1260
        else:
            assert "<dc:date>" not in path.read_text(encoding="utf-8")


def test_nothing_of_matplotlib_is_left_changed(results: Results, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.rcParams["font.size"] = 3.0
    try:
        before = dict(matplotlib.rcParams)
        first = draw({**results(), "rows": []}, tmp_path, "small")[1].read_bytes()
        assert dict(matplotlib.rcParams) == before
    finally:
        matplotlib.rcdefaults()
    assert draw({**results(), "rows": []}, tmp_path, "small")[1].read_bytes() == first, (
        "settings of others count for nothing"
    )


def test_bars_are_sorted_coloured_and_as_long_as_the_speedup(results: Results) -> None:
    picture = drawn(plot_speedup, results())
    axis = next(axis for axis in picture.axes if axis.get_title(loc="left") == "speech, 3 s: the graph alone")
    rows = {
        row["candidate"]: row
        for row in results()["rows"]
        if (row["what"], row["encoder"], row["size"], row["status"]) == ("session", "speech", "3 s", "ok")
    }
    bars = sorted((bar for bar in axis.patches), key=lambda bar: bar.get_y())
    assert len(bars) == len(rows) == len(labels(axis))
    from matplotlib.colors import to_hex

    for label, bar in zip(labels(axis), bars, strict=True):
        row = rows[label.split(" (")[0]]
        assert bar.get_width() == pytest.approx(row["speedup"])
        assert to_hex(bar.get_facecolor()) == COLOURS[row["kind"]]
        assert bool(bar.get_hatch()) == row["noisy"]
    widths = [bar.get_width() for bar in bars]
    assert widths == sorted(widths, reverse=True)
    low, high = (line.get_xdata() for line in axis.lines[1:3])
    assert [low[0], high[0]] == pytest.approx(rows[labels(axis)[0].split(" (")[0]]["speedup_ci"])


def test_the_front_is_what_no_other_beats() -> None:
    assert front([(3, 1), (1, 3), (2, 2), (3, 3), (2, 2), (4, 1)]) == [(1, 3), (2, 2), (3, 1)]


@settings(max_examples=100, deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_a_front_is_complete_and_has_nothing_beaten(points: list[tuple[int, int]]) -> None:
    def beats(one: tuple[float, float], two: tuple[float, float]) -> bool:
        return one != two and one[0] <= two[0] and one[1] <= two[1]

    found = front(points)
    assert set(found) == {point for point in points if not any(beats(other, point) for other in points)}
    assert found == sorted(found)


@settings(max_examples=100, deadline=None)
@given(places=st.lists(st.floats(0, 1), min_size=1, max_size=12), least=st.floats(0.001, 0.09))
def test_names_are_spread_apart_within_the_axis_in_their_order(places: list[float], least: float) -> None:
    moved = spread(places, least, 0.0, 1.0)
    order = sorted(range(len(places)), key=lambda index: places[index])
    ordered = [moved[index] for index in order]
    assert all(two - one > least - 1e-9 for one, two in pairwise(ordered))
    assert min(moved) >= -1e-9
    assert max(moved) <= 1 + 1e-9
    if all(two - one >= least for one, two in pairwise(sorted(places))):
        assert moved == pytest.approx(places)


def test_points_of_accuracy_carry_their_names_apart(results: Results) -> None:
    picture = drawn(plot_pareto, results())
    assert [axis.get_title(loc="left") for axis in picture.axes] == [
        *("speech, 3 s: the graph alone", "text, 8 tokens: the graph alone", "image: the graph alone")
    ]
    for axis in picture.axes:
        assert {text.get_text() for text in axis.texts} >= {"torch bf16", "openvino int8", "auto"}
        seen = boxes(axis)
        for place, one in enumerate(seen):
            assert not any(one.overlaps(other) for other in seen[place + 1 :])
            assert axis.get_window_extent().x0 <= one.x0
            assert one.x1 <= axis.get_window_extent().x1 + 2


def test_recall_is_shown_where_it_is_known(results: Results) -> None:
    found = results()
    for row in found["rows"]:
        if row["status"] == "ok" and row["encoder"] == "image":
            row["recall_change"] = -0.02
    axes = drawn(plot_pareto, found).axes
    assert [axis.get_ylabel() for axis in axes] == ["1 - cosine to fp32", "1 - cosine to fp32", "recall@10 lost"]


def test_lines_go_through_every_length(results: Results) -> None:
    picture = drawn(plot_lengths, results())
    speech, text = picture.axes
    assert (speech.get_xlabel(), text.get_xlabel()) == ("seconds of speech", "tokens")
    names = {one.get_text() for one in speech.texts}
    assert len(speech.lines) == len(names) == 12
    assert all(list(line.get_xdata()) == [1.0, 3.0, 6.4, 10.0] for line in speech.lines)
    assert not any(
        one.overlaps(other) for place, one in enumerate(boxes(speech)) for other in boxes(speech)[place + 1 :]
    )
    assert max(box.x1 for box in boxes(speech)) <= picture.bbox.x1, "names are not cut off"


def test_parts_of_a_cold_start_follow_one_another(results: Results) -> None:
    [axis] = drawn(plot_cold, results()).axes
    assert labels(axis) == ["auto", "openvino", "torch fp32"]
    first = sorted(axis.patches[:3], key=lambda bar: bar.get_x())
    assert [bar.get_x() for bar in first] == pytest.approx([0.0, 0.09, 0.3])
    assert math.isclose(first[-1].get_x() + first[-1].get_width(), 0.36)
    assert "0.36 s" in {text.get_text() for text in axis.texts}


def test_a_picture_without_data_is_left_out(results: Results, tmp_path: Path) -> None:
    found = results()
    assert draw({**found, "rows": [], "cold": []}, tmp_path, "none") == []
    found["cold"] = []
    for row in found["rows"]:
        row.update(size="3 s", amount=3.0)
        row.update({"speedup": None} if row["status"] == "ok" else {})
    assert {path.stem for path in draw(found, tmp_path, "few")} == {"few-pareto"}


def test_odd_names_and_figures_are_drawn(results: Results, tmp_path: Path) -> None:
    found = results()
    found["environment"]["cpu"] = 7
    for number, row in enumerate(found["rows"]):
        row["candidate"] = f"$\\frac{{{number % 14}}}$ 語\n" + "x" * 80
        if row["status"] == "ok" and number % 3 == 0:
            row.update(p50_ms=1e-9, p90_ms=1e-9, speedup=1e15, speedup_ci=[1e-9, 1e15], cosine=-1.0, recall_change=1.0)
    check(found)
    assert len(draw(found, tmp_path, "odd")) == 8


def test_a_folder_that_cannot_be_written_is_said(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="name a writable folder"):
        draw(results(), tmp_path / "file" / "plots", "run")


def test_without_matplotlib_it_says_what_to_install(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        draw(results(), tmp_path, "run")
