"""Graphs of every kind: what torch gives, on odd waves too, boundaries to the bit, plain operators, NVIDIA's parser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from segmental_parts import CONFIG, RATE, VARIANTS, Wave, encoder, feeds_as_tensors, hard_waves, procedure, random_waves

from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip_export import rtx
from sayclip_export.bundling import describe_graph
from sayclip_export.graphs import export_graph, require, verify
from sayclip_export.models.segmental import SegmentalSpeech
from sayclip_export.models.segmental.encoder import seconds
from sayclip_export.speechclip_export import sample_waves, voices, wave_feed

SLOTS = CONFIG.slots
Outputs = dict[str, NDArray[Any]]
Graph = Callable[[str], "tuple[SegmentalSpeech, Path]"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """``graph(variant)``: the folded encoder and its graph, made once."""
    known: dict[str, tuple[SegmentalSpeech, Path]] = {}

    def get(variant: str) -> tuple[SegmentalSpeech, Path]:
        if variant not in known:
            made, path = encoder(variant).fold(), tmp_path_factory.mktemp(variant) / "speech.fp32.onnx"
            example = feeds_as_tensors(wave_feed(random_waves(9000, 5000)))
            export_graph("speech", made, example, path, made.outputs)
            known[variant] = made, path
        return known[variant]

    return get


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_torch_at_any_batch_and_length(variant: str, graph: Graph) -> None:
    made, path = graph(variant)
    feeds = [wave_feed(waves) for waves in ([voices(400)], [voices(48_000)], sample_waves(), random_waves(881, 30_001))]
    require(verify(path, made, feeds, made.outputs), path)


@pytest.mark.parametrize("variant", ["segmental", "quantised", "roberta"])
def test_boundaries_are_the_same_to_the_bit(variant: str, graph: Graph) -> None:
    made, path = graph(variant)
    session = OnnxRuntimeSession(path)
    for waves in (sample_waves(), random_waves(30_000, 400, 12_345)):
        feed = wave_feed(waves)
        with torch.inference_mode():
            wanted = dict(zip(made.outputs, made(*feeds_as_tensors(feed)), strict=True))
        got = session.run(feed)
        assert np.array_equal(got["boundaries"], wanted["boundaries"].numpy())
        assert np.array_equal(got["keyword_count"], wanted["keyword_count"].numpy())
        assert got["keyword_count"].max() > 2
    session.close()


@pytest.fixture(scope="module")
def waves() -> dict[str, Wave]:
    return hard_waves()


def given_and_wanted(made: SegmentalSpeech, session: OnnxRuntimeSession, wave: Wave) -> tuple[Outputs, Outputs]:
    """What the graph gives for ``wave``, and what torch does."""
    feed = wave_feed([wave])
    with torch.inference_mode():
        wanted = [value.numpy() for value in made(*feeds_as_tensors(feed))]
    return session.run(feed), dict(zip(made.outputs, wanted, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_on_recordings_as_people_have_them(variant: str, graph: Graph, waves: dict[str, Wave]) -> None:
    made, path = graph(variant)
    session, counts = OnnxRuntimeSession(path, threads=1), dict[str, int]()
    for what, wave in waves.items():
        given, wanted = given_and_wanted(made, session, wave)
        assert list(given) == list(wanted)
        for output, value in given.items():
            assert np.isfinite(value).all(), (what, output)
            assert np.abs(value - wanted[output]).max() < 2e-4, (what, output)
        assert np.linalg.norm(given["embedding"]) == pytest.approx(1, abs=1e-4)
        if "boundaries" in given:
            assert (given["boundaries"] == wanted["boundaries"]).all() or variant == "cif", what
            counts[what] = count = int(given["keyword_count"][0])
            times, end = given["boundaries"][0], len(wave) / RATE
            assert 1 <= count <= SLOTS
            assert times[0] == 0
            assert (np.diff(times[: count + 1]) > 0).all(), what
            assert times[count] <= end + 1e-6, what
            # CIF leaves out what its slots do not hold, and a rest that is too small for a slot.
            assert times[count + (variant == "cif") :] == pytest.approx(end), what
            assert not given["keyword_ids"][0, count:].any()
    session.close()
    if counts:
        assert counts["400 samples"] == counts["instant"] == 1
    if counts and variant != "quantised":  # what a detector with random weights of its own finds is chance
        assert counts["a minute"] == counts["many units"] == SLOTS
        assert counts["silence"] == 1 or variant == "cif"


def test_of_more_units_than_slots_the_highest_peaks_stay(graph: Graph, waves: dict[str, Wave]) -> None:
    made, path = graph("segmental")
    session, config = OnnxRuntimeSession(path, threads=1), made.head.config
    for what in ("many units", "a minute", "noise"):
        wave = waves[what]
        with torch.inference_mode():
            frames, count = made.frames(*feeds_as_tensors(wave_feed([wave])))
        exact = frames[0].double().numpy()
        starts, _, _ = procedure(exact, config.threshold, config.eps, SLOTS)
        every, prominence, _ = procedure(exact, config.threshold, config.eps, len(exact))
        assert len(every) > SLOTS
        least = min(prominence[t] for t in starts)
        assert all(prominence[t] <= least for t in every if t not in starts)
        edges = torch.tensor([[0.0, *starts, float(count)]])
        wanted = seconds(edges, count, torch.tensor([len(wave)]), made.tower.config)[0].numpy()
        given, _ = given_and_wanted(made, session, wave)
        np.testing.assert_allclose(given["boundaries"][0], wanted, atol=1e-6)
    session.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_holds_plain_operators_under_the_contracts_names(variant: str, graph: Graph) -> None:
    made, path = graph(variant)
    entry = describe_graph(path.parent, path.name)
    assert tuple(tensor.name for tensor in entry.outputs) == made.outputs
    slots = SLOTS if made.kind in ("cif", "segmental") else 3
    for tensor in entry.outputs:
        size = {"keyword_count": (), "boundaries": (slots + 1,)}.get(tensor.name, (slots,))
        assert tensor.shape == ("batch", *((16,) if tensor.name.endswith("embedding") else size))
        assert tensor.dtype == ("int32" if tensor.name in ("keyword_ids", "keyword_count") else "float32")
    model = onnx.load(str(path))
    operators = Counter(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {""}
    for forbidden in ("NonZero", "Loop", "If", "Scan", "Attention", "ScatterElements", "ScatterND", "Compress", "TopK"):
        assert operators[forbidden] == 0
    assert operators["CumSum"] == {"cif": 1, "segmental": 2}.get(made.kind, 0)


@pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("variant", VARIANTS)
def test_nvidias_parser_and_builder_take_it(variant: str, graph: Graph) -> None:
    made, path = graph(variant)
    assert rtx.build(path).outputs == made.outputs
