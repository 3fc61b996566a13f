"""Fixtures for every wing: a private home, and a small bundle of untrained weights that takes milliseconds to run."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Helpers beside the tests; pytest's importlib mode leaves the path alone.
sys.path.append(str(Path(__file__).parent))

WIDTH = 32
PICTURE = 16
SIDE = 32
FRAME, HOP, FILTERS = 400, 160, 24
TOKENS = 600
PHONEMES = "pbtdkɡmnŋfvθðszʃʒhɹjwlɪɛæʌʊəɑɔiuoea"
SPACE = "tiny-0123456789ab"


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own cache, data or settings."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in ("SAYCLIP_BUNDLE", "SAYCLIP_LIBRARY", "SAYCLIP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(scope="session")
def tiny_bundle_master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that ``tiny_bundle`` copies; tests must leave it as it is."""
    return build_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture
def tiny_bundle(tiny_bundle_master: Path, tmp_path: Path) -> Path:
    """A bundle with all four encoders, fp32, and int8 and int8-u8 for images; a copy, free to be damaged."""
    return Path(shutil.copytree(tiny_bundle_master, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def sound_bundle(tiny_bundle_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with an ``audio`` encoder beside the others; tests must leave it as it is."""
    from dataclasses import replace

    from sayclip.bundle.entries import EncoderEntry
    from sayclip.bundle.log_mel_entry import LogMelPreprocessing
    from sayclip.bundle.manifest import Manifest

    folder = Path(shutil.copytree(tiny_bundle_master, tmp_path_factory.mktemp("sound") / "bundle"))
    audio_graph(folder / "audio.fp32.onnx")
    how = LogMelPreprocessing(mels=SIDE, max_segments=4, max_seconds=5.0)
    segments = np.random.default_rng(8).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    inputs = {"segments": segments, "type_mix": np.array([0, 0.25, 0.5, 1], np.float32)}
    entry = EncoderEntry(SPACE, WIDTH, *_graphs(folder, "audio", how, inputs))
    manifest = Manifest.read(folder)
    replace(manifest, encoders={**manifest.encoders, "audio": entry}).write(folder)
    return folder


@pytest.fixture
def edit_manifest(tiny_bundle: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """``edit_manifest(change)`` applies ``change`` to the bundle's JSON and returns the bundle's folder."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        path = tiny_bundle / "bundle.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")
        return tiny_bundle

    return edit


class Graph:
    """A little ONNX graph, built node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def normalised(self, value: str) -> None:
        """End the graph with ``embedding``, the rows of ``value`` at length 1."""
        norm = self.node("ReduceL2", value, self.weight(np.array([1], np.int64)), keepdims=1)
        self.node("Div", value, norm, output="embedding")

    def masked_mean(self, frames: str, length: str) -> str:
        """[B, T, D] and the number of real frames [B] (int32) to the mean of the real frames [B, D]."""
        time = self.node("Gather", self.node("Shape", frames), self.weight(np.int64(1)), axis=0)
        steps = self.node("Range", self.weight(np.int64(0)), time, self.weight(np.int64(1)))
        length = self.node("Cast", length, to=7)
        column = self.node("Unsqueeze", length, self.weight(np.array([1], np.int64)))
        mask = self.node("Cast", self.node("Less", steps, column), to=1)
        masked = self.node("Mul", frames, self.node("Unsqueeze", mask, self.weight(np.array([2], np.int64))))
        total = self.node("ReduceSum", masked, self.weight(np.array([1], np.int64)), keepdims=0)
        return self.node("Div", total, self.node("Cast", column, to=1))

    def save(self, path: Path, inputs: Sequence[tuple[str, str, list[int | str]]], data: str = "") -> None:
        """Write the graph; with ``data``, its int8 weights lie in that file beside it, as they come."""
        import onnx
        from onnx import external_data_helper, helper

        kinds = {"float32": 1, "int32": 6}
        ins = [helper.make_tensor_value_info(name, kinds[dtype], shape) for name, dtype, shape in inputs]
        out = helper.make_tensor_value_info("embedding", 1, ["batch", WIDTH])
        graph = helper.make_graph(self.nodes, "tiny", ins, [out], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        if data:
            with open(path.parent / data, "wb") as file:
                for tensor in (t for t in model.graph.initializer if t.data_type == 3 and t.dims):
                    external_data_helper.set_external_data(tensor, data, file.tell(), len(tensor.raw_data))
                    file.write(tensor.raw_data)
                    tensor.ClearField("raw_data")
        path.write_bytes(model.SerializeToString(deterministic=True))


def image_graph(path: Path, activations: str = "") -> None:
    """Average pooling and one projection; with ``activations`` int8 or uint8, quantised around the projection."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3 * (PICTURE // 4) ** 2, WIDTH)).astype(np.float32)
    graph = Graph()
    pooled = graph.node("AveragePool", "pixels", kernel_shape=[4, 4], strides=[4, 4])
    features = graph.node("Flatten", pooled)
    matrix = graph.weight(weights)
    if activations:
        graph.weights.clear()
        scales = (np.abs(weights).max(axis=0) / 127).astype(np.float32)
        rounded = np.rint(weights / scales).astype(np.int8)
        matrix, scale = graph.weight(rounded), graph.weight(scales)
        matrix = graph.node("DequantizeLinear", matrix, scale, graph.weight(np.zeros(WIDTH, np.int8)), axis=1)
        step = graph.weight(np.float32(3 / 127))
        zero = graph.weight(np.int8(0) if activations == "int8" else np.uint8(128))
        features = graph.node("DequantizeLinear", graph.node("QuantizeLinear", features, step, zero), step, zero)
    graph.normalised(graph.node("MatMul", features, matrix))
    shape: list[int | str] = ["batch", 3, PICTURE, PICTURE]
    graph.save(path, [("pixels", "float32", shape)], data="image.int8.data" if activations else "")


def id_graph(path: Path, ids: str, count: int, seed: int) -> None:
    """An embedding table, the mean over the real ids, and one projection."""
    rng = np.random.default_rng(seed)
    graph = Graph()
    rows = graph.node("Gather", graph.weight(rng.normal(size=(count, WIDTH)).astype(np.float32)), ids)
    mean = graph.masked_mean(rows, "length")
    graph.normalised(graph.node("MatMul", mean, graph.weight(rng.normal(size=(WIDTH, WIDTH)).astype(np.float32))))
    graph.save(path, [(ids, "int32", ["batch", "tokens"]), ("length", "int32", ["batch"])])


def speech_graph(path: Path) -> None:
    """Overlapping frames by a convolution, rectified, averaged over the real ones, and one projection."""
    rng = np.random.default_rng(4)
    graph = Graph()
    wave = graph.node("Unsqueeze", "waveform", graph.weight(np.array([1], np.int64)))
    wave = graph.node("Pad", wave, graph.weight(np.array([0, 0, 0, 0, 0, FRAME], np.int64)))
    filters = rng.normal(size=(FILTERS, 1, FRAME)).astype(np.float32) / math.sqrt(FRAME)
    power = graph.node("Abs", graph.node("Conv", wave, graph.weight(filters), strides=[HOP]))
    frames = graph.node("Transpose", power, perm=[0, 2, 1])
    hops = graph.node("Div", "length", graph.weight(np.int32(HOP)))
    mean = graph.masked_mean(frames, graph.node("Add", hops, graph.weight(np.int32(1))))
    graph.normalised(graph.node("MatMul", mean, graph.weight(rng.normal(size=(FILTERS, WIDTH)).astype(np.float32))))
    graph.save(path, [("waveform", "float32", ["batch", "samples"]), ("length", "int32", ["batch"])])


def audio_graph(path: Path) -> None:
    """Average pooling and one projection, and a vector for the type of sound."""
    rng = np.random.default_rng(6)
    graph = Graph()
    pooled = graph.node("AveragePool", "segments", kernel_shape=[4, 4], strides=[4, 4])
    matrix = graph.weight(rng.normal(size=(3 * (SIDE // 4) ** 2, WIDTH)).astype(np.float32))
    features = graph.node("MatMul", graph.node("Flatten", pooled), matrix)
    mix = graph.node("Unsqueeze", "type_mix", graph.weight(np.array([1], np.int64)))
    types = graph.node("MatMul", mix, graph.weight(3 * rng.normal(size=(1, WIDTH)).astype(np.float32)))
    graph.normalised(graph.node("Add", features, types))
    graph.save(path, [("segments", "float32", ["batch", 3, SIDE, SIDE]), ("type_mix", "float32", ["batch"])])


def build_tiny_bundle(folder: Path) -> Path:
    """Write a whole bundle of random weights, the same every time, into ``folder``."""
    from sayclip.bundle.entries import (
        G2P,
        AudioPreprocessing,
        EncoderEntry,
        PhonemePreprocessing,
        PicturePreprocessing,
        Preprocessing,
        TextPreprocessing,
    )
    from sayclip.bundle.files import describe_file
    from sayclip.bundle.manifest import Manifest

    folder.mkdir(parents=True)
    # A header, then merges that make one token of "ca" + "t" and of "re" + "d".
    merges = ["#version: 0.2", "c a", "ca t</w>", "r e", "re d</w>"]
    (folder / "tokenizer.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    rng = np.random.default_rng(9)
    symbols = [
        {"symbol": symbol, "id": number, "vector": rng.random(3).round(3).tolist()}
        for number, symbol in enumerate(PHONEMES, start=5)
    ]
    symbols.append({"symbol": "ʘ", "id": None, "vector": symbols[0]["vector"]})
    special = {"<pad>": 0, "<sot>": 1, "<eot>": 2, " ": 3, "<unk>": 4}
    inventory = {"chart_sha256": "0" * 64, "attributes": ["a", "b", "c"], "special": special, "symbols": symbols}
    (folder / "phonemes.json").write_text(json.dumps(inventory), encoding="utf-8")

    image_graph(folder / "image.fp32.onnx")
    image_graph(folder / "image.int8.onnx", "int8")
    image_graph(folder / "image.int8-u8.onnx", "uint8")
    id_graph(folder / "text.fp32.onnx", "token_ids", TOKENS, seed=2)
    id_graph(folder / "pronunciation.fp32.onnx", "phoneme_ids", len(PHONEMES) + 5, seed=3)
    speech_graph(folder / "speech.fp32.onnx")

    lengths = np.array([5, 3, 2, 4], np.int32)
    samples = np.array([8000, 1600, 4000, 2400], np.int32)
    waves = rng.normal(size=(4, 8000)).astype(np.float32) * (np.arange(8000) < samples[:, None])
    how: dict[str, tuple[Preprocessing, dict[str, Any]]] = {
        "image": (
            PicturePreprocessing(PICTURE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            {"pixels": rng.uniform(-1, 1, (4, 3, PICTURE, PICTURE)).astype(np.float32)},
        ),
        "text": (
            TextPreprocessing(describe_file(folder, "tokenizer.txt")),
            {"token_ids": rng.integers(0, 500, (4, 5), dtype=np.int32), "length": lengths},
        ),
        "pronunciation": (
            PhonemePreprocessing(describe_file(folder, "phonemes.json"), G2P("espeak-ng", "1.52.0", "en-us")),
            {"phoneme_ids": rng.integers(5, 20, (4, 5), dtype=np.int32), "length": lengths},
        ),
        "speech": (
            AudioPreprocessing(min_seconds=0.1, max_seconds=15.0, front="convolution"),
            {"waveform": waves.astype(np.float32), "length": samples},
        ),
    }
    encoders = {
        name: EncoderEntry(SPACE, WIDTH, *_graphs(folder, name, preprocessing, inputs))
        for name, (preprocessing, inputs) in how.items()
    }
    Manifest("tiny", SPACE, WIDTH, encoders, "a bundle of random weights, for tests", "tests", "Apache-2.0").write(
        folder
    )
    return folder


def _graphs(folder: Path, name: str, preprocessing: Any, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The graphs' entries, the preprocessing, and the reference made by the fp32 graph."""
    from sayclip.bundle.entries import GraphEntry, Reference
    from sayclip.bundle.files import describe_file
    from sayclip.sessions.onnxruntime import OnnxRuntimeSession

    session = OnnxRuntimeSession(folder / f"{name}.fp32.onnx", threads=1)
    outputs = session.run(inputs)
    arrays: dict[str, Any] = {f"input.{key}": value for key, value in inputs.items()}
    arrays["output.embedding"] = outputs["embedding"]
    np.savez(folder / f"{name}.reference.npz", **arrays)
    graphs = {}
    for precision in ("fp32", "int8", "int8-u8"):
        if not (folder / f"{name}.{precision}.onnx").exists():
            continue
        own = describe_file(folder, f"{name}.{precision}.onnx")
        data = (describe_file(folder, f"{name}.int8.data"),) if precision != "fp32" else ()
        signature = session.signature
        graphs[precision] = GraphEntry(own.file, own.sha256, own.bytes, data, signature.inputs, signature.outputs)
    reference = describe_file(folder, f"{name}.reference.npz")
    tolerance = {precision: 1e-4 if precision == "fp32" else 0.995 for precision in graphs}
    return graphs, preprocessing, Reference(reference.file, reference.sha256, reference.bytes, tolerance)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """``golden("clip4vla/fbank_golden.npz")``: a file of vectors made by the original systems' own code.

    They lie in ``$SAYCLIP_GOLDEN`` or in ``../shared/golden`` beside the checkout; without them the test is skipped,
    except in continuous integration.
    """
    place = os.environ.get("SAYCLIP_GOLDEN")
    root = Path(place) if place else Path(__file__).resolve().parents[2] / "shared" / "golden"

    def find(name: str) -> Path:
        if not (root / name).is_file():
            missing = f"{root / name} is not there; set SAYCLIP_GOLDEN to the folder of golden vectors"
            if os.environ.get("CI") == "true":
                pytest.fail(missing)
            pytest.skip(missing)
        return root / name

    return find
