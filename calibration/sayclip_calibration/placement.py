"""Which layers of an encoder become int8, and why the others do not.

A layer is a Conv, MatMul or Gemm with a constant weight; its input is quantised, not its output, so LayerNorm, softmax,
GELU, residual sums and attention's own products stay in float. So do layers with fewer than 16 output channels or
fewer than 16 products per output value, the final projection, a log-mel front written as layers, and what a comparison
is made of: it decides by small differences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from sayclip.errors import InputError

from .graph import GraphView, attributes

LAYERS = ("Conv", "MatMul", "Gemm")
FRONT_PREFIX = "front."  # weights of a signal front that is written as layers: DFT basis, mel filter bank
OUT = ".out"
SMALLEST_SIDE = 16  # below this an int8 kernel pads more than it computes
_MOVERS = frozenset({"Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool", "Pad"})
_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"})
_SIZES = frozenset({"Shape", "Size"})  # which hang on no value
_NONLINEAR = frozenset({"Softmax", "LayerNormalization", "Erf", "Gelu", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu"})


@dataclass(frozen=True)
class Site:
    """One layer to quantise.

    ``axis`` is the weight's output channel axis as the layer reads it; ``reduction`` the number of products summed
    into one output value; ``channels`` the number of output channels.
    """

    node: str
    op: str
    activation: str
    output: str
    weight: str
    axis: int
    reduction: int
    channels: int
    readers: tuple[str, ...] = ()
    """Layers that take this one's output as it is."""


