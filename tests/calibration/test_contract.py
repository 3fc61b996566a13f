"""The rules that an int8 master keeps, one test a rule, on what calibration writes of tiny encoders.

From TensorRT's header (NvInfer.h 11.1, IQuantizeLayer), and what OpenVINO and ONNX Runtime are quick with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from sayclip_calibration.gates import Gate
from sayclip_calibration.graph import OPSETS, GraphView, opset_of
from sayclip_calibration.recipe import Options, calibrate_encoder


@dataclass(frozen=True)
class Written:
    """The master and its unsigned form, read back, and what the report says of them."""

    master: GraphView
    unsigned: GraphView
    layers: tuple[str, ...]
    skipped: dict[str, str]
    data: set[str]

    def pairs(self) -> Iterator[tuple[NodeProto, NodeProto]]:
        """Every QuantizeLinear with the DequantizeLinear behind it."""
        for node in self.master.nodes.values():
            if node.op_type == "QuantizeLinear":
                [after] = [other for other in self.master.nodes.values() if node.output[0] in other.input]
                yield node, after

    def weights(self) -> Iterator[NodeProto]:
        """Every DequantizeLinear of a stored weight."""
        for node in self.master.nodes.values():
            if node.op_type == "DequantizeLinear" and node.input[0] in self.master.initialisers:
                yield node

    def dequantised(self) -> set[str]:
        return {node.output[0] for node in self.master.nodes.values() if node.op_type == "DequantizeLinear"}


@pytest.fixture(params=["text", "image", "speech"], scope="session")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    encoder: Any = request.getfixturevalue(request.param)
    out = tmp_path_factory.mktemp("contract")
    feeds = [
        {key: value[row : row + 1] for key, value in feed.items()}
        for feed in encoder.feeds
        for row in range(len(next(iter(feed.values()))))
    ]
    report = calibrate_encoder(
        encoder.path, out, encoder.name, feeds, feeds, Gate(), Options(), lambda what, done, total: None
    )
    views, data = [], set()
    for form in ("int8", "int8-u8"):
        path = out / f"{encoder.name}.{form}.onnx"
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            data |= {entry.value for entry in tensor.external_data if entry.key == "location"}
        views.append(GraphView(onnx.load(str(path))))
    return Written(views[0], views[1], report.sites, dict(report.skipped), data)


def value(view: GraphView, name: str) -> NDArray[Any]:
    return np.asarray(numpy_helper.to_array(view.initialisers[name]))


def test_zero_points_are_zero_and_of_int8(written: Written) -> None:
    names = [node.input[2] for pair in written.pairs() for node in pair] + [node.input[2] for node in written.weights()]
    assert names
    for name in names:
        zero = value(written.master, name)
        assert zero.dtype == np.int8
        assert not zero.any()


def test_scales_are_positive_constants(written: Written) -> None:
    names = [node.input[1] for pair in written.pairs() for node in pair] + [node.input[1] for node in written.weights()]
    for name in names:
        scale = value(written.master, name)
        assert scale.dtype == np.float32
        assert (scale > 0).all()
        assert np.isfinite(1 / scale).all()


def test_activations_have_one_scale_each(written: Written) -> None:
    for quantise, dequantise in written.pairs():
        assert quantise.input[1] == dequantise.input[1]
        assert value(written.master, quantise.input[1]).shape == ()


def test_weights_have_a_scale_an_output_channel(written: Written) -> None:
    count = 0
    for node in written.weights():
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        assert value(written.master, node.input[1]).shape == (value(written.master, node.input[0]).shape[axis],)
        count += 1
    assert count == len(written.layers)


def test_every_layer_reads_a_pair_and_a_stored_weight(written: Written) -> None:
    weights = {node.output[0] for node in written.weights()}
    activations = {dequantise.output[0] for _, dequantise in written.pairs()}
    for name in written.layers:
        assert written.master.nodes[name].input[0] in activations
        assert written.master.nodes[name].input[1] in weights


def test_products_are_not_rounded_only_convolutions_are(written: Written) -> None:
    made = {written.master.nodes[name].output[0]: written.master.nodes[name].op_type for name in written.layers}
    for quantise, _ in written.pairs():
        assert made.get(quantise.input[0], "Conv") == "Conv"


def test_biases_are_not_quantised(written: Written) -> None:
    dequantised = written.dequantised()
    for node in written.master.nodes.values():
        if node.op_type in ("Conv", "Gemm"):
            assert not dequantised.intersection(node.input[2:])


@pytest.mark.parametrize("kind", ["LayerNormalization", "Softmax", "Erf", "ReduceL2", "ReduceMean", "Sigmoid"])
def test_norms_softmax_and_activations_read_no_rounded_tensor(written: Written, kind: str) -> None:
    # What follows a convolution may read its rounded output, which no layer made.
    outputs = {f"{written.master.nodes[name].output[0]}.dequantised" for name in written.layers}
    rounded = written.dequantised() - outputs
    assert not any(rounded.intersection(node.input) for node in written.master.nodes.values() if node.op_type == kind)


def test_attention_is_left_alone(written: Written) -> None:
    """Its own products have no constant weight, and beyond 512 positions TensorRT has no int8 attention."""
    for node in written.master.nodes.values():
        if node.op_type == "MatMul" and node.name not in written.layers:
            assert not written.dequantised().intersection(node.input)


def test_the_final_projection_stays_in_float(written: Written) -> None:
    assert "final projection" in written.skipped.values()


def test_thin_layers_and_the_signal_front_stay_in_float(written: Written) -> None:
    for name in written.layers:
        weight = next(node for node in written.weights() if node.output[0] == written.master.nodes[name].input[1])
        shape = value(written.master, weight.input[0]).shape
        assert min(shape[0], int(np.prod(shape[1:]))) >= 16 or written.master.nodes[name].op_type != "Conv"
    logs = [node for node in written.master.nodes.values() if node.op_type == "Log"]
    for node in logs:
        before = written.master.ancestors(node.input)
        assert not before.intersection(written.layers)
    assert ("signal front" in written.skipped.values()) == bool(logs)


def test_the_opset_is_one_that_every_backend_takes(written: Written) -> None:
    assert opset_of(written.master.model) in OPSETS
    assert {entry.domain for entry in written.master.model.opset_import} <= {"", "ai.onnx"}


def test_both_forms_read_one_file_of_weights(written: Written) -> None:
    assert len(written.data) == 1


def test_the_unsigned_form_has_the_same_numbers_around_128(written: Written) -> None:
    assert written.unsigned.nodes.keys() == written.master.nodes.keys()
    for name, node in written.unsigned.nodes.items():
        same = written.master.nodes[name]
        if node.op_type == "QuantizeLinear":
            zero = value(written.unsigned, node.input[2])
            assert (zero.dtype, int(zero)) == (np.uint8, 128)
            assert node.input[1] == same.input[1]
            assert value(written.unsigned, node.input[1]) == value(written.master, same.input[1])
    for node in written.weights():
        assert np.array_equal(value(written.unsigned, node.input[0]), value(written.master, node.input[0]))
        assert value(written.unsigned, node.input[0]).dtype == np.int8


def test_no_weight_is_rounded_when_an_engine_is_built(written: Written) -> None:
    """High-precision weights behind a QuantizeLinear would keep four bytes a weight in the file."""
    for quantise, _ in written.pairs():
        assert not written.master.is_constant(quantise.input[0])


def test_paths_of_the_machine_are_not_in_it(written: Written) -> None:
    for view in (written.master, written.unsigned):
        assert str(Path(__file__).parents[2]).encode() not in view.model.SerializeToString()
