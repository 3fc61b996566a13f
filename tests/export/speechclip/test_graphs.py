"""Graphs of speech encoders: the contract's names, plain operators, and NVIDIA's own parser and builder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from speechclip_parts import NAMES, Golden

from sayclip.errors import BundleError
from sayclip_export import rtx
from sayclip_export.bundling import describe_graph
from sayclip_export.graphs import Agreement, require


@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(
    name: str, golden_speechclip: Callable[[str], Golden], speech_graph: Callable[[str], Path]
) -> None:
    path, model = speech_graph(name), golden_speechclip(name).checkpoint.speech
    entry = describe_graph(path.parent, path.name)
    assert [(t.name, t.dtype, t.shape) for t in entry.inputs] == [
        ("waveform", "float32", ("batch", "samples")),
        ("length", "int32", ("batch",)),
    ]
    assert tuple(tensor.name for tensor in entry.outputs) == model.outputs
    keywords = model.config.branches[0].keywords
    for tensor in entry.outputs:
        whole = tensor.name in ("keyword_ids", "keyword_count")
        assert tensor.dtype == ("int32" if whole else "float32")
        sizes = {"keyword_count": (), "boundaries": (keywords + 1,)}
        width = (32,) if tensor.name.endswith("embedding") else sizes.get(tensor.name, (keywords,))
        assert tensor.shape == ("batch", *width)


@pytest.mark.parametrize("name", NAMES)
def test_holds_plain_operators(name: str, speech_graph: Callable[[str], Path]) -> None:
    path = speech_graph(name)
    model = onnx.load(str(path))
    operators = Counter(node.op_type for node in model.graph.node)
    assert 18 <= model.opset_import[0].version <= 20
    assert {node.domain for node in model.graph.node} == {""}
    for forbidden in ("NonZero", "Loop", "If", "Scan", "IsNaN", "Attention", "ScatterElements", "ScatterND"):
        assert operators[forbidden] == 0
    # 3 layers with two norms, one before the projection, and those of the layout and of the head.
    assert operators["LayerNormalization"] >= 8
    assert operators["Conv"] == (9 if name.startswith("plus") else 8)
    assert str(Path(__file__).resolve().parents[3]).encode() not in path.read_bytes()


@pytest.mark.parametrize("name", ["base_cascaded", "plus_base_hybrid_plus"])
def test_keywords_are_read_from_as_few_tokens_as_there_can_be(name: str, speech_graph: Callable[[str], Path]) -> None:
    """Ten tokens for eight keywords, not the 77 of a text: the sum that positions are added to says it."""
    shapes = [list(tensor.dims) for tensor in onnx.load(str(speech_graph(name))).graph.initializer]
    tokens = 10 if name == "base_cascaded" else 77
    assert [tokens, 32] in shapes or [1, tokens, 32] in shapes


@pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_nvidias_parser_and_builder_take_it(
    name: str, golden_speechclip: Callable[[str], Golden], speech_graph: Callable[[str], Path]
) -> None:
    assert rtx.build(speech_graph(name)).outputs == golden_speechclip(name).checkpoint.speech.outputs


def test_other_ids_are_refused() -> None:
    require(Agreement(1e-6, 1.0, 3, 1.0), Path("speech.fp32.onnx"))
    with pytest.raises(BundleError, match=r"speech\.fp32\.onnx gives 99\.00% of torch's ids, wanted all of them"):
        require(Agreement(1e-6, 1.0, 3, 0.99), Path("speech.fp32.onnx"))
