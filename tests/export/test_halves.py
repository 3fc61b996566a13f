"""Storage in fp16 is exact or does not happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sayclip_export.halves import round_to_halves, store_halves


def _graph(path: Path, weight: np.ndarray) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_exact_weights_are_halved_and_compute_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64)).astype(np.float16).astype(np.float32)
    path = tmp_path / "one.onnx"
    _graph(path, weight)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    before, size = _run(path, x), path.stat().st_size
    assert store_halves(path) == 1
    assert np.array_equal(_run(path, x), before)
    assert path.stat().st_size < 0.55 * size
    assert store_halves(path) == 0  # a second time there is nothing left to do


@pytest.mark.parametrize("value", [1 / 3, 70000.0, 1e-9])
def test_one_value_that_is_no_half_keeps_the_whole_weight(tmp_path: Path, value: float) -> None:
    weight = np.ones((64, 64), np.float32)
    weight[3, 5] = value
    path = tmp_path / "one.onnx"
    _graph(path, weight)
    before = path.read_bytes()
    assert store_halves(path) == 0
    assert numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0])[3, 5] == np.float32(value)
    assert len(path.read_bytes()) == len(before)


def test_rounding_touches_parameters_only() -> None:
    module = nn.BatchNorm1d(4)
    with torch.no_grad():
        module.weight.fill_(1 / 3)
    module.running_mean.fill_(1 / 3)
    round_to_halves(module)
    assert torch.equal(module.weight, module.weight.half().float())
    assert module.running_mean[0].item() == pytest.approx(1 / 3, abs=1e-8)