@dataclass(frozen=True)
class Placement:
    """The decision for a whole graph."""

    sites: tuple[Site, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    """Every other Conv, MatMul and Gemm by node name, with the reason it stays in float."""
    unmatched: tuple[str, ...] = ()
    """Entries of ``exclude`` that named no node."""
    conv_outputs: bool = False
    float_outputs: frozenset[str] = frozenset()
    """Outputs of convolutions that stay in float all the same."""

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(site.node for site in self.sites)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Conv outputs to quantise too.

        Not where a float layer reads one: between a DequantizeLinear and a QuantizeLinear, ONNX Runtime would turn that
        layer's weights to int8 by itself.
        """
        layers = set(self.nodes)
        convs = (site for site in self.sites if self.conv_outputs and site.op == "Conv")
        outputs = (site.output for site in convs if layers.issuperset(site.readers))
        return tuple(output for output in outputs if output not in self.float_outputs)

    @property
    def parts(self) -> tuple[str, ...]:
        """What can be given back: layers by node name, and quantised outputs as ``<tensor>.out``."""
        return (*self.nodes, *(f"{output}{OUT}" for output in self.outputs))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activations that need a range, each once, in graph order."""
        return tuple(dict.fromkeys([*(site.activation for site in self.sites), *self.outputs]))

    def without(self, nodes: Sequence[str], reason: str) -> Placement:
        """The same placement with some of its ``parts`` given back to float."""
        given = set(nodes)
        away = {site.node: reason for site in self.sites if site.node in given}
        sites = tuple(site for site in self.sites if site.node not in away)
        bare = self.float_outputs | {name[: -len(OUT)] for name in given if name.endswith(OUT)}
        return Placement(sites, {**self.skipped, **away}, self.unmatched, self.conv_outputs, bare)


def place(
    model: ModelProto, exclude: Sequence[str] = (), *, output: str = "embedding", conv_outputs: bool = False
) -> Placement:
    """Decide which layers of ``model`` are quantised.

    ``exclude`` names nodes to leave in float, exactly or by a regular expression that matches the whole name;
    ``output`` is the graph output that the final projection leads to (the first output where the graph has no such
    name). ``conv_outputs`` also quantises what quantised convolutions give: ONNX Runtime runs integer convolutions
    only then. Raises InputError for an ``exclude`` entry that is no regular expression.
    """
    view = GraphView(model)
    excluded, unmatched = _match(exclude, list(view.nodes))
    front = signal_front(view)
    final = _final_projection(view, output)
    deciding = _deciding(view)
    sites: list[Site] = []
    skipped: dict[str, str] = {}
    for name, node in view.nodes.items():
        if node.op_type not in LAYERS:
            continue
        found = _site(view, name, node)
        if isinstance(found, str):
            skipped[name] = found
        elif name in excluded:
            skipped[name] = "excluded by name"
        elif name in front:
            skipped[name] = "signal front"
        elif name == final:
            skipped[name] = "final projection"
        elif min(found.reduction, found.channels) < SMALLEST_SIDE:
            skipped[name] = f"too thin: {found.reduction} products, {found.channels} channels"
        elif name in deciding:
            skipped[name] = "decides"
        else:
            sites.append(found)
    return Placement(tuple(sites), skipped, unmatched, conv_outputs)


def _site(view: GraphView, name: str, node: NodeProto) -> Site | str:
    """The layer a node is, or why it cannot be one."""
    activation, weight = node.input[0], node.input[1]
    if not view.is_constant(weight):
        return "no constant weight"
    if view.is_constant(activation):
        return "no activation"
    value = view.constant(weight)
    if value.dtype != np.float32:
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        return f"weight is {TensorProto.DataType.Name(kind)}, not FLOAT"
    values, shape = attributes(node), value.shape
    if node.op_type == "Conv":
        reduction = 1
        for size in shape[1:]:
            reduction *= size
        readers = _readers(view, node.output[0])
        return Site(name, "Conv", activation, node.output[0], weight, 0, reduction, shape[0], readers)
    if len(shape) != 2:
        return f"weight has {len(shape)} axes, wanted 2"
    if values.get("transA"):
        return "input is transposed"
    axis = 0 if values.get("transB") else 1
    return Site(name, node.op_type, activation, node.output[0], weight, axis, shape[1 - axis], shape[axis])


def _readers(view: GraphView, tensor: str) -> tuple[str, ...]:
    """Layers that read a tensor directly, or through nodes that only move values."""
    found: list[str] = []
    for name, node in view.nodes.items():
        if node.input and node.input[0] == tensor:
            if node.op_type in LAYERS or node.op_type == "ConvTranspose":
                found.append(name)
            elif node.op_type in _MOVERS:
                found.extend(_readers(view, node.output[0]))
    return tuple(found)


def _match(exclude: Sequence[str], names: Sequence[str]) -> tuple[set[str], tuple[str, ...]]:
    excluded: set[str] = set()
    unmatched: list[str] = []
    for entry in exclude:
        try:
            pattern = re.compile(entry)
        except re.error as error:
            problem = f"exclude entry {entry!r} is no regular expression ({error})"
            raise InputError(problem, "give an exact node name or a pattern that matches whole names") from error
        hits = {name for name in names if name == entry or pattern.fullmatch(name)}
        excluded |= hits
        if not hits:
            unmatched.append(entry)
    return excluded, tuple(unmatched)


def signal_front(view: GraphView) -> set[str]:
    """Layers of a log-mel front: by the name of their weight, and whatever leads to a logarithm linearly."""
    found: set[str] = set()
    for name, node in view.nodes.items():
        if node.op_type in LAYERS:
            weight = view.origin(node.input[1])
            if weight.startswith(FRONT_PREFIX) or f".{FRONT_PREFIX}" in weight:
                found.add(name)
        elif node.op_type == "Log":
            before = view.ancestors(node.input)
            # A logarithm deep inside the encoder would take all of it along: only one above raw signal counts.
            if not any(view.nodes[other].op_type in _NONLINEAR for other in before):
                found |= {other for other in before if view.nodes[other].op_type in LAYERS}
    return found


def _deciding(view: GraphView) -> set[str]:
    """Layers that a comparison depends on with no other product between, and those that serve these alone.

    A boundary detector's net: its last layer is compared by, and nothing else reads the others.
    """
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [tensor for node in view.nodes.values() if node.op_type in _COMPARISONS for tensor in node.input]
    names = {output: name for name, node in view.nodes.items() for output in node.output}
    while waiting:
        name = names.get(waiting.pop())
        if name is None or name in seen or view.nodes[name].op_type in _SIZES:
            continue
        seen.add(name)
        if view.nodes[name].op_type in LAYERS:
            found.add(name)
        else:
            waiting.extend(view.nodes[name].input)
    return found | _serving(view, found)


def _serving(view: GraphView, deciding: set[str]) -> set[str]:
    """Layers of which nothing is read but by layers that decide and do nothing else."""
    readers: dict[str, list[str]] = {}
    for name, node in view.nodes.items():
        for tensor in node.input:
            readers.setdefault(tensor, []).append(name)
    alone = {name for name in deciding if _next_layers(view, name, readers) == set()}
    for name in reversed(list(view.nodes) if alone else []):
        if view.nodes[name].op_type in LAYERS:
            read_by = _next_layers(view, name, readers)
            if read_by and read_by <= alone:
                alone.add(name)
    return alone


def _next_layers(view: GraphView, name: str, readers: Mapping[str, Sequence[str]]) -> set[str] | None:
    """The layers that read what a node gives, with no other and no comparison between; None where an output does."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(view.nodes[name].output)
    while waiting:
        tensor = waiting.pop()
        if tensor in view.outputs:
            return None
        for reader in readers.get(tensor, ()):
            if reader not in seen:
                seen.add(reader)
                if view.nodes[reader].op_type in LAYERS:
                    found.add(reader)
                elif view.nodes[reader].op_type not in _COMPARISONS:
                    waiting.extend(view.nodes[reader].output)
    return found


def _final_projection(view: GraphView, output: str) -> str | None:
    """The last MatMul or Gemm with a constant weight that the embedding depends on."""
    target = output if output in view.outputs else view.outputs[0]
    before = view.ancestors([target])
    last = None
    for name, node in view.nodes.items():
        if name in before and node.op_type in ("MatMul", "Gemm") and view.is_constant(node.input[1]):
            last = name
    return last
