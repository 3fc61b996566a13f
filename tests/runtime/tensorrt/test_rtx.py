"""NVIDIA's own parser and builder take every graph of the demo: TensorRT-RTX and ``sayclip build``, without a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sayclip.bundle.files import sha256_of
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions.tensorrt import cache
from sayclip.sessions.tensorrt.build import Job
from sayclip.sessions.tensorrt.making import make
from sayclip.sessions.tensorrt.profiles import profiles

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not there")

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_120")
DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"


def job(manifest: Manifest, encoder: str, precision: str, out: Path, **how: Any) -> Job:
    """The graph with the first profile of its query plan, for all targets at once."""
    entry = manifest.entry(encoder)
    graph = entry.graphs[precision]
    first = profiles(entry, graph, "query")[0]
    shapes = {name: [list(shape) for shape in three] for name, three in first.items()}
    path = str(manifest.path(graph.file).resolve())
    return Job("tensorrt_rtx", path, [shapes], str(out), **{"targets": TARGETS, **how})


def quantised(path: Path) -> int:
    """How many products of two dequantised tensors the file holds."""
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    makers = {output: node for node in nodes for output in node.output}

    def dequantised(name: str) -> bool:
        node = makers.get(name)
        while node is not None and node.op_type in ("Transpose", "Reshape", "Flatten", "Unsqueeze", "Squeeze"):
            node = makers.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    products = [node for node in nodes if node.op_type in ("Conv", "MatMul", "Gemm")]
    return sum(dequantised(node.input[0]) and dequantised(node.input[1]) for node in products)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("encoder", ["image", "text", "pronunciation", "speech"])
def test_every_graph_of_the_demo_parses_and_builds_for_every_target(
    tmp_path: Path, encoder: str, precision: str
) -> None:
    manifest = Manifest.read(DEMO)
    percents: list[int] = []
    made = make(job(manifest, encoder, precision, tmp_path / "1"), "it", lambda done, of: percents.append(done))
    assert made.plan.stat().st_size == made.facts["bytes"] > 500_000
    assert made.facts["typing"] == "strong"
    asked = quantised(manifest.path(manifest.entry(encoder).graphs[precision].file))
    assert made.facts["asked_int8"] == asked
    assert (asked > 10) == (precision == "int8")
    assert percents == sorted(percents)
    assert percents[-1] > 50


@pytest.mark.parametrize("target", TARGETS)
def test_one_target_alone(tmp_path: Path, target: str) -> None:
    manifest = Manifest.read(DEMO)
    made = make(job(manifest, "image", "int8", tmp_path / "1", targets=(target,), workspace=256 << 20), "it")
    assert made.plan.stat().st_size == made.facts["bytes"] > 500_000


def test_the_command_ahead_of_time(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, private_home: Path
) -> None:
    out = tmp_path / "engines"
    status, text, _ = command("--target", ",".join(TARGETS), "--out", str(out))
    assert status == 0
    assert "for sm_80, sm_86, sm_89, sm_120" in text.splitlines()[0]
    records = [cache.read_record(path) for path in sorted(out.glob("*.json"))]
    assert len(records) == text.count("built in") == 8
    for record in records:
        assert record is not None
        assert (sha256_of(record.path), record.path.stat().st_size) == (record.sha256, record.bytes)
        assert record.key.capability == ",".join(TARGETS)
    built = {(record.facts["encoder"], record.facts["precision"]) for record in records if record}
    assert built == {("image", "int8"), ("text", "fp32"), ("pronunciation", "fp32"), ("speech", "fp32")}
    assert sorted({path.suffix for path in out.iterdir()}) == [".json", ".plan"]
    assert not (cache.folder()).exists(), "ahead of time, the cache is left alone"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_profile_of_the_demo(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, precision: str
) -> None:
    arguments = ("--precision", precision, "--target", "sm_80,sm_86,sm_89,sm_120", "--out", str(tmp_path), "--json")
    status, text, _ = command(*arguments, bundle=DEMO)
    engines = json.loads(text)["engines"]
    assert (status, len(engines), {engine["status"] for engine in engines}) == (0, 8, {"built"})


def test_an_op_it_lacks_is_named_with_its_node(
    command: Callable[..., tuple[int, str, str]],
    tiny_bundle: Path,
    unknown_op: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    unknown_op(tiny_bundle)
    arguments = ("--encoder", "image", "--precision", "fp32", "--target", "sm_86", "--out", str(tmp_path / "out"))
    status, _, error = command(*arguments, bundle=tiny_bundle)
    assert status == 2
    assert "node 'the_odd_one' (DynamicQuantizeLinear)" in error


def test_the_unsigned_form_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cannot be built: TensorRT-RTX .* refuses the graph: node "):
        make(job(manifest, "image", "int8-u8", tmp_path / "1"), "it")


@pytest.mark.parametrize("target", ["sm_42", "current", "sm_", "x", "none"])
def test_a_target_it_does_not_know(command: Callable[..., tuple[int, str, str]], tmp_path: Path, target: str) -> None:
    arguments = ("--encoder", "image", "--precision", "fp32", "--target", target, "--out", str(tmp_path / "out"))
    status, _, error = command(*arguments)
    assert status == 2
    assert f"cannot build for {target}, only for sm_75, sm_80, sm_86, sm_89, sm_120" in error


def test_a_graph_that_is_no_graph(manifest: Manifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(os.urandom(100))
    order = job(manifest, "image", "fp32", tmp_path / "1")
    with pytest.raises(BackendError, match="refuses the graph"):
        make(Job(**{**order.__dict__, "graph": str(broken)}), "it")
