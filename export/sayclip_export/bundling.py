"""Writes encoders into a bundle: references, file entries and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sayclip.bundle.entries import EncoderEntry, GraphEntry, Preprocessing, Reference, TensorSpec
from sayclip.bundle.files import describe_file
from sayclip.sessions.onnxruntime import import_onnxruntime
from sayclip_export.graphs import Feeds

TOLERANCE = {"fp32": 1e-4, "int8": 0.99, "int8-u8": 0.99}
_DTYPES: dict[int, str] = {
    int(onnx.TensorProto.FLOAT): "float32",
    int(onnx.TensorProto.INT32): "int32",
    int(onnx.TensorProto.INT64): "int64",
}


def write_reference(folder: Path, name: str, feed: Feeds) -> str:
    """Write ``<name>.reference.npz``: a batch of real inputs and what the fp32 graph makes of them."""
    session = import_onnxruntime().InferenceSession(
        str(folder / f"{name}.fp32.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feed), strict=True))
    arrays: dict[str, Any] = {f"input.{key}": value for key, value in feed.items()}
    arrays |= {f"output.{key}": value for key, value in outputs.items()}
    file = f"{name}.reference.npz"
    np.savez_compressed(folder / file, **arrays)
    return file


def describe_graph(folder: Path, file: str, data: Sequence[str] = ()) -> GraphEntry:
    """The manifest's entry of one graph, its inputs and outputs read from the graph itself."""
    graph = onnx.load(str(folder / file), load_external_data=False).graph
    own = describe_file(folder, file)
    return GraphEntry(
        own.file,
        own.sha256,
        own.bytes,
        tuple(describe_file(folder, name) for name in data),
        tuple(_tensor(value) for value in graph.input),
        tuple(_tensor(value) for value in graph.output),
    )


def describe_encoder(
    folder: Path,
    name: str,
    space: str,
    width: int,
    graphs: Mapping[str, GraphEntry],
    preprocessing: Preprocessing,
    reference: str,
    provenance: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> EncoderEntry:
    """The manifest's entry of one encoder."""
    file = describe_file(folder, reference)
    tolerance = {precision: TOLERANCE[precision] for precision in graphs}
    return EncoderEntry(
        space=space,
        width=width,
        graphs=dict(graphs),
        preprocessing=preprocessing,
        reference=Reference(file.file, file.sha256, file.bytes, tolerance),
        provenance=provenance,
        measured=measured,
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(value.name, _DTYPES[int(kind.elem_type)], shape)
