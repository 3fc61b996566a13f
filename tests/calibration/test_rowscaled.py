"""Rows divided by their largest magnitude before they are rounded: the same function, and quiet rows keep levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

from sayclip_calibration import place, recipe, rowscaled, smooth, to_unsigned
from sayclip_calibration.gates import Gate, Limits
from sayclip_calibration.graph import GraphView, load_model
from sayclip_calibration.groups import groups
from sayclip_calibration.qdq import insert_qdq
from sayclip_calibration.recipe import Options, calibrate_encoder
from sayclip_calibration.rowscaled import BY_ROW
from sayclip_calibration.search import Found
from sayclip_calibration.session import Runner
from sayclip_calibration.statistics import collect

NODE = helper.make_node
Write = Callable[..., Path]
Feed = Mapping[str, NDArray[Any]]
LAYERS = {
    "product": [NODE("MatMul", ["n", "w"], ["y"], "layer")],
    "product and sum": [NODE("MatMul", ["n", "w"], ["c"], "layer"), NODE("Add", ["c", "b"], ["y"], "bias")],
    "gemm": [NODE("Gemm", ["n", "w", "b"], ["y"], "layer")],
    "gemm with beta": [NODE("Gemm", ["n", "w", "b"], ["y"], "layer", beta=0.5)],
}


def run(model: ModelProto, feeds: Sequence[Feed], *, optimise: bool = False) -> NDArray[np.float32]:
    runner = Runner(model, optimise=optimise)
    return np.concatenate([runner.run(feed, ["embedding"])[0] for feed in feeds])


def graph(write: Write, layers: Sequence[Any], axes: int) -> ModelProto:
    """An activation ``n`` that a layer and a residual sum read."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((32, 32)).astype(np.float32),
        "b": rng.standard_normal(32).astype(np.float32),
        "p": rng.standard_normal((32, 16)).astype(np.float32),
    }
    nodes = [
        NODE("Mul", ["x", "loud"], ["n"], "activation"),
        *layers,
        NODE("Tanh", ["y"], ["t"]),
        NODE("Add", ["t", "n"], ["z"], "residual"),
    ]
    if axes == 3:
        constants["axis"] = np.array([1])
        nodes.append(NODE("ReduceMean", ["z", "axis"], ["mean"], keepdims=0))
    nodes.append(NODE("MatMul", ["mean" if axes == 3 else "z", "p"], ["embedding"], "projection"))
    lead = ["batch", "rows"][: axes - 1]
    return load_model(write(nodes, constants, {"x": [*lead, 32], "loud": [*lead, 1]}))


def inputs(axes: int, loudest: float = 30.0, count: int = 4) -> list[Feed]:
    rng = np.random.default_rng(1)
    lead = (6, 9)[: axes - 1]
    found = []
    for _ in range(count):
        loud = np.ones((*lead, 1), np.float32)
        loud[..., 0, :] = loudest
        found.append({"x": rng.standard_normal((*lead, 32)).astype(np.float32), "loud": loud})
    return found


@pytest.mark.parametrize(
    ("kind", "axes"), [(kind, axes) for kind in LAYERS for axes in (2, 3) if axes == 2 or "gemm" not in kind]
)
def test_it_computes_the_same_and_can_be_undone(write: Write, kind: str, axes: int) -> None:
    model = graph(write, LAYERS[kind], axes)
    divided = rowscaled.apply(model, {"n": ["layer"]})
    feeds = [*inputs(axes), *inputs(axes, 1e-20), *inputs(axes, 0.0)]
    np.testing.assert_allclose(run(divided, feeds), run(model, feeds), rtol=1e-4, atol=1e-4)
    [site] = [site for site in place(divided).sites if site.node == "layer"]
    assert site.activation == f"n{BY_ROW}"
    again = rowscaled.undone(divided, ["layer"])
    assert not any(name.startswith(f"n{BY_ROW}") for node in again.graph.node for name in node.input)
    np.testing.assert_allclose(run(again, feeds), run(model, feeds), rtol=1e-5, atol=1e-5)


def test_other_readers_see_no_change(write: Write) -> None:
    divided = rowscaled.apply(graph(write, LAYERS["product"], 3), {"n": ["layer"]})
    [residual] = [node for node in divided.graph.node if node.name == "residual"]
    assert list(residual.input) == ["t", "n"]


def test_nothing_to_divide_changes_nothing(write: Write) -> None:
    model = graph(write, LAYERS["product"], 3)
    assert rowscaled.apply(model, {}).SerializeToString() == model.SerializeToString()


def test_what_is_divided_has_largest_magnitude_one(write: Write) -> None:
    divided = rowscaled.apply(graph(write, LAYERS["product"], 3), {"n": ["layer"]})
    seen = collect(divided, inputs(3), [f"n{BY_ROW}"], [f"n{BY_ROW}"])[f"n{BY_ROW}"]
    assert max(-seen.low, seen.high) == 1.0


