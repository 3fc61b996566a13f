"""Graphs of every kind: what torch gives, boundaries to the bit, plain operators, NVIDIA's parser and builder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from segmental_parts import VARIANTS, encoder, feeds_as_tensors, random_waves

from sayclip_export import rtx
from sayclip_export.bundling import describe_graph
from sayclip_export.graphs import export_graph, require, verify
from sayclip_export.models.segmental import SegmentalSpeech
from sayclip_export.speechclip_export import sample_waves, voices, wave_feed

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
    from sayclip.sessions.onnxruntime import OnnxRuntimeSession

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


@pytest.mark.parametrize("variant", VARIANTS)
def test_holds_plain_operators_under_the_contracts_names(variant: str, graph: Graph) -> None:
    made, path = graph(variant)
    entry = describe_graph(path.parent, path.name)
    assert tuple(tensor.name for tensor in entry.outputs) == made.outputs
    slots = 12 if made.kind in ("cif", "segmental") else 3
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
