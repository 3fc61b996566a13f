"""Graphs of speech encoders: the contract's names, plain operators, and NVIDIA's own parser and builder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from speechclip_parts import NAMES, Golden

from sayclip.errors import BundleError
from sayclip_export.bundling import describe_graph
from sayclip_export.graphs import Agreement, require

PYTHON = os.environ.get("SAYCLIP_RTX_PYTHON") or (sys.executable if importlib.util.find_spec("tensorrt_rtx") else "")
BUILD = """
import sys
import tensorrt_rtx as trt

FREE = {"waveform": (400, 16000, 102400), "length": ()}
errors = []


class Log(trt.ILogger):
    def log(self, severity, message):
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            errors.append(message)


log = Log()
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
if not parser.parse_from_file(sys.argv[1]):
    print("refused:", "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    sys.exit(3)
config, profile = builder.create_builder_config(), builder.create_optimization_profile()
for index in range(network.num_inputs):
    value = network.get_input(index)
    sizes = [(1, 2, 8) if axis == 0 else FREE[value.name] for axis in range(len(value.shape))]
    profile.set_shape(value.name, *(tuple(size[k] for size in sizes) for k in range(3)))
config.add_optimization_profile(profile)
engine = builder.build_serialized_network(network, config)
names = [network.get_output(i).name for i in range(network.num_outputs)]
print(" ".join(names) if engine is not None else "; ".join(errors))
sys.exit(0 if engine is not None else 4)
"""


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
        width = (32,) if tensor.name.endswith("embedding") else (keywords,) if tensor.name != "keyword_count" else ()
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


@pytest.mark.skipif(not PYTHON, reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_nvidias_parser_and_builder_take_it(
    name: str, golden_speechclip: Callable[[str], Golden], speech_graph: Callable[[str], Path]
) -> None:
    """In a process of its own, because what the library does not like may end the process."""
    command = [PYTHON, "-c", BUILD, str(speech_graph(name))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tuple(done.stdout.split()) == golden_speechclip(name).checkpoint.speech.outputs


def test_other_ids_are_refused() -> None:
    require(Agreement(1e-6, 1.0, 3, 1.0), Path("speech.fp32.onnx"))
    with pytest.raises(BundleError, match=r"speech\.fp32\.onnx gives 99\.00% of torch's ids, wanted all of them"):
        require(Agreement(1e-6, 1.0, 3, 0.99), Path("speech.fp32.onnx"))