def test_loud_rows_leave_quiet_ones_their_levels(write: Write) -> None:
    model, feeds = graph(write, LAYERS["product and sum"], 3), inputs(3)
    lost = {}
    for name, graph_ in (("tensor", model), ("row", rowscaled.apply(model, {"n": ["layer"]}))):
        placement = place(graph_)
        ranges = {tensor: seen.range for tensor, seen in collect(graph_, feeds, placement.tensors, []).items()}
        int8 = insert_qdq(graph_, placement, ranges)
        lost[name] = float(np.square(run(int8, feeds) - run(model, feeds)).mean())
        unsigned = run(to_unsigned(int8), feeds, optimise=True)
        np.testing.assert_allclose(unsigned, run(int8, feeds), atol=0.05 * float(np.abs(unsigned).max()))
    assert lost["row"] < lost["tensor"] / 10


@pytest.mark.parametrize(("loudest", "wanted"), [(30.0, True), (1.0, False)])
def test_rows_are_divided_where_that_pays(write: Write, loudest: float, wanted: bool) -> None:
    model = graph(write, LAYERS["product"], 3)
    view, placement = GraphView(model), place(model)
    seen = collect(model, inputs(3, loudest), placement.tensors, placement.tensors)
    chosen = smooth.choose(view, groups(view, placement), seen)
    assert [one.by_row for one in chosen if one.by_row] == [True] * wanted


def test_more_layers_that_read_must_gain_more(write: Write) -> None:
    """A product more a layer: what pays for one does not pay for three."""
    model = graph(write, LAYERS["product"], 3)
    view, placement = GraphView(model), place(model)
    [group] = [group for group in groups(view, placement) if group.activation == "n"]
    seen = collect(model, inputs(3, 2.0), placement.tensors, placement.tensors)
    [one] = smooth.choose(view, [group], seen)
    thrice = type(group)(group.activation, group.sites * 3, group.norm, group.value, group.shared)
    assert one.by_row
    assert not any(one.by_row for one in smooth.choose(view, [thrice], seen))


def test_calibration_divides_rows_and_says_so(write: Write, tmp_path: Path) -> None:
    graph(write, LAYERS["product and sum"], 3)
    feeds = [{key: value[:1] for key, value in feed.items()} for feed in inputs(3, count=12)]
    gate = Gate(Limits(mean=-1.0, worst=-1.0, centred_worst=-1.0, recall=1.0))
    files, reports = [], []
    for name in ("first", "again"):
        arguments = (tmp_path / "tiny.fp32.onnx", tmp_path / name, "tiny", feeds, feeds, gate, Options())
        reports.append(calibrate_encoder(*arguments, lambda what, done, total: None))
        files.append((tmp_path / name / "tiny.int8.onnx").read_bytes())
    assert files[0] == files[1]
    scales = {tensor: scale for tensor, scale in reports[0].scales.items() if tensor.endswith(BY_ROW)}
    assert list(scales.values()) == [("row", 1.0, 1.0)]
    kinds = [node.op_type for node in load_model(tmp_path / "first" / "tiny.int8.onnx").graph.node]
    assert kinds.index("ReduceMax") < kinds.index("Div") < kinds.index("QuantizeLinear")


def test_a_layer_given_back_is_written_as_it_was(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers the first loses: the graph divides no rows for it any more."""
    layers = [NODE("MatMul", ["n", "w"], ["c"], "layer"), NODE("MatMul", ["c", "w"], ["y"], "next")]
    graph(write, layers, 3)
    feeds = [{key: value[:1] for key, value in feed.items()} for feed in inputs(3, count=12)]
    divided: list[bool] = []

    def lose(probe: Any, gate: Gate, *_: Any) -> Found:
        divided.append(probe.placement.sites[0].activation.endswith(BY_ROW))
        return Found(("layer",), gate.judge(probe.reference, probe(["next"])), ())

    monkeypatch.setattr(recipe, "give_back", lose)
    arguments = (tmp_path / "tiny.fp32.onnx", tmp_path / "out", "tiny", feeds, feeds, Gate(), Options())
    report = calibrate_encoder(*arguments, lambda what, done, total: None)
    assert report.given_back == ("layer",)
    assert divided == [True]
    nodes = {node.name: node for node in load_model(tmp_path / "out" / "tiny.int8.onnx").graph.node}
    assert nodes["layer"].input[0] in ("n", "n.smoothed")
    made = [name for node in nodes.values() for name in node.output]
    assert not any(name.startswith(("n.by_row", "n.smoothed.by_row")) for name in made)
