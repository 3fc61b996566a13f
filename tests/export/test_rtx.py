"""NVIDIA's own parser and builder, without a GPU, on the graphs that are shipped and exported."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip_export import rtx
from sayclip_export.clip_export import export_clip

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo" / "bundle"
pytestmark = pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")


@pytest.mark.parametrize("name", ["image", "text", "pronunciation", "speech"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_graph_of_the_demo_builds(name: str, precision: str) -> None:
    graph = Manifest.read(DEMO).entry(name).graphs[precision]
    built = rtx.build(DEMO / graph.file)
    assert built.outputs == ("embedding",)
    assert built.bytes > 100_000
    assert built.peak_memory > built.bytes


def test_both_towers_of_a_clip_build(clip_master: Path, tmp_path: Path) -> None:
    export_clip(clip_master, tmp_path / "bundle")
    for name in ("image", "text"):
        assert rtx.build(tmp_path / "bundle" / f"{name}.fp32.onnx").outputs == ("embedding",)


def test_what_nvidia_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 3])
    out = onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", 3])
    node = onnx.helper.make_node("NoSuchOperator", ["pixels"], ["embedding"], domain="nowhere")
    graph = onnx.helper.make_graph([node], "graph", [value], [out])
    path = tmp_path / "bad.onnx"
    onnx.save(onnx.helper.make_model(graph), str(path))
    with pytest.raises(BundleError, match=r"TensorRT-RTX refuses bad\.onnx: .*not found"):
        rtx.build(path)
