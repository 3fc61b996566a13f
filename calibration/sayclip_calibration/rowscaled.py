"""Rows of activations divided by their own largest magnitude before they are rounded, and layers that undo it after.

A scale a tensor must serve the loudest row, and the others share what levels are left below it. With ``m`` the largest
magnitude of a row x, ``(x / m) W m`` is ``x W``, and every row of ``x / m`` takes all levels of one fixed scale. That
is quantisation a token, as ZeroQuant has it (Yao et al. 2022, arXiv 2206.01861), written in operators that every
backend has, so that the Q/DQ pair stays static and per tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .graph import attributes, prune
from .minmax import SMALLEST_SCALE

BY_ROW = ".by_row"
_AXIS, _LEAST = "by_row.axis", "by_row.least"


def apply(model: ModelProto, layers: Mapping[str, Sequence[str]]) -> ModelProto:
    """A copy of ``model`` that computes the same, with each activation of ``layers`` divided by row for these layers.

    ``layers``: activation to the nodes, MatMul or Gemm, that read it; no other reader sees a change. They read
    ``<activation>.by_row``, whose largest magnitude is 1, and keep their names, as do their outputs.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    if not layers:
        return changed
    activation_of = {node: tensor for tensor, nodes in layers.items() for node in nodes}
    nodes: list[NodeProto] = []
    divided: set[str] = set()
    for node in changed.graph.node:
        tensor = activation_of.get(node.name)
        if tensor is None:
            nodes.append(node)
            continue
        if tensor not in divided:
            divided.add(tensor)
            nodes += _division(tensor)
        nodes += _times_peak(node, tensor)
    changed.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), _AXIS))
    changed.graph.initializer.append(numpy_helper.from_array(np.array(SMALLEST_SCALE, np.float32), _LEAST))
    _replace(changed, nodes)
    return changed


def undone(model: ModelProto, nodes: Collection[str]) -> ModelProto:
    """A copy of what ``apply`` gave in which these layers read their activation as it was."""
    changed = ModelProto()
    changed.CopyFrom(model)
    chosen = {node.output[0]: node for node in changed.graph.node if node.name in nodes and BY_ROW in node.input[0]}
    kept: list[NodeProto] = []
    for node in changed.graph.node:
        product = chosen.get(node.input[0]) if node.op_type == "Mul" else None
        if product is None:
            kept.append(node)
            continue
        product.input[0], product.output[0] = product.input[0].removesuffix(BY_ROW), node.output[0]
    _replace(changed, kept)
    prune(changed)
    return changed


def _division(tensor: str) -> list[NodeProto]:
    name = f"{tensor}{BY_ROW}"
    steps = [
        ("Abs", [tensor], f"{name}.magnitudes"),
        ("ReduceMax", [f"{name}.magnitudes", _AXIS], f"{name}.largest"),
        ("Max", [f"{name}.largest", _LEAST], f"{name}.peak"),  # a row of zeros stays one
        ("Div", [tensor, f"{name}.peak"], name),
    ]
    return [helper.make_node(op, inputs, [out], out) for op, inputs, out in steps]


def _times_peak(node: NodeProto, tensor: str) -> list[NodeProto]:
    """The layer on the divided rows, its product times their peaks, and its bias after that."""
    product = NodeProto()
    product.CopyFrom(node)
    output, inner = node.output[0], f"{node.output[0]}{BY_ROW}"
    bias = product.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    beta = attributes(node).get("beta", 1.0)
    del product.input[2:]
    product.input[0], product.output[0] = f"{tensor}{BY_ROW}", inner
    scaled = f"{output}.unbiased" if bias else output
    made = [product, helper.make_node("Mul", [inner, f"{tensor}{BY_ROW}.peak"], [scaled], f"{inner}.times_peak")]
    if bias and beta != 1.0:
        value = numpy_helper.from_array(np.array(beta, np.float32))
        made.append(helper.make_node("Constant", [], [f"{inner}.beta"], f"{inner}.beta", value=value))
        made.append(helper.make_node("Mul", [bias, f"{inner}.beta"], [f"{inner}.share"], f"{inner}.share"))
        bias = f"{inner}.share"
    if bias:
        made.append(helper.make_node("Add", [scaled, bias], [output], f"{inner}.bias"))
    return made


def _replace(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
