"""Ranges: what is measured, that it repeats to the bit, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from sayclip.errors import BundleError, InputError
from sayclip_calibration import Range, collect_ranges, place
from sayclip_calibration.graph import load_model
from sayclip_calibration.minmax import scale_of

Write = Callable[..., Path]


@pytest.fixture
def relu(write: Write) -> Path:
    """embedding = exp(relu(2 x))"""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Relu", ["doubled"], ["positive"]),
        helper.make_node("Exp", ["positive"], ["embedding"]),
    ]
    return write(nodes, {"two": np.float32(2.0) * np.ones(1, np.float32)}, {"x": ["batch", 4]})


def feed(*values: float) -> dict[str, Any]:
    return {"x": np.array([values], np.float32)}


def test_ranges_are_the_extremes_over_all_feeds(relu: Path) -> None:
    ranges = collect_ranges(relu, iter([feed(-1, 0, 1, 2), feed(-3, 0, 0, 0.5)]), ["x", "doubled", "positive"])
    assert ranges == {"x": Range(-3.0, 2.0), "doubled": Range(-6.0, 4.0), "positive": Range(0.0, 4.0)}
    assert ranges["doubled"].scale == np.float32(6 / 127)
    assert ranges["doubled"].scale.dtype == np.float32


def test_an_output_and_a_repeated_tensor_can_be_measured(relu: Path) -> None:
    ranges = collect_ranges(relu, [feed(0, 0, 0, 1)], ["embedding", "positive", "positive"])
    assert list(ranges) == ["embedding", "positive"]
    assert ranges["embedding"].low == 1.0
    assert ranges["embedding"].high == pytest.approx(np.exp(2.0), rel=1e-6)


def test_the_same_feeds_give_the_same_scales_to_the_bit(encoder: Any) -> None:
    tensors = place(load_model(encoder.path)).tensors
    first = collect_ranges(encoder.path, encoder.feeds, tensors, threads=1)
    again = collect_ranges(encoder.path, encoder.feeds, tensors, threads=1)
    backwards = collect_ranges(encoder.path, encoder.feeds[::-1], tensors, threads=2)
    for tensor in tensors:
        scales = {ranges[tensor].scale.tobytes() for ranges in (first, again, backwards)}
        assert len(scales) == 1, tensor


def test_a_tensor_of_zeros_keeps_a_positive_scale(relu: Path) -> None:
    ranges = collect_ranges(relu, [feed(-1, -2, -3, -4)], ["positive"])
    assert ranges["positive"] == Range(0.0, 0.0)
    assert ranges["positive"].scale == np.float32(1 / 127)


@given(st.floats(min_value=0.0, max_value=float(np.finfo(np.float32).max), width=32))
def test_a_scale_is_positive_and_covers_its_range(absmax: float) -> None:
    scale = scale_of(absmax)
    assert scale > 0
    assert np.isfinite(np.float32(1) / scale)
    assert absmax / float(scale) < 127.5


def test_no_feeds_are_refused(relu: Path) -> None:
    with pytest.raises(InputError, match="no calibration feeds, wanted at least one"):
        collect_ranges(relu, [], ["positive"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_the_feed_named(relu: Path, bad: float) -> None:
    with pytest.raises(InputError, match="feed 1: x holds 1 NaN or infinite values"):
        collect_ranges(relu, [feed(0, 0, 0, 0), feed(0, bad, 0, 0)], ["positive"])


def test_an_activation_that_overflows_is_refused(relu: Path) -> None:
    with pytest.raises(InputError, match="feed 0 makes embedding NaN or infinite"):
        collect_ranges(relu, [feed(0, 0, 0, 60)], ["embedding"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((1, 4))}, "x is float64, wanted float32"),
        ({"x": np.zeros((0, 4), np.float32)}, r"x is empty, shape \[0, 4\]"),
        ({"y": np.zeros((1, 4), np.float32)}, r"inputs \['y'\], wanted \['x'\]"),
        ({}, r"inputs \[\], wanted \['x'\]"),
    ],
)
def test_feeds_that_do_not_fit_the_graph_are_refused(relu: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        collect_ranges(relu, [values], ["positive"])


def test_an_unknown_tensor_is_named(relu: Path) -> None:
    with pytest.raises(BundleError, match="makes no tensor 'nowhere'"):
        collect_ranges(relu, [feed(0, 0, 0, 0)], ["nowhere"])


def one_line(error: pytest.ExceptionInfo[BundleError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_graph_is_one_line(encoder: Any, tmp_path: Path, keep: float) -> None:
    whole = encoder.path.read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BundleError) as error:
        collect_ranges(broken, encoder.feeds, [])
    assert "broken.onnx" in one_line(error)


def test_a_missing_graph_and_text_that_is_no_graph_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a graph, " * 100)
    for name in ("absent.onnx", "text.onnx"):
        with pytest.raises(BundleError) as error:
            load_model(tmp_path / name)
        assert name in one_line(error)


def test_missing_and_shortened_external_data_are_one_line(encoder: Any, tmp_path: Path) -> None:
    path = tmp_path / "parted.onnx"
    onnx.save(onnx.load(encoder.path), str(path), save_as_external_data=True, location="parted.data")
    data = tmp_path / "parted.data"
    assert len(load_model(path).graph.initializer) > 3
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"parted\.onnx") as error:
        load_model(path)
    one_line(error)
    data.unlink()
    with pytest.raises(BundleError, match=r"parted\.data") as error:
        load_model(path)
    one_line(error)


def test_other_opsets_branches_and_doubled_names_are_refused(write: Write) -> None:
    plain = [helper.make_node("Relu", ["x"], ["embedding"])]
    with pytest.raises(BundleError, match="opset 17, wanted 18 to 20"):
        load_model(write(plain, {}, {"x": ["batch", 4]}, opset=17))
    branch = helper.make_graph(plain, "branch", [], [helper.make_tensor_value_info("embedding", 1, None)])
    flow = [helper.make_node("If", ["flag"], ["embedding"], name="fork", then_branch=branch, else_branch=branch)]
    with pytest.raises(BundleError, match=r"holds a If node \(fork\)"):
        load_model(write(flow, {"flag": np.array(True)}, {"x": ["batch", 4]}))
    twice = [helper.make_node("Relu", ["x"], ["embedding"]), helper.make_node("Neg", ["x"], ["embedding"])]
    with pytest.raises(BundleError, match="makes the tensor 'embedding' twice"):
        load_model(write(twice, {}, {"x": ["batch", 4]}))
