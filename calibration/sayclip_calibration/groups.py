"""Activations whose channels can be moved and scaled before they are rounded, and the layers that read each.

It costs nothing in a LayerNormalization, whose gain and bias take it in, and for what attention gives, whose mean
over values with weights that sum to 1 lets the values' projection take it in. Elsewhere it takes a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto

from .graph import GraphView
from .placement import Placement, Site

_MOVERS = ("Reshape", "Transpose", "Identity")


@dataclass(frozen=True)
class Group:
    """Layers that read one activation, and where its channels can be changed for nothing; else a node does it."""

    activation: str
    sites: tuple[Site, ...]
    norm: str = ""
    """Name of the LayerNormalization that makes the activation."""
    value: str = ""
    """Name of the projection whose output attention mixes into the activation."""
    shared: bool = False
    """Whether others than ``sites`` read the activation."""


def groups(view: GraphView, placement: Placement) -> list[Group]:
    """Every activation that matrix products of ``placement`` read, in the order of the graph."""
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
        shared = activation in view.outputs or set(readers[activation]) != {site.node for site in sites}
        norm = value = ""
        if node is not None and node.op_type == "LayerNormalization":
            norm = name_of[id(node)] if all(view.is_constant(name) for name in node.input[1:] if name) else ""
        elif node is not None and not shared:
            value = _value_projection(view, node, readers)
        found.append(Group(activation, tuple(sites), norm, value, shared))
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
