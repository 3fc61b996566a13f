"""What is written: Q/DQ structure, int8 weights, one data file under two structures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from sayclip.errors import BundleError, InputError
from sayclip_calibration import Int8Files, Range, collect_ranges, place, to_unsigned, write_int8
from sayclip_calibration.graph import load_model
from sayclip_calibration.qdq import quantise_weight

Write = Callable[..., Path]
NODE = helper.make_node


def quantise(tiny: Any, out: Path, *, conv_outputs: bool = False) -> Int8Files:
    tensors = place(load_model(tiny.path), conv_outputs=conv_outputs).tensors
    ranges = collect_ranges(tiny.path, tiny.feeds, tensors)
    return write_int8(tiny.path, out, tiny.name, ranges, conv_outputs=conv_outputs)


def structure(path: Path) -> ModelProto:
    return onnx.load(str(path), load_external_data=False)


def exact(path: Path, feed: Any) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["embedding"], feed)[0])


def fused(path: Path, work: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime really runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(work / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in structure(work / "optimised.onnx").graph.node)


def test_quantised_layers_read_pairs_and_int8_weights(encoder: Any, tmp_path: Path) -> None:
    before = load_model(encoder.path)
    placement = place(before)
    files = quantise(encoder, tmp_path)
    after = structure(files.master)
    onnx.checker.check_model(str(files.master), full_check=True)
    assert after.opset_import == before.opset_import
    assert [value.name for value in after.graph.input] == [value.name for value in before.graph.input]
    makers = {output: node for node in after.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in after.graph.initializer}
    counts = Counter(node.op_type for node in after.graph.node)
    assert counts["QuantizeLinear"] == len(placement.tensors)
    assert counts["DequantizeLinear"] == len(placement.tensors) + len(placement.sites)
    nodes = {node.name: node for node in after.graph.node}
    for site in placement.sites:
        node = nodes[site.node]
        activation, weight = makers[node.input[0]], makers[node.input[1]]
        assert (activation.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        pair = makers[activation.input[0]]
        assert pair.op_type == "QuantizeLinear"
        assert pair.input[0] == site.activation
        assert list(pair.input[1:]) == list(activation.input[1:])
        assert constants[pair.input[1]].dims == []  # one scale per activation tensor
        zero = constants[pair.input[2]]
        assert (zero.data_type, numpy_helper.to_array(zero)) == (TensorProto.INT8, 0)
        assert constants[weight.input[0]].data_type == TensorProto.INT8
        assert constants[weight.input[1]].dims == [site.channels]  # one scale per output channel
        assert helper.get_node_attr_value(weight, "axis") == site.axis
        if len(node.input) > 2:  # biases stay as they were
            assert constants[node.input[2]].data_type == TensorProto.FLOAT
    for name in placement.skipped:  # other layers read what they read before
        assert {"QuantizeLinear", "DequantizeLinear"}.isdisjoint(
            makers[tensor].op_type for tensor in nodes[name].input if tensor in makers
        )


def test_both_structures_share_one_data_file(encoder: Any, tmp_path: Path) -> None:
    files = quantise(encoder, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{encoder.name}.int8-u8.onnx",
        f"{encoder.name}.int8.data",
        f"{encoder.name}.int8.onnx",
    ]
    places = []
    for path in (files.master, files.unsigned):
        tensors = structure(path).graph.initializer
        places.append(
            {
                tensor.name: {entry.key: entry.value for entry in tensor.external_data}
                for tensor in tensors
                if tensor.data_location == TensorProto.EXTERNAL
            }
        )
        weights = [tensor for tensor in tensors if tensor.data_type == TensorProto.INT8 and tensor.dims]
        assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in weights)
        inline = [tensor for tensor in tensors if tensor.data_location != TensorProto.EXTERNAL]
        assert max(len(tensor.raw_data) for tensor in inline) < 1024
    assert places[0] == places[1]
    assert {entry["location"] for entry in places[0].values()} == {files.data.name}
    ends = sorted((int(entry["offset"]), int(entry["length"])) for entry in places[0].values())
    assert all(start + size <= following for (start, size), (following, _) in pairwise(ends))
    assert sum(ends[-1]) == files.data.stat().st_size


def test_no_float_copy_of_a_quantised_weight_is_stored(encoder: Any, tmp_path: Path) -> None:
    before = load_model(encoder.path)
    files = quantise(encoder, tmp_path)
    kept = {tensor.name for tensor in structure(files.master).graph.initializer}
    assert kept.isdisjoint(site.weight for site in place(before).sites)
    smaller = 3 * sum(site.reduction * site.channels for site in place(before).sites)
    assert files.data.stat().st_size < sum(len(t.raw_data) for t in before.graph.initializer) - 0.8 * smaller


@pytest.mark.parametrize("conv_outputs", [False, True])
def test_master_and_unsigned_form_agree_to_the_bit(encoder: Any, tmp_path: Path, conv_outputs: bool) -> None:
    files = quantise(encoder, tmp_path, conv_outputs=conv_outputs)
    for feed in encoder.feeds + encoder.others:
        master = exact(files.master, feed)
        assert np.isfinite(master).all()
        assert master.tobytes() == exact(files.unsigned, feed).tobytes()
        assert master.tobytes() != exact(encoder.path, feed).tobytes()  # something was quantised


def test_writing_twice_gives_the_same_bytes(encoder: Any, tmp_path: Path) -> None:
    first, second = quantise(encoder, tmp_path / "a"), quantise(encoder, tmp_path / "b")
    for one, other in ((first.master, second.master), (first.unsigned, second.unsigned), (first.data, second.data)):
        assert one.read_bytes() == other.read_bytes()


def test_no_trace_of_the_exporting_machine_remains(text: Any, tmp_path: Path) -> None:
    assert b"site-packages" in text.path.read_bytes()
    assert b"site-packages" not in quantise(text, tmp_path).master.read_bytes()


def test_unsigned_form_is_derived_without_the_data(text: Any, tmp_path: Path) -> None:
    files = quantise(text, tmp_path)
    files.data.unlink()
    derived = to_unsigned(structure(files.master))
    assert derived.SerializeToString(deterministic=True) == files.unsigned.read_bytes()
    with pytest.raises(BundleError, match="no int8 scalar zero-point"):
        to_unsigned(derived)
    shifted = structure(files.master)
    zero = next(t for t in shifted.graph.initializer if t.data_type == TensorProto.INT8 and not t.dims)
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    with pytest.raises(BundleError, match="zero-point 3, wanted 0"):
        to_unsigned(shifted)


def test_onnx_runtime_runs_matrix_products_as_integers(text: Any, speech: Any, image: Any, tmp_path: Path) -> None:
    counts = fused(quantise(text, tmp_path).unsigned, tmp_path)
    assert counts["MatMulIntegerToFloat"] == 12
    assert counts["DequantizeLinear"] == 0
    assert fused(quantise(speech, tmp_path).unsigned, tmp_path)["MatMulIntegerToFloat"] == 6
    assert fused(quantise(image, tmp_path).unsigned, tmp_path)["QGemm"] == 1


def test_onnx_runtime_runs_convolutions_as_integers_where_their_outputs_are_quantised(
    image: Any, speech: Any, tmp_path: Path
) -> None:
    for tiny, convolutions in ((image, 3), (speech, 2)):
        counts = fused(quantise(tiny, tmp_path, conv_outputs=True).unsigned, tmp_path)
        assert (counts["QLinearConv"], counts["Conv"]) == (convolutions, 1)  # the depthwise one, or the DFT
        plain = fused(quantise(tiny, tmp_path).unsigned, tmp_path)
        assert plain["QLinearConv"] == 0


def test_onnx_runtime_does_not_quantise_a_layer_left_in_float(write: Write, tmp_path: Path) -> None:
    """It would, by itself, where a float convolution stands between quantised tensors."""
    rng = np.random.default_rng(0)
    nodes = [NODE("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"], f"conv_{i}", pads=[1, 1, 1, 1]) for i in range(4)]
    nodes.append(NODE("ReduceMean", ["t4", "axes"], ["embedding"], keepdims=0))
    constants: dict[str, NDArray[Any]] = {
        f"w{i}": (rng.standard_normal((16, 16, 3, 3)) / 12).astype(np.float32) for i in range(4)
    }
    path = write(nodes, {**constants, "axes": np.array([2, 3])}, {"t0": ["batch", 16, 8, 8]})
    feeds = [{"t0": rng.standard_normal((2, 16, 8, 8)).astype(np.float32)}]
    ranges = collect_ranges(path, feeds, [f"t{i}" for i in range(5)])
    for exclude, integers, floats in (([], 4, 0), (["conv_1"], 2, 2)):
        files = write_int8(path, tmp_path, "tiny", ranges, exclude=exclude, conv_outputs=True)
        counts = fused(files.unsigned, tmp_path)
        assert (counts["QLinearConv"], counts["Conv"]) == (integers, floats), exclude


@pytest.mark.parametrize("bias_first", [False, True])
def test_matrix_layers_with_bias_are_integers_too(write: Write, tmp_path: Path, bias_first: bool) -> None:
    """ONNX Runtime folds MatMul + Add on matrices into a Gemm with float bias, for which it has no integer kernel."""
    rng = np.random.default_rng(0)
    terms = ["bias", "a"] if bias_first else ["a", "bias"]
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], "one"),
        NODE("Add", terms, ["b"]),
        NODE("Tanh", ["b"], ["c"]),
        NODE("Gemm", ["c", "w", "bias"], ["d"], "two", transB=1, alpha=0.5),
        NODE("Tanh", ["d"], ["e"]),
        NODE("Gemm", ["e", "w", "bias"], ["f"], "three"),
        NODE("Tanh", ["f"], ["g"]),
        NODE("MatMul", ["g", "w"], ["embedding"], "projection"),
    ]
    constants = {"w": rng.standard_normal((32, 32)).astype(np.float32), "bias": np.ones(32, np.float32)}
    path = write(nodes, constants, {"x": ["batch", 32]})
    feeds = [{"x": rng.standard_normal((5, 32)).astype(np.float32)}]
    files = write_int8(path, tmp_path, "tiny", collect_ranges(path, feeds, ["x", "c", "e"]))
    counts = fused(files.unsigned, tmp_path)
    assert counts["QGemm"] + counts["MatMulIntegerToFloat"] == 3
    assert counts["DequantizeLinear"] == 0
    before, after = exact(path, feeds[0]), exact(files.master, feeds[0])
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()


def test_a_weight_read_twice_is_stored_once(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], "one"),
        NODE("MatMul", ["a", "w"], ["b"], "two"),
        NODE("MatMul", ["b", "w"], ["embedding"], "projection"),
    ]
    w = (rng.standard_normal((64, 64)) / 8).astype(np.float32)
    path = write(nodes, {"w": w}, {"x": ["batch", "time", 64]}, rank=3)
    feeds = [{"x": rng.standard_normal((1, 3, 64)).astype(np.float32)}]
    files = write_int8(path, tmp_path, "tiny", collect_ranges(path, feeds, ["x", "a"]))
    after = structure(files.master)
    assert sum(list(tensor.dims) == [64, 64] and tensor.data_type == 3 for tensor in after.graph.initializer) == 1
    assert "w" in {tensor.name for tensor in after.graph.initializer}  # the projection still reads it


def test_what_cannot_be_written_is_refused(text: Any, write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no range for"):
        write_int8(text.path, tmp_path, "text", {})
    ranges = collect_ranges(text.path, text.feeds, place(load_model(text.path)).tensors)
    with pytest.raises(BundleError, match=r"text has no layer to quantise \(.*excluded by name"):
        write_int8(text.path, tmp_path, "text", ranges, exclude=[".*"])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match="cannot write"):
        write_int8(text.path, tmp_path / "file", "text", ranges)
    nodes = [NODE("MatMul", ["x", "w"], ["a"], "sick"), NODE("MatMul", ["a", "v"], ["embedding"], "projection")]
    w = np.ones((32, 32), np.float32)
    w[3, 4] = np.nan
    path = write(nodes, {"w": w, "v": np.ones((32, 32), np.float32)}, {"x": ["batch", 32]})
    with pytest.raises(BundleError, match="weight of sick holds NaN"):
        write_int8(path, tmp_path, "tiny", {"x": Range(-1, 1)})


def test_a_failed_write_leaves_the_old_files(text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = quantise(text, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="No space left on device"):
        quantise(text, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert files.data in before


weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=True),
)


@given(weights, st.integers(0, 3))
def test_weights_are_within_half_a_step(weight: NDArray[np.float32], axis: int) -> None:
    axis %= weight.ndim
    values, scale = quantise_weight(weight, axis)
    assert values.dtype == np.int8
    assert scale.shape == (weight.shape[axis],)
    assert (scale > 0).all()
    assert values.min() >= -127
    shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
    error = np.abs(values * scale.reshape(shape).astype(np.float64) - weight)
    assert (error <= 0.5001 * scale.reshape(shape)).all()
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others)
    assert (np.abs(values).max(axis=others)[largest > 1e-12] == 127).all()
