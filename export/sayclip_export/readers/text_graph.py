"""A text tower out of the fp32 graph that export made of it, so that a student can start from its weights.

Names do not tell: weights of a Linear become transposed constants without one, and of equal constants one stands for
all. The order of products and norms does. What no constant tells (heads, activation) is found by trying: a tower is
taken only if it gives what the graph gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor

from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip_export.models.layers import ACTIVATIONS
from sayclip_export.models.text import TextConfig, TextTower

TOLERANCE = 1e-4  # between the graph and the tower that its weights went into
_NAMED = ("token_embedding.weight", "positional_embedding", "projection.weight")
_LINEAR = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "mlp.0", "mlp.2")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_HEAD_WIDTHS = (64, 32, 80, 96, 128, 48, 16, 8)  # the usual ones first


def recover(path: Path, sizes: Mapping[str, Any]) -> TextTower | None:
    """The tower whose graph ``path`` is, in evaluation mode, or None where it is no such graph.

    ``sizes``: what the bundle says of it, which may be nothing.
    """
    model = onnx.load(str(path))
    state = parameters(model)
    try:
        table, positions = state["token_embedding.weight"], state["positional_embedding"]
        embedding, hidden = state["projection.weight"].shape[0], state["blocks.0.mlp.0.bias"].shape[0]
        layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        eps = next(_epsilons(model))
    except (KeyError, ValueError, IndexError, StopIteration):
        return None
    vocabulary, width = table.shape
    session = OnnxRuntimeSession(path)
    try:
        for heads in _head_counts(width, sizes):
            for activation in ACTIVATIONS:
                config = TextConfig(
                    *(vocabulary, width, layers, heads, hidden, positions.shape[0], embedding),
                    activation=activation,
                    eps=eps,
                )
                tower = TextTower(config).eval()
                if {name: value.shape for name, value in tower.state_dict().items()} != {
                    name: value.shape for name, value in state.items() if name in tower.state_dict()
                }:
                    return None
                tower.load_state_dict(state, strict=False)
                if _agrees(tower, session):
                    return tower
    finally:
        session.close()
    return None


def parameters(model: ModelProto) -> dict[str, Tensor]:
    """Every parameter of a tower under the name it has in the torch model, f32, as far as ``model`` is laid out so."""
    graph = model.graph
    constants: dict[str, NDArray[Any]] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type in _FLOATS
    }
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:  # stored as halves
            constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
    added = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    linear: list[tuple[NDArray[Any], NDArray[Any]]] = []
    norms: list[tuple[NDArray[Any], NDArray[Any]]] = []
    found = {name: constants[name] for name in _NAMED if name in constants}
    for node in graph.node:
        if node.op_type == "LayerNormalization" and all(name in constants for name in node.input[1:]):
            norms.append((constants[node.input[1]], constants[node.input[2]]))
        elif node.op_type == "MatMul" and node.input[1] in constants:
            bias = [name for name in getattr(added.get(node.output[0]), "input", ()) if name in constants]
            if bias:
                linear.append((constants[node.input[1]].T, constants[bias[0]]))
            else:
                found.setdefault("projection.weight", constants[node.input[1]].T)
    layers = len(linear) // len(_LINEAR)
    if len(norms) == 2 * layers + 2:  # the last layer's first is computed for the end of text, and for all
        del norms[2 * layers - 1]
    for layer in range(layers):
        parts = dict(zip(_LINEAR, linear[len(_LINEAR) * layer :], strict=False))
        parts |= dict(zip(("ln_1", "ln_2"), norms[2 * layer :], strict=False))
        for name, (weight, bias_of) in parts.items():
            found |= {f"blocks.{layer}.{name}.weight": weight, f"blocks.{layer}.{name}.bias": bias_of}
    if norms:
        found |= {"ln_final.weight": norms[-1][0], "ln_final.bias": norms[-1][1]}
    return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in found.items()}


def _epsilons(model: ModelProto) -> Iterator[float]:
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            given = [attribute.f for attribute in node.attribute if attribute.name == "epsilon"]
            yield round(given[0], 12) if given else 1e-5


def _head_counts(width: int, sizes: Mapping[str, Any]) -> list[int]:
    given = sizes.get("heads")
    counts = [given] if isinstance(given, int) and not isinstance(given, bool) else []
    counts += [width // each for each in _HEAD_WIDTHS]
    return list(dict.fromkeys(heads for heads in counts if 0 < heads <= width and width % heads == 0))


def _agrees(tower: TextTower, session: OnnxRuntimeSession) -> bool:
    rng = np.random.default_rng(0)
    config = tower.config
    count = min(12, config.context)
    ids = rng.integers(0, config.vocabulary, (3, count)).astype(np.int32)
    length = np.array([count, max(2, count // 2), max(2, count - 1)], np.int32)
    wanted = session.run({"token_ids": ids, "length": length})["embedding"]
    with torch.inference_mode():
        given = tower(torch.from_numpy(ids), torch.from_numpy(length)).numpy()
    return given.shape == wanted.shape and float(np.abs(given - wanted).max()) <= TOLERANCE
