"""Boundaries of a segmental head outlast fp16 and int8: its detector stays in fp32, whatever becomes of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip_calibration import place
from sayclip_calibration.gates import Gate, Limits
from sayclip_calibration.graph import GraphView, load_model
from sayclip_calibration.half import to_half
from sayclip_calibration.placement import LAYERS
from sayclip_calibration.recipe import Options, calibrate_encoder
from sayclip_calibration.session import Runner
from sayclip_export.graphs import export_graph
from sayclip_export.models.segmental import HeadConfig, SegmentalSpeech, build_head
from sayclip_export.readers import speech_graph, text_graph
from sayclip_export.speechclip_export import wave_feed

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
Outputs = Mapping[str, NDArray[Any]]
Feeds = Sequence[dict[str, NDArray[Any]]]


@pytest.fixture(scope="module")
def recordings() -> list[NDArray[np.float32]]:
    """The demo's spoken queries."""
    how = AudioSettings(16000, 0.1, 15.0, "none", True)
    return [read_audio(path, settings=how) for path in sorted((DEMO / "queries").glob("*.wav"))]


@pytest.fixture(scope="module")
def feeds(recordings: list[NDArray[np.float32]]) -> Feeds:
    return [wave_feed([wave]) for wave in recordings]


@pytest.fixture(scope="module")
def unseen(recordings: list[NDArray[np.float32]]) -> Feeds:
    """Two queries one after the other, and each over noise."""
    rng, gap, count = np.random.default_rng(0), np.zeros(1600, np.float32), len(recordings)
    pairs = [np.concatenate([recordings[i], gap, recordings[(i + 5) % count]]) for i in range(count)]
    noisy = [(wave + rng.normal(0, 0.003, len(wave))).astype(np.float32) for wave in recordings]
    return [wave_feed([wave]) for wave in (*pairs, *noisy)]


@pytest.fixture(scope="module", params=[0, 64], ids=["frames", "projected"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head on the demo's tower, whose detector looks at frames as they are, or at a projection of them."""
    tower = speech_graph.recover(DEMO / "bundle" / "speech.fp32.onnx")
    text = text_graph.recover(DEMO / "bundle" / "text.fp32.onnx", {})
    assert tower is not None
    assert text is not None
    torch.manual_seed(0)
    # What nobody taught makes small leaps.
    config = HeadConfig(
        tower.config.width, text.config, detector=request.param, threshold=0.01 if request.param else 0.05
    )
    head = build_head("segmental", config, text)
    speech = SegmentalSpeech(tower, head).fold()
    path = tmp_path_factory.mktemp("head") / "speech.fp32.onnx"
    example = [torch.randn(2, 9000), torch.tensor([9000, 5000], dtype=torch.int32)]
    export_graph("speech", speech, example, path, speech.outputs)
    return path


def run(model: Path | ModelProto, feeds: Feeds) -> list[Outputs]:
    runner, names = Runner(model), ["boundaries", "keyword_count", "embedding"]
    return [dict(zip(names, runner.run(feed, names), strict=True)) for feed in feeds]


def f1(ours: Sequence[Outputs], theirs: Sequence[Outputs], tolerance: float = 0.02) -> float:
    """Of the boundaries between units alone; each may be found once, within ``tolerance`` seconds."""
    hits = found = wanted = 0
    for one, two in zip(ours, theirs, strict=True):
        here, there = (list(o["boundaries"][0][1 : int(o["keyword_count"][0])]) for o in (one, two))
        found, wanted = found + len(here), wanted + len(there)
        for time in here:
            near = [other for other in there if abs(other - time) <= tolerance + 1e-4]
            if near:
                there.remove(min(near, key=lambda other: abs(other - time)))
                hits += 1
    return 2 * hits / (found + wanted)


def detector(view: GraphView) -> Iterator[str]:
    """Nodes between the running sum of boundaries and the last product before it."""
    names = {output: name for name, node in view.nodes.items() for output in node.output}
    waiting = [node.input[0] for node in view.nodes.values() if node.op_type == "CumSum"]
    seen: set[str] = set()
    while waiting:
        name = names.get(waiting.pop())
        if name is None or name in seen:
            continue
        seen.add(name)
        yield name
        if view.nodes[name].op_type not in LAYERS:
            waiting.extend(view.nodes[name].input)


def test_fp16_keeps_the_detector_single_and_every_boundary(graph: Path, feeds: Feeds, unseen: Feeds) -> None:
    half, conversion = to_half(load_model(graph), feeds[:4])
    view = GraphView(half)
    types = view._inferred()
    nodes = [view.nodes[name] for name in detector(view)]
    operators = {node.op_type for node in nodes}
    assert {"ReduceMin", "ReduceMax", "Min", "Max", "Relu", "Greater", "And", "ReduceL2", "Div"} <= operators
    for node in nodes:
        assert TensorProto.FLOAT16 not in {types[name][0] for name in node.output if name in types}, node.name
    assert len(conversion.halves) > 40
    before, after = run(graph, unseen), run(half, unseen)
    assert sum(int(o["keyword_count"][0]) for o in before) > 200
    assert f1(before, after) >= 0.99
    assert min(float((a["embedding"] * b["embedding"]).sum()) for a, b in zip(before, after, strict=True)) > 0.99


def test_no_layer_that_a_boundary_is_compared_by_becomes_int8(graph: Path) -> None:
    model = load_model(graph)
    view, placement = GraphView(model), place(model)
    products = [name for name in detector(view) if view.nodes[name].op_type in LAYERS]
    assert len(products) == 1
    assert products[0] in placement.skipped
    assert placement.skipped[products[0]] in ("decides", "weight has 1 axes, wanted 2")
    net = [name for name, node in view.nodes.items() if any("head.detector.layers" in tensor for tensor in node.input)]
    assert all(placement.skipped[name] == "decides" for name in net)
    assert len(placement.sites) == 58


@pytest.mark.slow
@pytest.mark.parametrize("graph", [0], indirect=True, ids=["frames"])
def test_int8_within_its_gates_keeps_boundaries(graph: Path, feeds: Feeds, unseen: Feeds, tmp_path: Path) -> None:
    """Keywords are left out of the gates: the units of random weights lie between words."""
    gate = Gate(Limits.of("speech", keywords=0.0, boundaries=0.99), None)
    calibrate_encoder(graph, tmp_path, "speech", feeds, [*feeds, *unseen[:6]], gate, Options(), lambda *done: None)
    before = run(graph, unseen[6:])
    for name in ("speech.int8.onnx", "speech.int8-u8.onnx"):
        quantised = load_model(tmp_path / name)
        view = GraphView(quantised)
        operators = [node.op_type for node in view.nodes.values()]
        assert operators.count("QuantizeLinear") > 20
        assert not {"QuantizeLinear", "DequantizeLinear"} & {view.nodes[node].op_type for node in detector(view)}
        assert f1(before, run(quantised, unseen[6:])) >= 0.98
