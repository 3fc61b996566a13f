"""The tiny bundle with a speech graph that hears keywords, as many as the recording has quarters of a second."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

QUARTER = 4000
HEARD = [(312, "red"), (7, "ap-"), (901, "ple"), (40000, "日本語"), (55, "<e2 98>-"), (56, "at")]
"""Token ids and words, in the order in which every recording has them."""
SCORES = [0.71, 0.81, 0.64, 0.5, 0.25, -0.125]


def build_keyword_bundle(
    tiny: Path,
    folder: Path,
    *,
    timed: bool = True,
    trim: bool = False,
    heard: Sequence[tuple[int, str]] = HEARD,
    scores: Sequence[float] = SCORES,
) -> Path:
    """Copy the bundle ``tiny`` to ``folder`` and let its speech graph, whose embeddings stay, hear keywords.

    Of a recording of n quarters of a second (rounded down) the first n of ``heard`` with ``scores``, each a quarter
    long unless ``timed`` is false. ``trim``: silence is cut off both ends of a recording first.
    """
    from sayclip.bundle.entries import AudioPreprocessing, GraphEntry
    from sayclip.bundle.files import describe_file
    from sayclip.bundle.manifest import Manifest
    from sayclip.sessions.onnxruntime import OnnxRuntimeSession

    shutil.copytree(tiny, folder)
    manifest = Manifest.read(folder)
    path = folder / "speech.fp32.onnx"
    _hear(path, [token for token, _ in heard], scores, timed)
    lines = [f"{token}\t{word}\n" for token, word in sorted(dict(heard).items())]
    (folder / "keywords.tsv").write_text("".join(lines), encoding="utf-8")
    entry = manifest.entry("speech")
    signature = OnnxRuntimeSession(path, threads=1).signature
    own = describe_file(folder, path.name)
    graph = GraphEntry(own.file, own.sha256, own.bytes, (), signature.inputs, signature.outputs)
    assert isinstance(entry.preprocessing, AudioPreprocessing)
    how = replace(entry.preprocessing, trim=trim, keywords=describe_file(folder, "keywords.tsv"))
    entry = replace(entry, graphs={"fp32": graph}, preprocessing=how)
    replace(manifest, encoders={**manifest.encoders, "speech": entry}).write(folder)
    return folder


def _hear(path: Path, ids: Sequence[int], scores: Sequence[float], timed: bool) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    most = len(ids)

    def weight(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(op: str, *inputs: str, output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    quarters = node("Div", "length", weight("quarter", np.int32(QUARTER)), output="quarters")
    count = node("Min", quarters, weight("most", np.int32(most)), output="keyword_count")
    column = node("Unsqueeze", count, weight("axis", np.array([1], np.int64)), output="count_column")
    zeros = node("Mul", column, weight("zero", np.int32(0)), output="zeros")
    node("Add", zeros, weight("ids", np.array([ids], np.int32)), output="keyword_ids")
    floats = node("Cast", zeros, output="float_zeros", to=TensorProto.FLOAT)
    node("Add", floats, weight("scores", np.array([scores], np.float32)), output="keyword_scores")
    outputs = [("keyword_ids", TensorProto.INT32, most), ("keyword_scores", TensorProto.FLOAT, most)]
    if timed:
        edges = node("Min", column, weight("edges", np.arange(most + 1, dtype=np.int32)[None]), output="quarter_edges")
        edges = node("Cast", edges, output="edges_float", to=TensorProto.FLOAT)
        node("Mul", edges, weight("seconds", np.float32(0.25)), output="boundaries")
        outputs.append(("boundaries", TensorProto.FLOAT, most + 1))
    for name, kind, size in outputs:
        graph.output.append(helper.make_tensor_value_info(name, kind, ["batch", size]))
    graph.output.append(helper.make_tensor_value_info("keyword_count", TensorProto.INT32, ["batch"]))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
