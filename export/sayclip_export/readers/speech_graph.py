"""A speech tower out of the fp32 graph that export made of it, so that other heads can be put on its frames.

As for text (``text_graph``), the order of convolutions, norms and products tells which constant is what, and what no
constant tells (heads) is found by trying. The demo's graph holds a phonetic branch beside the tower; it is recovered
too, for a tower is taken only if the whole gives what the graph gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import nn

from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip_export.models.phonetic import PhoneticBranch, PhoneticConfig, SpeechEncoder
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.readers.text_graph import TOLERANCE
from sayclip_export.speechclip_export import sample_waves, wave_feed

Array = NDArray[np.float32]
Pair = tuple[Array, Array]  # weight [out,in] and bias [out], or scale and shift of a norm

_LAYER = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "expand", "contract")
_HEAD = (*_LAYER[:4], "linear1", "linear2")
_USUAL = (8, 4, 16, 2, 1, 6, 12)  # counts of heads


@dataclass(frozen=True)
class Parts:
    """What a graph computes with, in its order. ``linear``: products with a bias, and the tensor that each reads.

    ``mixture``: the weights of the states f32 [L+1]; ``states``: the tensors that they weigh. ``cls``: the token.
    """

    convs: list[Pair]
    norms: list[Pair]
    linear: list[tuple[Array, Array, str]]
    mixture: Array
    states: list[str]
    cls: Array


def recover(path: Path, sizes: Mapping[str, Any] | None = None) -> SpeechTower | None:
    """The tower, in evaluation mode, of the graph at ``path``, or None where it is no such graph.

    ``sizes``: what the bundle says of it, if it does. The tower's shortcut is folded, see ``Pools.fold``.
    """
    try:
        found = parts(onnx.load(str(path)))
        config, branch = _sizes(found)
    except (KeyError, ValueError, IndexError):
        return None
    sizes = sizes or {}
    session = OnnxRuntimeSession(path)
    try:
        for heads, head_heads in itertools.product(
            _counts(config, sizes, "heads"), _counts(config, sizes, "head_heads")
        ):
            try:
                module = _filled(replace(config, heads=heads, head_heads=head_heads), branch, found)
            except (RuntimeError, ValueError, IndexError):  # shapes that do not go together
                return None
            if _agrees(module, session):
                return module if isinstance(module, SpeechTower) else module.tower
    finally:
        session.close()
    return None


def parts(model: ModelProto) -> Parts:
    """What ``model`` computes with. Raises KeyError, ValueError or IndexError where it is not laid out so."""
    graph = model.graph
    constants: dict[str, NDArray[Any]] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    }
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:  # stored as halves
            constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
    producers = {name: node for node in graph.node for name in node.output}
    added = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    convs: list[Pair] = []
    norms: list[Pair] = []
    linear: list[tuple[Array, Array, str]] = []
    mixtures: list[NodeProto] = []
    for node in graph.node:
        known = [constants[name] for name in node.input[1:] if name in constants]
        if node.op_type == "Conv" and len(known) == 2:
            convs.append((known[0], known[1]))
        elif node.op_type == "LayerNormalization" and len(known) == 2:
            norms.append((known[0], known[1]))
        elif node.op_type == "Gemm" and len(known) == 2:
            linear.append((known[0], known[1], node.input[0]))  # exported with transB
        elif node.op_type == "MatMul" and known and known[0].ndim == 1:
            mixtures.append(node)
        elif node.op_type == "MatMul" and known:
            bias = [name for name in getattr(added.get(node.output[0]), "input", ()) if name in constants]
            if bias:
                linear.append((known[0].T, constants[bias[0]], node.input[0]))
    [mixture] = mixtures
    stacked = [producers[name] for name in producers[mixture.input[0]].input]
    states = [producers[node.input[0]].input[0] for node in stacked]  # behind a norm and an axis more
    [cls] = [value for name, value in constants.items() if name.removesuffix(".fp16").endswith("head.cls")]
    return Parts(convs, norms, linear, constants[mixture.input[1]], states, cls)


def _sizes(found: Parts) -> tuple[SpeechConfig, PhoneticConfig | None]:
    """Sizes of the tower, heads apart, and of the phonetic branch where there is one."""
    layers = len(found.mixture) - 1
    linear = found.linear
    head = 6 * layers
    config = SpeechConfig(
        mels=found.convs[0][0].shape[1],
        width=found.convs[0][0].shape[0],
        layers=layers,
        hidden=len(linear[4][1]),
        head_hidden=len(linear[head + 4][1]),
        embedding=len(linear[head + 6][1]),
        pools=len(linear[head + 7][1]),
    )
    rest = linear[head + 9 :]
    if not rest:
        return config, None
    phonemes, first, pools = len(rest[0][1]), rest[1][0], rest[-2]
    config = replace(config, phonemes=phonemes, phoneme_layer=found.states.index(rest[0][2]))
    kernel = first.shape[1] // (phonemes - 1)
    branch = PhoneticConfig(
        phonemes, first.shape[0], (len(rest) - 4) // 2, kernel, len(pools[1]), embedding=config.embedding
    )
    return config, branch


def _filled(config: SpeechConfig, branch: PhoneticConfig | None, found: Parts) -> SpeechTower | SpeechEncoder:
    """The module with its weights, in evaluation mode. Raises RuntimeError where a shape is another."""
    tower = SpeechTower(config)
    module = tower if branch is None else SpeechEncoder(tower, PhoneticBranch(branch))
    module.fold()
    prefix = "" if branch is None else "tower."
    names = [f"{prefix}{name}" for name in _linear_names(config)]
    norms = [f"{prefix}{name}" for name in _norm_names(config)]
    if branch is not None:
        names += ["tower.phonemes", "branch.first.linear"]
        for i in range(branch.layers):
            names += [f"branch.layers.{i}.expand.linear", f"branch.layers.{i}.contract"]
            norms += [f"branch.layers.{i}.norm"]
        names += ["branch.pools.weights", "branch.pools.projection"]
    convs = [f"{prefix}{name}" for name in ("conv_1", "conv_2", "position")]
    state = {
        f"{prefix}layer_weights": torch.from_numpy(np.log(found.mixture)),
        f"{prefix}head.cls": torch.tensor(found.cls),
    }
    linear = [(weight, bias) for weight, bias, _ in found.linear]
    for called, given in ((names, linear), (norms, found.norms), (convs, found.convs)):
        for name, (weight, bias) in zip(called, given, strict=True):
            state[f"{name}.weight"] = torch.from_numpy(np.array(weight, np.float32))
            state[f"{name}.bias"] = torch.from_numpy(np.array(bias, np.float32))
    module.load_state_dict(state)
    return module.eval()


def _linear_names(config: SpeechConfig) -> Iterator[str]:
    for i in range(config.layers):
        yield from (f"layers.{i}.{name}" for name in _LAYER)
    yield from (f"head.{name}" for name in _HEAD)
    yield from ("head.projection", "shortcut.weights", "shortcut.projection")


def _norm_names(config: SpeechConfig) -> Iterator[str]:
    yield from ("ln_1", "ln_2")
    for i in range(config.layers):
        yield from (f"layers.{i}.ln_1", f"layers.{i}.ln_2")
    yield from ("head.norm1", "head.norm2", "head.norm")


def _counts(config: SpeechConfig, sizes: Mapping[str, Any], name: str) -> list[int]:
    given = sizes.get(name)
    counts: Sequence[int] = [given] if isinstance(given, int) and not isinstance(given, bool) else []
    usual = (getattr(config, name), *_USUAL)  # the default first
    return list(dict.fromkeys(n for n in (*counts, *usual) if 0 < n <= config.width and config.width % n == 0))


def _agrees(module: nn.Module, session: OnnxRuntimeSession) -> bool:
    feed = wave_feed(sample_waves())
    wanted = session.run(feed)["embedding"]
    with torch.inference_mode():
        given = module(*(torch.from_numpy(value) for value in feed.values())).numpy()
    return given.shape == wanted.shape and float(np.abs(given - wanted).max()) <= TOLERANCE
