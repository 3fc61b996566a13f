"""Folders of ``optimum-cli export onnx``: weights out of an ONNX graph, and the graph to hold them against.

torch's exporter leaves parameters under their names, equal ones as an Identity of the first. Weights of a product are
transposed and lose theirs, but the node keeps the module's: ``/text_model/encoder/layers.0/mlp/fc1/MatMul``. So do
those of a group norm, ``…/layer_norm/Mul`` and ``…/layer_norm/Add`` behind its InstanceNormalization.
(Checked with optimum 2.1, optimum-onnx 0.1 and transformers 4.57.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from sayclip.sessions.onnxruntime import import_onnxruntime
from sayclip_export.models.clip import ClipImage, ClipText
from sayclip_export.readers.errors import refuse

GRAPH = "model.onnx"
_NORM = {"Mul": "weight", "Add": "bias"}
_TOLERANCE = 1e-4  # between the graph and the towers that its weights went into
_REMEDY = (
    "export it again by `optimum-cli export onnx --model … --task feature-extraction`, without --optimize, in fp32"
)


def read_graph(path: Path) -> dict[str, Tensor]:
    """Every parameter of the graph ``path`` by its name in the torch model. Raises CheckpointError."""
    try:
        graph = onnx.load(str(path)).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except MemoryError:
        raise
    except Exception as error:  # what protobuf, onnx and numpy raise for a damaged file has no common class
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise refuse(f"{path} is damaged or no ONNX graph ({reason})", _REMEDY) from None
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or "Linear" in node.op_type or "Integer" in node.op_type:
            raise refuse(f"{path} has the operator {node.op_type}, so it was optimised or quantised", _REMEDY)
    found = {name: value for name, value in constants.items() if not name.startswith(("onnx::", "/"))}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            found[node.output[0]] = constants[node.input[0]]
        elif node.op_type == "MatMul" and node.input[1] in constants and node.name.endswith("/MatMul"):
            module = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
            found[f"{module}.weight"] = constants[node.input[1]].T
        elif node.op_type in _NORM and node.name.endswith(f"/layer_norm/{node.op_type}"):
            module = node.name.removesuffix(f"/{node.op_type}").strip("/").replace("/", ".")
            found |= {f"{module}.{_NORM[node.op_type]}": constants[i].ravel() for i in node.input if i in constants}
    return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}


def data_files(path: Path) -> list[Path]:
    """Files beside ``path`` that hold its weights, where one file could not."""
    return sorted(file for file in path.parent.glob(f"{path.name}_data*") if file.is_file())


def hold(path: Path, image: ClipImage, text: ClipText, end: int) -> None:
    """Run the graph ``path`` beside the towers that its weights went into, on noise and on random ids before ``end``.

    Raises as ``hold_outputs``.
    """
    rng = np.random.default_rng(0)
    size, context = image.config.size, text.config.context
    ids = rng.integers(0, text.config.vocabulary, (3, min(9, context)))
    ids[ids == end] = 0
    ids[:, -1] = end
    pixels = rng.standard_normal((2, 3, size, size), np.float32)
    feeds: dict[str, NDArray[Any]] = {"input_ids": ids, "attention_mask": np.ones_like(ids), "pixel_values": pixels}
    length = torch.full((len(ids),), ids.shape[1], dtype=torch.int32)
    with torch.inference_mode():
        ours: dict[str, NDArray[Any]] = {
            "image_embeds": image(torch.from_numpy(pixels)).numpy(),
            "text_embeds": text(torch.from_numpy(ids.astype(np.int32)), length).numpy(),
        }
    hold_outputs(path, feeds, ours)


def hold_outputs(path: Path, feeds: Mapping[str, NDArray[Any]], ours: Mapping[str, NDArray[Any]]) -> None:
    """Run the graph ``path`` on those of ``feeds`` that it takes, and compare its outputs with ``ours``.

    Raises CheckpointError where one differs by more than 1e-4.
    """
    theirs = _run(path, feeds, list(ours))
    for name, wanted in ours.items():
        if theirs[name].shape != wanted.shape or not np.abs(theirs[name] - wanted).max() <= _TOLERANCE:
            raise refuse(f"{path}: {name} differs from what its own weights give by more than {_TOLERANCE:g}", _REMEDY)


def _run(path: Path, feeds: Mapping[str, NDArray[Any]], outputs: list[str]) -> dict[str, NDArray[Any]]:
    try:
        session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
        wanted = {value.name for value in session.get_inputs()}
        given = {name: value for name, value in feeds.items() if name in wanted}
        return dict(zip(outputs, session.run(outputs, given), strict=True))
    except Exception as error:  # what ONNX Runtime raises for a graph it does not like has no common class
        raise refuse(f"{path} does not run ({str(error).splitlines()[0][:160]})", _REMEDY) from None
