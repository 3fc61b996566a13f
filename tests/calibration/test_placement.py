"""Exactly which layers are quantised, and the reason for each that is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sayclip.errors import InputError
from sayclip_calibration import place
from sayclip_calibration.graph import load_model

Write = Callable[..., Path]
NODE = helper.make_node


def weight(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_layers_of_a_hand_written_graph(write: Write) -> None:
    nodes = [
        NODE("MatMul", ["x", "plain"], ["a"], "plain"),
        NODE("Transpose", ["turned.source"], ["turned"], perm=[1, 0]),
        NODE("Identity", ["turned"], ["turned.again"]),
        NODE("MatMul", ["a", "turned.again"], ["b"], "through_transpose"),
        NODE("Reshape", ["flat", "shape"], ["reshaped"]),
        NODE("MatMul", ["b", "reshaped"], ["c"], "through_reshape"),
        NODE("Gemm", ["c", "plain"], ["d"], "gemm"),
        NODE("Gemm", ["d", "plain", "bias"], ["e"], "gemm_turned", transB=1),
        NODE("MatMul", ["e", "narrow"], ["thin"], "few_channels"),
        NODE("MatMul", ["thin", "short"], ["f"], "few_products"),
        NODE("Transpose", ["f"], ["f.turned"], perm=[1, 0]),
        NODE("MatMul", ["e", "f.turned"], ["product"], "attention"),
        NODE("MatMul", ["f", "half"], ["g"], "left_out"),
        NODE("MatMul", ["g", "plain"], ["h"], "projection"),
        NODE("ReduceL2", ["h", "last"], ["norm"], keepdims=1),
        NODE("Div", ["h", "norm"], ["embedding"]),
    ]
    constants = {
        "plain": weight(32, 32),
        "turned.source": weight(48, 32),
        "flat": weight(48 * 32),
        "shape": np.array([48, -1]),
        "bias": weight(32),
        "narrow": weight(32, 8),
        "short": weight(8, 32),
        "half": weight(32, 32),
        "last": np.array([-1]),
    }
    model = load_model(write(nodes, constants, {"x": ["batch", 32]}))
    placement = place(model, ["left_.*", "no_such_node"])
    assert placement.nodes == ("plain", "through_transpose", "through_reshape", "gemm", "gemm_turned")
    assert [site.axis for site in placement.sites] == [1, 1, 1, 1, 0]
    assert [(site.reduction, site.channels) for site in placement.sites[:3]] == [(32, 32), (32, 48), (48, 32)]
    assert placement.tensors == ("x", "a", "b", "c", "d")
    assert placement.skipped == {
        "few_channels": "too thin: 32 products, 8 channels",
        "few_products": "too thin: 8 products, 32 channels",
        "attention": "no constant weight",
        "left_out": "excluded by name",
        "projection": "final projection",
    }
    assert placement.unmatched == ("no_such_node",)


def test_convolutions(write: Write) -> None:
    nodes = [
        NODE("Conv", ["x", "stem"], ["a"], "stem", pads=[1, 1, 1, 1]),
        NODE("Conv", ["a", "depthwise"], ["b"], "depthwise", pads=[1, 1, 1, 1], group=32),
        NODE("Conv", ["b", "grouped"], ["c"], "grouped", pads=[1, 1, 1, 1], group=4),
        NODE("ConvTranspose", ["c", "up"], ["d"], "up"),
        NODE("Conv", ["d", "few"], ["e"], "few"),
        NODE("GlobalAveragePool", ["e"], ["embedding"]),
    ]
    constants = {
        "stem": weight(32, 3, 3, 3),
        "depthwise": weight(32, 1, 3, 3),
        "grouped": weight(32, 8, 3, 3),
        "up": weight(32, 32, 2, 2),
        "few": weight(4, 32, 1, 1),
    }
    placement = place(load_model(write(nodes, constants, {"x": ["batch", 3, 16, 16]})))
    assert placement.nodes == ("stem", "grouped")
    assert [(site.axis, site.reduction, site.channels) for site in placement.sites] == [(0, 27, 32), (0, 72, 32)]
    assert set(placement.skipped) == {"depthwise", "few"}  # ConvTranspose is no candidate at all


def test_a_front_is_found_by_its_prefix_and_by_its_logarithm(write: Write) -> None:
    """The second logarithm follows a softmax: it must not turn the whole encoder into a front."""
    nodes = [
        NODE("Conv", ["x", "basis"], ["spectrum"], "dft"),
        NODE("Mul", ["spectrum", "spectrum"], ["power"]),
        NODE("MatMul", ["power", "mel"], ["energy"], "mel"),
        NODE("Log", ["energy"], ["features"]),
        NODE("MatMul", ["features", "model.front.scale"], ["scaled"], "scaling"),
        NODE("MatMul", ["scaled", "body"], ["a"], "body"),
        NODE("Softmax", ["a"], ["b"]),
        NODE("Log", ["b"], ["c"]),
        NODE("MatMul", ["c", "body"], ["embedding"], "projection"),
    ]
    constants = {
        "basis": weight(64, 1, 32),
        "mel": weight(20, 40),
        "model.front.scale": weight(40, 40),
        "body": weight(40, 40),
    }
    placement = place(load_model(write(nodes, constants, {"x": ["batch", 1, 51]})))
    assert placement.nodes == ("body",)
    assert {name for name, reason in placement.skipped.items() if reason == "signal front"} == {"dft", "mel", "scaling"}


def test_what_a_comparison_is_made_of_stays_in_float(write: Write) -> None:
    """The last layer before it, through whatever is no product, and what serves that alone; nothing others read."""
    nodes = [
        NODE("MatMul", ["x", "w"], ["frames"], "frames"),
        NODE("MatMul", ["frames", "w"], ["seen"], "first"),
        NODE("Relu", ["seen"], ["bright"]),
        NODE("MatMul", ["bright", "w"], ["looked_at"], "detector"),
        NODE("Mul", ["looked_at", "looked_at"], ["squares"]),
        NODE("ReduceSum", ["squares", "last"], ["distance"], keepdims=1),
        NODE("Greater", ["distance", "threshold"], ["is_peak"]),
        NODE("Cast", ["is_peak"], ["starts"], to=TensorProto.FLOAT),
        NODE("MatMul", ["frames", "w"], ["value"], "value"),
        NODE("Mul", ["value", "starts"], ["kept"]),
        NODE("MatMul", ["kept", "w"], ["embedding"], "projection"),
    ]
    constants = {"w": weight(32, 32), "last": np.array([-1]), "threshold": np.float32(0.5)}
    placement = place(load_model(write(nodes, constants, {"x": ["batch", 32]})))
    assert placement.nodes == ("frames", "value")
    assert placement.skipped == {"first": "decides", "detector": "decides", "projection": "final projection"}


def test_a_comparison_of_sizes_decides_nothing(write: Write) -> None:
    nodes = [
        NODE("MatMul", ["x", "w"], ["frames"], "frames"),
        NODE("Shape", ["frames"], ["size"], start=0, end=1),
        NODE("Less", ["size", "limit"], ["inside"]),
        NODE("Cast", ["inside"], ["mask"], to=TensorProto.FLOAT),
        NODE("Mul", ["frames", "mask"], ["kept"]),
        NODE("MatMul", ["kept", "w"], ["embedding"], "projection"),
    ]
    placement = place(load_model(write(nodes, {"w": weight(32, 32), "limit": np.array([9])}, {"x": ["batch", 32]})))
    assert placement.nodes == ("frames",)


def test_a_default_value_of_an_input_is_no_weight(write: Write) -> None:
    nodes = [NODE("MatMul", ["x", "w"], ["y"], "fed"), NODE("MatMul", ["y", "w"], ["embedding"], "last")]
    path = write(nodes, {"w": weight(32, 32)}, {"x": ["batch", 32], "w": [32, 32]})
    assert place(load_model(path)).skipped == dict.fromkeys(["fed", "last"], "no constant weight")


def test_a_malformed_pattern_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match=r"exclude entry '\[' is no regular expression"):
        place(load_model(text.path), ["["])


def reasons(tiny: Any) -> tuple[Counter[str], Counter[str]]:
    placement = place(load_model(tiny.path))
    return Counter(site.op for site in placement.sites), Counter(placement.skipped.values())


def test_an_exported_text_transformer(text: Any) -> None:
    taken, skipped = reasons(text)
    assert taken == {"MatMul": 12}  # q, k, v, out, up, down in each of two layers
    assert skipped == {"no constant weight": 4, "final projection": 1}
    placement = place(load_model(text.path))
    assert len(placement.tensors) == 8  # q, k and v read one tensor


def test_an_exported_cnn(image: Any) -> None:
    taken, skipped = reasons(image)
    assert taken == {"Conv": 3, "Gemm": 1}
    assert skipped == {"too thin: 9 products, 32 channels": 1, "final projection": 1}


def test_an_exported_speech_encoder(speech: Any) -> None:
    taken, skipped = reasons(speech)
    assert taken == {"Conv": 2, "MatMul": 6}
    assert skipped == {"signal front": 2, "no constant weight": 2, "final projection": 1}


def test_conv_outputs_leave_alone_what_a_float_layer_reads(image: Any) -> None:
    """ONNX Runtime would quantise a float layer's weights where it stands between two quantised tensors."""
    model = load_model(image.path)
    placement = place(model, conv_outputs=True)
    stem, pointwise, same = (site for site in placement.sites if site.op == "Conv")
    assert placement.outputs == (stem.output, pointwise.output, same.output)
    depthwise = next(name for name, reason in placement.skipped.items() if reason.startswith("too thin"))
    reader = next(node for node in model.graph.node if node.name == depthwise)
    assert reader.input[0] != stem.output  # a ReLU stands between
    assert place(model).outputs == ()
    assert placement.without([same.node], "test").outputs == (stem.output, pointwise.output)
    assert placement.without([same.node], "test").skipped[same.node] == "test"


def test_conv_outputs_see_through_nodes_that_only_move_values(write: Write) -> None:
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], "first", pads=[1, 1, 1, 1]),
        NODE("MaxPool", ["a"], ["b"], kernel_shape=[2, 2]),
        NODE("Conv", ["b", "w"], ["c"], "second", pads=[1, 1, 1, 1]),
        NODE("GlobalAveragePool", ["c"], ["embedding"]),
    ]
    model = load_model(write(nodes, {"w": weight(16, 16, 3, 3)}, {"x": ["batch", 16, 8, 8]}))
    assert place(model, conv_outputs=True).outputs == ("a", "c")
    assert place(model, ["second"], conv_outputs=True).outputs == ()
