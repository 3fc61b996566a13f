"""Towers that one file cannot hold: weights beside the graph, shown at small sizes by lowering the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import sayclip
from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import Manifest
from sayclip.errors import SayclipError
from sayclip_export import graphs
from sayclip_export.clip_export import export_clip
from sayclip_export.models.text import TextConfig, TextTower
from sayclip_export.parts import CAPTIONS, sample_pictures


@pytest.fixture(scope="module")
def bundle(clip_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CLIP, exported as if a file could hold 1 MB of weights: its text tower has 13 MB, its image less."""
    out = tmp_path_factory.mktemp("large") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "LARGEST", 1 << 20)
        export_clip(clip_master, out)
    return out


def test_weights_lie_beside_the_graph_that_cannot_hold_them(bundle: Path) -> None:
    manifest = Manifest.read(bundle)
    verify_files(manifest, again=True)
    image, text = (manifest.entry(name).graphs["fp32"] for name in ("image", "text"))
    assert image.data == ()
    assert [file.file for file in text.data] == ["text.fp32.data"]
    assert text.bytes < 1 << 20 < 12 << 20 < text.data[0].bytes
    named = {path.name for path in bundle.iterdir()}
    assert named == {file.file for file in manifest.files()} | {"bundle.json"}
    for tensor in onnx.load(str(bundle / text.file), load_external_data=False).graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        assert places.get("location", "text.fp32.data") == "text.fp32.data"


def test_the_runtime_loads_it(bundle: Path, clip_master: Path) -> None:
    from sayclip_export.readers.clip import read_clip

    checkpoint = read_clip(clip_master)
    with sayclip.load(bundle) as encoder:
        seen = encoder.text(list(CAPTIONS))
        assert encoder.image(sample_pictures()).shape == (4, 48)
        ids = [encoder_ids for encoder_ids in np.load(bundle / "text.reference.npz").items()]
    feed = {key.removeprefix("input."): torch.from_numpy(value) for key, value in ids if key.startswith("input.")}
    with torch.inference_mode():
        wanted = checkpoint.text(feed["token_ids"], feed["length"]).numpy()
    assert np.abs(seen - wanted).max() <= 5e-6


def test_other_weights_are_refused(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    data = bytearray((copy / "text.fp32.data").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "text.fp32.data").write_bytes(data)
    with pytest.raises(SayclipError, match=r"text\.fp32\.data has sha256"):
        verify_files(Manifest.read(copy), again=True)
    (copy / "text.fp32.data").unlink()
    with pytest.raises(SayclipError, match=r"text\.fp32\.data is missing"):
        Manifest.read(copy)


def test_exporting_again_leaves_nothing_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data file is written anew, not appended to."""
    tower = TextTower(TextConfig(600, width=32, layers=1, heads=4, hidden=64, embedding=16)).eval()
    example = [torch.ones(2, 6, dtype=torch.int32), torch.tensor([6, 3], dtype=torch.int32)]
    monkeypatch.setattr(graphs, "LARGEST", 1000)
    sizes = set()
    for _ in range(2):
        assert graphs.export_graph("text", tower, example, tmp_path / "text.fp32.onnx") == ["text.fp32.data"]
        sizes.add((tmp_path / "text.fp32.data").stat().st_size)
    assert len(sizes) == 1
    feed = {"token_ids": np.ones((1, 4), np.int32), "length": np.array([4], np.int32)}
    assert graphs.verify(tmp_path / "text.fp32.onnx", tower, [feed]).largest <= 5e-6


def test_the_limit_is_below_what_protobuf_takes() -> None:
    assert 1 << 30 < graphs.LARGEST < 1 << 31
