"""fp16 graphs: what stays in fp32, and how few casts that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from sayclip.errors import BundleError
from sayclip_calibration.cosine import cosines
from sayclip_calibration.graph import GraphView, load_model
from sayclip_calibration.half import to_half, write_half
from sayclip_calibration.session import Runner

NODE = helper.make_node
Write = Callable[..., Path]


def kinds(model: ModelProto) -> dict[str, set[int]]:
    """Element types that each operation reads, by the types its inputs are given by constants, casts and results."""
    view = GraphView(model)
    found: dict[str, set[int]] = {}
    for node in view.nodes.values():
        types = {view._inferred()[name][0] for name in node.input if name in view._inferred()}
        found.setdefault(node.op_type, set()).update(types & {TensorProto.FLOAT, TensorProto.FLOAT16})
    return found


def test_norms_sums_and_softmax_stay_single_and_products_do_not(encoder: Any, tmp_path: Path) -> None:
    model = load_model(encoder.path)
    half, conversion = to_half(model, encoder.feeds)
    seen = kinds(half)
    for operation in ("LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "Log"):
        assert seen.get(operation, {TensorProto.FLOAT}) == {TensorProto.FLOAT}, operation
    assert seen["MatMul" if encoder.name != "image" else "Gemm"] >= {TensorProto.FLOAT16}
    assert len(conversion.halves) >= 4
    assert [value.type.tensor_type.elem_type for value in half.graph.output] == [TensorProto.FLOAT]
    write_half(half, tmp_path, encoder.name)
    size = sum((tmp_path / f"{encoder.name}.fp16.{end}").stat().st_size for end in ("onnx", "data"))
    assert size < 0.65 * encoder.path.stat().st_size
    plain, runner = Runner(encoder.path), Runner(tmp_path / f"{encoder.name}.fp16.onnx")
    for feed in (*encoder.feeds, *encoder.others):
        report = cosines([plain.run(feed, ["embedding"])[0]], [runner.run(feed, ["embedding"])[0]])
        assert report.worst > 0.99999


def test_nothing_is_cast_back_and_forth(encoder: Any) -> None:
    half, _ = to_half(load_model(encoder.path), encoder.feeds)
    view = GraphView(half)
    casts = [node for node in half.graph.node if node.op_type == "Cast" and node.name.endswith(("_half", "_single"))]
    assert casts
    for node in casts:
        source = view.producers.get(node.input[0])
        assert source is None or not source.name.endswith(("_half", "_single")), "a cast of a cast"
    assert max(Counter(node.input[0] for node in casts).values()) == 1, "a tensor is cast once"
    # A norm or softmax costs one cast in and one out, the embedding's own norm and the mean over time a few more.
    islands = sum(node.op_type in ("LayerNormalization", "Softmax") for node in half.graph.node)
    assert len(casts) <= 2 * islands + 8


def test_a_signal_front_stays_single(speech: Any) -> None:
    _, conversion = to_half(load_model(speech.path), speech.feeds)
    assert "signal front" in conversion.kept.values()


def chain(write: Write, gain: float, decide: bool = False) -> Path:
    rng = np.random.default_rng(0)
    weights = {name: (rng.standard_normal((32, 32)) * 0.2).astype(np.float32) for name in ("a", "b", "c")}
    nodes = [
        NODE("MatMul", ["x", "a"], ["y"], "first"),
        NODE("Mul", ["y", "gain"], ["z"], "loud"),
        NODE("Mul", ["z", "quieter"], ["q"], "quiet"),
        NODE("MatMul", ["q", "b"], ["r"], "second"),
    ]
    constants: dict[str, Any] = {**weights, "gain": np.float32(gain), "quieter": np.float32(1 / gain)}
    if decide:
        nodes += [NODE("CumSum", ["r", "axis"], ["embedding"], "sum")]
        constants["axis"] = np.array(1)
    else:
        nodes += [NODE("MatMul", ["r", "c"], ["embedding"], "third")]
    return write(nodes, constants, {"x": ["batch", 32]})


def test_what_would_overflow_stays_single(write: Write) -> None:
    feeds = [{"x": np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)}]
    half, _ = to_half(load_model(chain(write, 3e4)), feeds)
    runner = Runner(half)
    plain = Runner(chain(write, 3e4))
    seen, wanted = (each.run(feeds[0], ["embedding"])[0] for each in (runner, plain))
    assert np.isfinite(seen).all()
    np.testing.assert_allclose(seen, wanted, rtol=0.02, atol=0.01)
    view = GraphView(half)
    loud = view.nodes["loud"]
    assert view._inferred()[loud.output[0]][0] == TensorProto.FLOAT
    assert view._inferred()[view.nodes["first"].input[1]][0] == TensorProto.FLOAT16


def test_the_product_before_a_decision_stays_single(write: Write) -> None:
    feeds = [{"x": np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)}]
    _, conversion = to_half(load_model(chain(write, 2.0, decide=True)), feeds)
    assert conversion.kept == {"second": "decides"}
    assert conversion.halves == ("first",)
    _, without = to_half(load_model(chain(write, 2.0)), feeds)
    assert without.kept == {}


def test_a_weight_beyond_fp16_is_refused(write: Write) -> None:
    nodes = [NODE("MatMul", ["x", "w"], ["embedding"], "layer")]
    path = write(nodes, {"w": np.full((32, 32), 1e5, np.float32)}, {"x": ["batch", 32]})
    with pytest.raises(BundleError, match=r"w reaches 1e\+05, fp16 ends at 65504"):
        to_half(load_model(path), [{"x": np.full((1, 32), 1e-6, np.float32)}])
