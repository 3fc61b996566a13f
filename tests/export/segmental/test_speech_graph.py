"""A speech tower comes back out of the demo's graph, and out of no graph that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from segmental_parts import DEMO, SPEECH, feeds_as_tensors

from sayclip.sessions.onnxruntime import import_onnxruntime
from sayclip_export.graphs import export_graph
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.readers import speech_graph
from sayclip_export.readers.speech_graph import recover
from sayclip_export.speechclip_export import sample_waves, wave_feed

GRAPH = DEMO / "bundle" / "speech.fp32.onnx"


@pytest.fixture(scope="module")
def tower() -> SpeechTower:
    found = recover(GRAPH)
    assert found is not None
    return found


def test_the_demos_tower_is_recovered(tower: SpeechTower) -> None:
    """Its sizes show in no manifest; the phonetic branch beside it is not taken for a part of it."""
    assert tower.config == SpeechConfig(embedding=128, phonemes=51)
    assert not tower.training


def test_its_frames_are_those_inside_the_graph(tower: SpeechTower) -> None:
    """The one product with a weight of one axis is the mixture of the states."""
    model = onnx.load(str(GRAPH))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    [mixing] = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and len(constants[node.input[1]].dims) == 1
    ]
    model.graph.output.append(helper.make_tensor_value_info(mixing.output[0], TensorProto.FLOAT, None))
    session = import_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = wave_feed(sample_waves())
    wanted = session.run([mixing.output[0]], feed)[0]
    with torch.inference_mode():
        frames = tower.mixed(*tower.front(*feeds_as_tensors(feed)))[0].numpy()
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() < 1e-4


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechTower, Path]:
    """A tower without branch, of random weights: its norms are all alike, so one constant stands for many."""
    torch.manual_seed(0)
    tower = SpeechTower(SPEECH).eval()
    path = tmp_path_factory.mktemp("bare") / "speech.fp32.onnx"
    export_graph("speech", tower.fold(), [torch.randn(2, 9000), torch.tensor([9000, 5000], dtype=torch.int32)], path)
    return tower, path


def test_a_tower_without_branch_is_recovered(bare: tuple[SpeechTower, Path]) -> None:
    tower, path = bare
    found = recover(path, {"heads": 4, "head_heads": 4})
    assert found is not None
    assert found.config == SPEECH
    feed = feeds_as_tensors(wave_feed(sample_waves()))
    with torch.inference_mode():
        assert torch.allclose(found.mixed(*found.front(*feed))[0], tower.mixed(*tower.front(*feed))[0], atol=1e-5)


@pytest.mark.parametrize("wrong", [{}, {"heads": True}, {"heads": "4"}, {"heads": 7, "head_heads": -1}])
def test_heads_are_found_without_help_and_against_bad_help(
    wrong: dict[str, object], bare: tuple[SpeechTower, Path]
) -> None:
    found = recover(bare[1], wrong)
    assert found is not None
    assert (found.config.heads, found.config.head_heads) == (4, 4)


def test_what_computes_something_else_is_none(
    bare: tuple[SpeechTower, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights under another activation: laid out alike, but not the function that the tower would be."""
    monkeypatch.setattr(speech_graph, "_USUAL", (4, 2))
    model = onnx.load(str(bare[1]))
    for node in model.graph.node:
        if node.op_type == "Erf":
            node.op_type = "Tanh"
    onnx.save(model, str(tmp_path / "other.onnx"))
    assert recover(tmp_path / "other.onnx") is None


@pytest.mark.parametrize("name", ["text", "image", "pronunciation"])
def test_other_encoders_are_none(name: str) -> None:
    assert recover(DEMO / "bundle" / f"{name}.fp32.onnx") is None


def test_a_graph_that_lacks_a_layer_is_none(bare: tuple[SpeechTower, Path], tmp_path: Path) -> None:
    model = onnx.load(str(bare[1]))
    [cls] = [tensor for tensor in model.graph.initializer if tensor.name.endswith("head.cls")]
    cls.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(cls), "nameless"))
    for node in model.graph.node:
        node.input[:] = ["nameless" if name.endswith("head.cls") else name for name in node.input]
    onnx.save(model, str(tmp_path / "nameless.onnx"))
    assert recover(tmp_path / "nameless.onnx") is None
