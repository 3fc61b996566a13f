"""A CLIP that optimum exported becomes a bundle that answers as transformers did, or is refused in a line.

``data/optimum.zip`` was written by ``optimum-cli export onnx --task feature-extraction`` (optimum 2.1.0, optimum-onnx
0.1.0, transformers 4.57.6, torch 2.13.0) of a CLIPModel of random weights; ``expected.npz`` in it is what that gave.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip_export.parts import CAPTIONS, sample_pictures
from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.errors import CheckpointError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "data" / "optimum.zip") as archive:
        archive.extractall(tmp_path / "exported")
    return tmp_path / "exported"


def changed(folder: Path, change: Callable[[ModelProto], object]) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    change(model)
    onnx.save(model, str(folder / "model.onnx"))


def test_its_towers_are_those_of_transformers(folder: Path) -> None:
    checkpoint = read_clip(folder)
    with np.load(folder / "expected.npz") as known, torch.no_grad():
        pixels, ids = torch.from_numpy(known["pixels"]), torch.from_numpy(known["ids"])
        image, text = checkpoint.image(pixels), checkpoint.text(ids, torch.full((3,), 7, dtype=torch.int32))
        assert np.abs(image.numpy() - known["image"]).max() < 2e-6
        assert np.abs(text.numpy() - known["text"]).max() < 2e-6
    assert checkpoint.layout == "ONNX graph of a Hugging Face CLIPModel, model.onnx"


def test_the_command_makes_a_bundle_of_it(folder: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    status, _, err = run("export", "clip", folder, "--out", out)
    assert status == 0, err
    assert "model.onnx" in Manifest.read(out).entry("image").provenance["files"]
    with sayclip.load(out) as encoder:
        assert encoder.image(sample_pictures()).shape == encoder.text(list(CAPTIONS)).shape == (4, 12)


def test_weights_in_a_file_beside_are_read(folder: Path) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    whole = read_clip(folder)
    (folder / "model.onnx").unlink()
    onnx.save(
        model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    beside = read_clip(folder)
    assert set(beside.files) == {*whole.files, "model.onnx_data"}
    for ours, theirs in zip(beside.image.parameters(), whole.image.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    (folder / "model.onnx_data").unlink()
    with pytest.raises(CheckpointError, match=r"model.onnx is damaged or no ONNX graph"):
        read_clip(folder)


def other_weight(model: ModelProto) -> None:
    """A graph that computes something else than its weights say: one of them is used twice as large."""
    node = next(node for node in model.graph.node if node.name == "/visual_projection/MatMul")
    model.graph.initializer.append(numpy_helper.from_array(np.eye(12, dtype=np.float32)[::-1].copy(), "onnx::flip"))
    last = helper.make_node("MatMul", ["straight", "onnx::flip"], [node.output[0]], name="turn")
    node.output[0] = "straight"
    model.graph.node.insert(list(model.graph.node).index(node) + 1, last)


def foreign(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.domain = "Attention", "com.microsoft"


def quantised(model: ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "QuantizeLinear"


def nameless(model: ModelProto) -> None:
    for node in model.graph.node:
        node.name = ""


CASES: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "computes something else": (other_weight, "image_embeds differs from what its own weights give"),
    "optimised": (foreign, "has the operator Attention, so it was optimised or quantised"),
    "quantised": (quantised, "has the operator QuantizeLinear"),
    "without names": (nameless, "lacks "),
    "NaN": (
        lambda m: next(i for i in m.graph.initializer if i.name.endswith("class_embedding")).CopyFrom(
            numpy_helper.from_array(np.full(24, np.nan, np.float32), "vision_model.embeddings.class_embedding")
        ),
        "holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_taken_over_is_refused_in_a_line(case: str, folder: Path, run: Run, tmp_path: Path) -> None:
    change, message = CASES[case]
    changed(folder, change)
    status, out, err = run("export", "clip", folder, "--out", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff\xff", "cut"])
def test_a_damaged_graph_is_refused_in_a_line(content: bytes | str, folder: Path, run: Run, tmp_path: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000] if isinstance(content, str) else content)
    status, out, err = run("export", "clip", folder, "--out", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert "model.onnx" in err
    assert err.count("\n") == 1
