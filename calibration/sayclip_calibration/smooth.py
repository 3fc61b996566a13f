"""SmoothQuant: outlying channels of an activation made smaller and the weights that read them larger.

Xiao et al. 2023, arXiv 2211.10438: channel j of an activation is divided by ``s_j = a_j^alpha / w_j^(1 - alpha)`` with
a_j and w_j its and its weights' largest magnitudes, and the weights' row j is multiplied by it. The division costs
nothing where it can be folded: into the gain and bias of a LayerNormalization, or, for what attention gives, into the
value projection before it. A norm that others read as well (post-norm transformers) gets a twin for its layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from .graph import GraphView, prune
from .layers import best_threshold, matrix
from .placement import Placement, Site
from .statistics import Statistics

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GAIN = 0.95  # a group is smoothed only where that lowers its layers' squared error by a twentieth or more
_LIMIT = 1e3  # largest ratio of two channels' factors: beyond it fp16 weights would lose their small rows
_METHODS = ("minmax", "mse")  # enough to tell exponents apart
_MOVERS = ("Reshape", "Transpose", "Identity")


@dataclass(frozen=True)
class Group:
    """Layers that read one activation, and where its channels can be divided for nothing."""

    activation: str
    sites: tuple[Site, ...]
    norm: str = ""
    """Name of the LayerNormalization that makes the activation."""
    value: str = ""
    """Name of the projection whose output attention mixes into the activation."""
    shared: bool = False
    """Whether others than ``sites`` read the activation."""


def groups(view: GraphView, placement: Placement) -> list[Group]:
    """Every activation of ``placement`` that can be smoothed, in the order of the graph."""
    name_of = {id(node): name for name, node in view.nodes.items()}
    readers: dict[str, list[str]] = {}
    for name, node in view.nodes.items():
        for tensor in node.input:
            readers.setdefault(tensor, []).append(name)
    by_activation: dict[str, list[Site]] = {}
    for site in placement.sites:
        if site.op != "Conv":
            by_activation.setdefault(site.activation, []).append(site)
    found = []
    for activation, sites in by_activation.items():
        node = view.producers.get(activation)
        if node is None:
            continue
        shared = activation in view.outputs or set(readers[activation]) != {site.node for site in sites}
        if node.op_type == "LayerNormalization" and all(view.is_constant(name) for name in node.input[1:] if name):
            found.append(Group(activation, tuple(sites), norm=name_of[id(node)], shared=shared))
        elif not shared and (value := _value_projection(view, node, readers)):
            found.append(Group(activation, tuple(sites), value=value))
    return found


def _value_projection(view: GraphView, node: NodeProto, readers: Mapping[str, list[str]]) -> str:
    """The MatMul with constant weight whose output attention mixes into what ``node`` gives, or nothing.

    From the output of attention, over nodes that move values, to the product of weights and values, and over the same
    to the values' projection. Nothing but these may read what lies between, or it would be changed too.
    """
    mixed = _before(view, node.output[0], readers)
    if mixed is None or mixed.op_type != "MatMul" or view.is_constant(mixed.input[1]):
        return ""
    weights = view.producers.get(mixed.input[0])
    if weights is None or weights.op_type != "Softmax":
        return ""
    added = _before(view, mixed.input[1], readers)
    if added is None or added.op_type != "Add" or len(readers[added.output[0]]) != 1:
        return ""
    inner = [name for name in added.input if not view.is_constant(name)]
    bias = [name for name in added.input if view.is_constant(name)]
    if len(inner) != 1 or view.constant(bias[0]).ndim != 1:
        return ""
    product = view.producers.get(inner[0])
    if product is None or product.op_type != "MatMul" or not view.is_constant(product.input[1]):
        return ""
    if view.constant(product.input[1]).shape[-1:] != view.constant(bias[0]).shape or len(readers[inner[0]]) != 1:
        return ""
    return next(name for name, other in view.nodes.items() if other is product)


def _before(view: GraphView, tensor: str, readers: Mapping[str, list[str]]) -> NodeProto | None:
    node = view.producers.get(tensor)
    while node is not None and node.op_type in _MOVERS:
        tensor = node.input[0]
        if len(readers[tensor]) != 1:
            return None
        node = view.producers.get(tensor)
    return node


@dataclass(frozen=True)
class Smoothing:
    """What one group is divided by, f32 [C], and the exponent that gave it."""

    group: Group
    alpha: float
    factors: NDArray[np.float32]


def choose(view: GraphView, found: Sequence[Group], statistics: Mapping[str, Statistics]) -> list[Smoothing]:
    """The exponent of each group that lowers the error of its layers on the kept rows most; groups it helps only."""
    chosen = []
    for group in found:
        seen = statistics[group.activation]
        if seen.channels is None or not np.any(seen.channels):
            continue
        weights = [matrix(view, site) for site in group.sites]
        rows = seen.rows
        wanted = [rows @ weight for weight in weights]
        plain = best_threshold(rows, seen.channels, weights, wanted, methods=_METHODS).error
        best = Smoothing(group, 0.0, np.ones_like(seen.channels))
        least = plain * GAIN
        for alpha in ALPHAS:
            factors = _factors(seen.channels, weights, alpha)
            scaled = [weight * factors[:, None] for weight in weights]
            seen_so = seen.channels / factors
            error = best_threshold(rows / factors, seen_so, scaled, wanted, methods=_METHODS).error
            if error < least:
                best, least = Smoothing(group, alpha, factors), error
        if best.alpha:
            chosen.append(best)
    return chosen


def _factors(
    channels: NDArray[np.float32], weights: Sequence[NDArray[np.float32]], alpha: float
) -> NDArray[np.float32]:
    largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0).astype(np.float64)
    seen = channels.astype(np.float64)
    silent = (largest == 0) | (seen == 0)
    largest[silent] = seen[silent] = 1.0
    factors = seen**alpha / largest ** (1 - alpha)
    factors[silent] = np.median(factors)
    factors /= np.exp(np.mean(np.log(factors)))
    limited: NDArray[np.float32] = np.clip(factors, _LIMIT**-0.5, _LIMIT**0.5).astype(np.float32)
    return limited


def apply(model: ModelProto, smoothings: Sequence[Smoothing]) -> ModelProto:
    """A copy of ``model`` that computes the same with smoothed activations; nodes keep their names."""
    smoothed = ModelProto()
    smoothed.CopyFrom(model)
    view = GraphView(model)
    new = {name: node for name, node in zip(view.nodes, smoothed.graph.node, strict=True)}
    current: dict[str, NDArray[np.float32]] = {}  # a value projection is smoothed twice, at its input and its output

    def constant(name: str) -> NDArray[np.float32]:
        return current[name] if name in current else view.constant(name)

    def put(node: NodeProto, index: int, value: NDArray[np.float32]) -> None:
        name = f"{node.input[index]}.smoothed.{len(current)}"
        current[name] = value.astype(np.float32)
        node.input[index] = name

    twins: dict[str, NodeProto] = {}
    for smoothing in smoothings:
        group, factors = smoothing.group, smoothing.factors
        for site in group.sites:
            rows = factors[:, None] if site.axis == 1 else factors[None, :]
            put(new[site.node], 1, constant(new[site.node].input[1]) * rows)
        if group.value:
            product = new[group.value]
            put(product, 1, constant(product.input[1]) / factors)
            added = next(node for node in smoothed.graph.node if product.output[0] in node.input)
            index = 1 - list(added.input).index(product.output[0])
            put(added, index, constant(added.input[index]) / factors)
            continue
        norm = new[group.norm]
        if group.shared:
            twin = NodeProto()
            twin.CopyFrom(norm)
            twin.name, twin.output[0] = f"{group.norm}.smoothed", f"{group.activation}.smoothed"
            twins[group.norm] = twin
            for site in group.sites:
                new[site.node].input[0] = twin.output[0]
            norm = twin
        for index in range(1, len([name for name in norm.input if name])):
            put(norm, index, constant(norm.input[index]) / factors)
    nodes: list[NodeProto] = []
    for name, node in new.items():
        nodes.append(node)
        if name in twins:
            nodes.append(twins[name])
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # a list that is emptied frees its own
    del smoothed.graph.node[:]
    smoothed.graph.node.extend(copies)
    smoothed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in current.items())
    prune(smoothed)
    return smoothed
