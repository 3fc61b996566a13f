"""Exported graphs keep the bundle's contract and equal torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sayclip.errors import BundleError
from sayclip_export.bundling import describe_graph, write_reference
from sayclip_export.graphs import SHAPES, Agreement, Feeds, export_graph, random_shapes, require, verify
from sayclip_export.models.picture import PictureConfig, PictureTower
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.models.text import TextConfig, TextTower


def _image() -> tuple[nn.Module, list[Tensor]]:
    tower = PictureTower(PictureConfig(size=32, channels=(8, 8, 16, 16), embedding=16)).fold()
    return tower, [torch.randn(2, 3, 32, 32)]


def _text() -> tuple[nn.Module, list[Tensor]]:
    tower = TextTower(TextConfig(60, width=32, layers=2, heads=4, hidden=64, embedding=16))
    return tower.eval(), [torch.ones(2, 6, dtype=torch.int32), torch.tensor([6, 3], dtype=torch.int32)]


def _speech() -> tuple[nn.Module, list[Tensor]]:
    config = SpeechConfig(width=32, layers=1, heads=4, hidden=48, head_heads=4, head_hidden=48, embedding=16)
    return SpeechTower(config).eval(), [torch.randn(2, 9000), torch.tensor([9000, 5000], dtype=torch.int32)]


def _feeds(name: str) -> Callable[[np.random.Generator], Feeds]:
    def make(rng: np.random.Generator) -> Feeds:
        batch = int(rng.integers(1, 6))
        if name == "image":
            return {"pixels": rng.standard_normal((batch, 3, 32, 32)).astype(np.float32)}
        longest = int(rng.integers(2, 30)) if name == "text" else int(rng.integers(1600, 30000))
        least = 2 if name == "text" else 800
        length = rng.integers(least, longest + 1, batch).astype(np.int32)
        if name == "text":
            return {"token_ids": rng.integers(0, 60, (batch, longest)).astype(np.int32), "length": length}
        return {"waveform": (0.1 * rng.standard_normal((batch, longest))).astype(np.float32), "length": length}

    return make


@pytest.fixture(scope="module", params=["image", "text", "speech"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, nn.Module, Path]:
    name = str(request.param)
    torch.manual_seed(0)
    module, example = {"image": _image, "text": _text, "speech": _speech}[name]()
    path = tmp_path_factory.mktemp(name) / f"{name}.fp32.onnx"
    export_graph(name, module, example, path)
    return name, module, path


def test_equals_torch_on_ten_random_shapes(exported: tuple[str, nn.Module, Path]) -> None:
    name, module, path = exported
    agreement = verify(path, module, random_shapes(_feeds(name)))
    assert agreement.shapes == 10
    assert agreement.largest <= 1e-5


def test_keeps_the_contract(exported: tuple[str, nn.Module, Path]) -> None:
    name, _, path = exported
    entry = describe_graph(path.parent, path.name)
    assert [tensor.name for tensor in entry.inputs] == list(SHAPES[name].inputs)
    assert [tensor.name for tensor in entry.outputs] == ["embedding"]
    assert entry.outputs[0].shape == ("batch", 16)
    for tensor in entry.inputs:
        assert tensor.dtype == ("float32" if tensor.name in ("pixels", "waveform") else "int32")
        assert tensor.shape[0] == "batch"


def test_holds_plain_operators_and_nothing_of_this_machine(exported: tuple[str, nn.Module, Path]) -> None:
    _, _, path = exported
    model = onnx.load(str(path))
    operators = Counter(node.op_type for node in model.graph.node)
    assert model.opset_import[0].version == 18
    assert {node.domain for node in model.graph.node} == {""}
    for forbidden in ("IsNaN", "Attention", "If", "Loop", "Scan", "DFT", "STFT"):
        assert operators[forbidden] == 0
    assert str(Path(__file__).resolve().parents[2]).encode() not in path.read_bytes()


def test_reference_is_what_the_graph_computes(exported: tuple[str, nn.Module, Path]) -> None:
    name, module, path = exported
    feed = _feeds(name)(np.random.default_rng(7))
    with np.load(path.parent / write_reference(path.parent, name, feed), allow_pickle=False) as data:
        wanted = module(*(torch.from_numpy(value) for value in feed.values())).detach().numpy()
        assert np.abs(data["output.embedding"] - wanted).max() < 1e-5
        for key, value in feed.items():
            assert np.array_equal(data[f"input.{key}"], value)


def test_a_graph_that_differs_is_refused() -> None:
    with pytest.raises(BundleError, match=r"differs from torch by 2\.00e-03, wanted at most 1e-04"):
        require(Agreement(2e-3, 0.9, 1), Path("text.fp32.onnx"))
