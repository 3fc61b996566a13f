"""Rewrites of the fp32 graph before it is quantised: the same function, by other means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from sayclip_calibration import place, smooth
from sayclip_calibration.graph import GraphView, load_model
from sayclip_calibration.groups import groups
from sayclip_calibration.patches import patches_to_products
from sayclip_calibration.qdq import insert_qdq
from sayclip_calibration.session import Runner
from sayclip_calibration.smoothed import apply
from sayclip_calibration.statistics import collect
from sayclip_calibration.tables import halve_tables

NODE = helper.make_node
Write = Callable[..., Path]
Feed = Mapping[str, NDArray[Any]]


def run(model: ModelProto, feeds: Sequence[Feed]) -> NDArray[np.float32]:
    runner = Runner(model)
    return np.concatenate([runner.run(feed, ["embedding"])[0] for feed in feeds])


@pytest.mark.parametrize("biased", [False, True])
def test_a_patch_embedding_becomes_a_product(write: Write, biased: bool) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((32, 3, 8, 4)).astype(np.float32), "axes": np.array([2])}
    names = ["x", "w"]
    if biased:
        constants["b"] = rng.standard_normal(32).astype(np.float32)
        names.append("b")
    constants["p"] = rng.standard_normal((6, 16)).astype(np.float32)
    nodes = [
        NODE("Conv", names, ["y"], "patches", strides=[8, 4]),
        NODE("ReduceMax", ["y", "axes"], ["z"], keepdims=0),
        NODE("MatMul", ["z", "p"], ["embedding"], "projection"),
    ]
    model = load_model(write(nodes, constants, {"x": ["batch", 3, 16, 24]}, rank=4))
    changed = patches_to_products(model)
    assert [node.op_type for node in changed.graph.node if node.name == "patches"] == ["MatMul"]
    assert "Conv" not in {node.op_type for node in changed.graph.node}
    feeds = [{"x": rng.standard_normal((batch, 3, 16, 24)).astype(np.float32)} for batch in (1, 3)]
    np.testing.assert_allclose(run(changed, feeds), run(model, feeds), rtol=1e-5, atol=1e-5)
    site = next(site for site in place(changed).sites if site.node == "patches")
    assert (site.op, site.reduction, site.channels) == ("MatMul", 96, 32)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"strides": [4, 4], "pads": [1, 0, 0, 1]},
        {"strides": [4, 4], "dilations": [2, 1]},
        {"strides": [4, 4], "auto_pad": "SAME_UPPER"},
        {},
    ],
)
def test_other_convolutions_stay(write: Write, attributes: dict[str, Any]) -> None:
    weight = np.ones((16, 3, 4, 4), np.float32)
    nodes = [NODE("Conv", ["x", "w"], ["embedding"], "conv", **attributes)]
    model = load_model(write(nodes, {"w": weight}, {"x": ["batch", 3, 16, 16]}, rank=4))
    assert patches_to_products(model).SerializeToString() == model.SerializeToString()


def test_windows_that_do_not_fill_the_picture_stay(write: Write) -> None:
    weight = np.ones((16, 3, 5, 5), np.float32)
    nodes = [NODE("Conv", ["x", "w"], ["embedding"], "conv", strides=[5, 5])]
    for shape in (["batch", 3, 16, 16], ["batch", 3, "height", "width"]):
        model = load_model(write(nodes, {"w": weight}, {"x": shape}, rank=4))
        assert [node.op_type for node in patches_to_products(model).graph.node] == ["Conv"]


def test_a_large_table_is_looked_up_in_half(write: Write) -> None:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((2048, 48)).astype(np.float32)
    nodes = [
        NODE("Gather", ["table", "ids"], ["rows"], "lookup"),
        NODE("ReduceSum", ["rows", "axis"], ["embedding"], keepdims=0),
    ]
    path = write(nodes, {"table": table, "axis": np.array([1])}, {"ids": ["batch", "tokens"]})
    model = load_model(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    halved = halve_tables(model)
    assert [tensor.data_type for tensor in halved.graph.initializer if tensor.name == "table.half"] == [
        TensorProto.FLOAT16
    ]
    assert "table" not in {tensor.name for tensor in halved.graph.initializer}
    feeds = [{"ids": rng.integers(0, 2048, (3, 5)).astype(np.int32)}]
    wanted, seen = run(model, feeds), run(halved, feeds)
    assert 0 < np.abs(seen - wanted).max() <= 5 * np.abs(table).max() * 2.0**-11
    small = write(nodes, {"table": table[:8], "axis": np.array([1])}, {"ids": ["batch", "tokens"]})
    assert halve_tables(load_model(small)).SerializeToString() == load_model(small).SerializeToString()
    huge = write(nodes, {"table": table * 1e6, "axis": np.array([1])}, {"ids": ["batch", "tokens"]})
    assert {node.op_type for node in halve_tables(load_model(huge)).graph.node} == {"Gather", "ReduceSum"}


def harden(model: ModelProto, seed: int = 0) -> ModelProto:
    """Norms whose gains differ, three channels of each by twenty times: what int8 finds hard in transformers."""
    rng = np.random.default_rng(seed)
    view = GraphView(model)
    for node in view.nodes.values():
        if node.op_type != "LayerNormalization":
            continue
        gain = view.constant(node.input[1])
        values = np.exp(rng.normal(0, 0.5, gain.shape)).astype(np.float32)
        values[rng.choice(len(values), 3, replace=False)] *= 20
        name = f"{node.name}.hard"
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        node.input[1] = name
    return model


def smoothed(model: ModelProto, feeds: Sequence[Feed]) -> tuple[ModelProto, list[smooth.Smoothing]]:
    view, placement = GraphView(model), place(model)
    rows = [site.activation for site in placement.sites if site.op != "Conv"]
    statistics = collect(model, feeds, placement.tensors, rows)
    chosen = smooth.choose(view, groups(view, placement), statistics)
    return apply(model, chosen), chosen


def test_smoothing_changes_nothing_but_the_channels(text: Any) -> None:
    model = harden(load_model(text.path))
    result, chosen = smoothed(model, text.feeds)
    assert {bool(one.group.norm) for one in chosen} == {True, False}, "norms and value projections"
    assert all(one.alpha in (0.0, *smooth.ALPHAS) for one in chosen)
    feeds = [*text.feeds, *text.others]
    np.testing.assert_allclose(run(result, feeds), run(model, feeds), atol=2e-6)
    kept = [node.name for node in result.graph.node if not node.name.endswith((".smoothed.sub", ".smoothed.mul"))]
    assert kept == [node.name for node in model.graph.node]
    chosen = [one for one in chosen if one.group.norm or one.group.value]
    tensors = [one.group.activation for one in chosen]
    before, after = (collect(graph, text.feeds, tensors, tensors) for graph in (model, result))
    for one in chosen:
        spread = [
            float(seen[one.group.activation].channels.max() / np.median(seen[one.group.activation].channels))  # type: ignore[union-attr, arg-type]
            for seen in (before, after)
        ]
        assert spread[1] < spread[0]


def test_a_norm_that_others_read_gets_a_twin(write: Write) -> None:
    rng = np.random.default_rng(3)
    gain = np.ones(32, np.float32)
    gain[5] = 40.0
    constants = {
        "gain": gain,
        "bias": rng.standard_normal(32).astype(np.float32),
        "w": rng.standard_normal((32, 32)).astype(np.float32),
        "p": rng.standard_normal((32, 32)).astype(np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        NODE("LayerNormalization", ["x", "gain", "bias"], ["n"], "norm"),
        NODE("MatMul", ["n", "w"], ["y"], "layer"),
        NODE("Add", ["n", "y"], ["z"], "residual"),
        NODE("MatMul", ["z", "p"], ["q"], "projection"),
        NODE("ReduceMean", ["q", "axis"], ["embedding"], keepdims=0),
    ]
    model = load_model(write(nodes, constants, {"x": ["batch", "time", 32]}))
    feeds = [{"x": rng.standard_normal((batch, 9, 32)).astype(np.float32)} for batch in (1, 4)]
    result, chosen = smoothed(model, feeds)
    assert [one.group.shared for one in chosen] == [True]
    assert [node.name for node in result.graph.node if node.op_type == "LayerNormalization"] == [
        "norm",
        "norm.smoothed",
    ]
    np.testing.assert_allclose(run(result, feeds), run(model, feeds), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bias", ["none", "sum", "gemm", "gemm without"])
def test_channels_that_no_norm_takes_in_are_moved_by_nodes(write: Write, bias: str) -> None:
    """One-sided activations of very different channels, as GELU gives them, and every way to have a bias or none."""
    rng = np.random.default_rng(5)
    gemm = bias.startswith("gemm")
    constants = {
        "spread": np.exp(rng.normal(0, 1.5, 32)).astype(np.float32),
        "w": rng.standard_normal((32, 24)).astype(np.float32),
        "b": rng.standard_normal(24).astype(np.float32),
        "p": rng.standard_normal((24, 16)).astype(np.float32),
    }
    layer = {
        "none": [NODE("MatMul", ["a", "w"], ["y"], "layer")],
        "sum": [NODE("MatMul", ["a", "w"], ["c"], "layer"), NODE("Add", ["b", "c"], ["y"], "bias")],
        "gemm": [NODE("Gemm", ["a", "w", "b"], ["y"], "layer")],
        "gemm without": [NODE("Gemm", ["a", "w"], ["y"], "layer")],
    }[bias]
    nodes = [
        NODE("Relu", ["x"], ["r"]),
        NODE("Mul", ["r", "spread"], ["a"], "activation"),
        *layer,
        NODE("Tanh", ["y"], ["z"]),
        NODE("MatMul", ["z", "p"], ["embedding"], "projection"),
    ]
    model = load_model(write(nodes, constants, {"x": ["batch", 32] if gemm else ["batch", 5, 32]}))
    shape = (40, 32) if gemm else (8, 5, 32)
    feeds = [{"x": (3 + rng.standard_normal(shape)).astype(np.float32)} for _ in range(4)]
    result, chosen = smoothed(model, feeds)
    assert [(one.label, one.moved, one.alpha > 0) for one in chosen] == [("a", True, True)]
    assert [node.op_type for node in result.graph.node if "smoothed" in node.name] == ["Sub", "Mul"]
    np.testing.assert_allclose(run(result, feeds), run(model, feeds), rtol=1e-4, atol=1e-4)
    lost = []
    for graph in (model, result):
        placement = place(graph)
        seen = collect(graph, feeds, placement.tensors, placement.tensors)
        int8 = insert_qdq(graph, placement, {tensor: found.range for tensor, found in seen.items()})
        lost.append(float(np.square(run(int8, feeds) - run(model, feeds)).mean()))
    assert lost[1] < lost[0] / 4


def test_a_channel_not_seen_in_every_input_keeps_some_room(text: Any) -> None:
    """Factors follow ranges, but not down to nothing: other inputs may use what these did not."""
    model = harden(load_model(text.path))
    view, placement = GraphView(model), place(model)
    seen = collect(model, text.feeds, placement.tensors, placement.tensors)
    group = groups(view, placement)[0]
    for array in (seen[group.activation].lows, seen[group.activation].highs):
        assert array is not None
        array[3] *= 1e-6
    [found, *_] = smooth.choose(view, [group], seen)
    assert found.factors[3] > found.factors.max() / 1e3 * 0.99
    assert found.factors[3] > np.median(found.factors) / 40
