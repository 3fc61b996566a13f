"""CLIP4VLA to a bundle: equal to the model it came from, taken by NVIDIA's parser, and nothing left when it fails."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import clip4vla_reference as reference
import numpy as np
import onnx
import pytest
import torch

import sayclip
from sayclip.bundle.entries import TextPreprocessing
from sayclip.bundle.files import verify_files
from sayclip.bundle.log_mel_entry import LogMelPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.inputs import AudioSettings, LogMelSettings, log_mel_images, read_stereo
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.pooling import pool_segments
from sayclip.text.tokenizer import Tokenizer
from sayclip_export import parts, rtx
from sayclip_export.clip4vla_export import export_audio, sample_sounds
from sayclip_export.graphs import SHAPES, Agreement
from sayclip_export.parts import CAPTIONS, sample_pictures
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides

ROWS = 49411


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[reference.Clip4Vla, Path]:
    path = tmp_path_factory.mktemp("source") / "pytorch_model.bin.4"
    return reference.write(path, vocabulary=ROWS), path


@pytest.fixture(scope="module")
def bundle(
    model: tuple[reference.Clip4Vla, Path], clip_merges: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("out") / "bundle"
    lines: list[str] = []
    export_audio(model[1], out, lines.append, Overrides({"audio.type_mix": "1", "audio.segments": "4"}))
    assert [line.split(":")[0] for line in lines] == ["read pytorch_model.bin.4", "audio", "image", "text"]
    assert "dropped: the temperature of training (1), CLIP-like fusion (26), the score of a pair (2)" in lines[0]
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    return out


@torch.inference_mode()
def test_the_runtime_gives_the_embeddings_of_the_model(bundle: Path, model: tuple[reference.Clip4Vla, Path]) -> None:
    sounds, pictures = sample_sounds(16_000), sample_pictures()
    with sayclip.load(bundle) as encoder:
        assert encoder.names == ("audio", "image", "text")
        audio, image, text = encoder.audio(sounds), encoder.image(pictures), encoder.text(CAPTIONS)
        speech = encoder.audio(sounds, type_mix=0)
    settings = LogMelSettings(mels=32, max_segments=4)
    for seen, mix in ((audio, 1.0), (speech, 0.0)):
        for row, sound in zip(seen, sounds, strict=True):
            segments = torch.from_numpy(log_mel_images(read_stereo(sound, AudioSettings()), settings))
            assert len(segments) == 4
            embedded = model[0].audio.visual(segments, torch.full((4,), mix)).numpy()
            assert np.abs(row - pool_segments(embedded, [4])[0]).max() < 1e-5
    assert np.abs(audio - speech).max() > 1e-2
    how = PictureSettings(32, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    pixels = torch.from_numpy(np.stack([read_picture(picture, how) for picture in pictures]))
    assert np.abs(image - model[0].clip.visual(pixels).numpy()).max() < 1e-5
    tokenizer = Tokenizer.from_file(bundle / "tokenizer.txt", context=32)
    for row, caption in zip(text, CAPTIONS, strict=True):
        ids = torch.tensor([tokenizer.encode(caption)])
        wanted = model[0].clip(ids, torch.tensor([ids.shape[1]])).numpy()
        assert np.abs(row - wanted[0]).max() < 1e-5


def test_the_manifest_says_where_it_comes_from(bundle: Path, model: tuple[reference.Clip4Vla, Path]) -> None:
    manifest = Manifest.read(bundle)
    verify_files(manifest, again=True)
    assert (manifest.name, manifest.width) == ("pytorch_model.bin.4", 32)
    audio = manifest.entry("audio")
    assert audio.preprocessing == LogMelPreprocessing(mels=32, max_segments=4, type_mix=1.0)
    assert audio.provenance["dropped"]["CLIP-like fusion"] == 26
    assert audio.provenance["architecture"]["heads"] == 1
    assert audio.measured["torch_max_abs_difference"] < 1e-5
    text = manifest.entry("text").preprocessing
    assert isinstance(text, TextPreprocessing)
    assert text.context == 32
    assert str(model[1].parent) not in (bundle / "bundle.json").read_text()
    assert json.loads((bundle / "bundle.json").read_text())["encoders"]["audio"]["preprocessing"]["kind"] == "log-mel"


def test_the_audio_graph(bundle: Path) -> None:
    graph = onnx.load(str(bundle / "audio.fp32.onnx"))
    count = Counter(node.op_type for node in graph.graph.node)
    assert [value.name for value in graph.graph.input] == list(SHAPES["audio"].inputs)
    assert [value.name for value in graph.graph.output] == ["embedding"]
    assert (graph.opset_import[0].version, count["Softmax"], count["Sigmoid"], count["Conv"]) == (18, 2, 2, 1)
    assert count["MatMul"] + count["Gemm"] == 2 * 8 + 1
    assert count["LayerNormalization"] == 2 * 2 + 2
    assert not {"IsNaN", "Where", "If", "Loop"} & set(count)


@pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", ["audio", "image", "text"])
def test_tensorrt_parses_and_builds(bundle: Path, name: str) -> None:
    assert rtx.build(bundle / f"{name}.fp32.onnx").outputs == ("embedding",)


def test_a_graph_that_differs_leaves_nothing(
    model: tuple[reference.Clip4Vla, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.graphs, "export_graph", lambda name, module, example, graph, outputs: graph.touch())
    monkeypatch.setattr(parts.graphs, "verify", lambda *_: Agreement(1e-3, 1.0, 1))
    with pytest.raises(BundleError, match=r"audio\.fp32\.onnx differs from torch by 1\.00e-03"):
        export_audio(model[1], tmp_path / "below" / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_anything_is_written(model: tuple[reference.Clip4Vla, Path], tmp_path: Path) -> None:
    merges = tmp_path / "merges.txt"
    merges.write_text("#version: 0.2\nc a\nca t</w>\n")
    out = tmp_path / "bundle"
    with pytest.raises(CheckpointError, match="makes 516 tokens, the token table has 49408 rows"):
        export_audio(model[1], out, vocabulary=merges)
    merges.write_text("#version: 0.2\nno such\n")
    with pytest.raises(CheckpointError, match=r"line 2 of the vocabulary is 'no such'"):
        export_audio(model[1], out, vocabulary=merges)
    with pytest.raises(CheckpointError, match="gone cannot be read"):
        export_audio(tmp_path / "gone", out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        export_audio(model[1], out)


def test_without_a_vocabulary(
    model: tuple[reference.Clip4Vla, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="without CLIP's vocabulary: `pip install --no-deps open_clip_torch`"):
        export_audio(model[1], tmp_path / "bundle")


def test_sounds_are_the_same_every_time() -> None:
    first, second = sample_sounds(16_000), sample_sounds(16_000)
    assert all(np.array_equal(a, b) and a.shape == (16_000, 2) for a, b in zip(first, second, strict=True))
    assert max(np.abs(sound).max() for sound in first) <= 1
