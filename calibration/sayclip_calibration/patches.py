"""Patch embeddings as matrix products: a convolution whose windows neither overlap nor leave gaps.

The numbers are the same, but integer matrix products give float outputs on every backend, while ONNX Runtime runs a
convolution in int8 only if its output is rounded to int8 too, which a vision transformer feels in every patch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .graph import GraphView, attributes, prune


def patches_to_products(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with every patch embedding [B,C,H,W] -> [B,N,H/p,W/q] as Reshape, Transpose and MatMul.

    Only where height and width are known, so that the shapes are constants. Nodes keep their names, but for the
    product, which has the convolution's.
    """
    view = GraphView(model)
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    changed = ModelProto()
    changed.CopyFrom(model)
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for node in model.graph.node:
        weight = view.constant(node.input[1]) if node.op_type == "Conv" and view.is_constant(node.input[1]) else None
        seen = sizes.get(node.input[0]) if node.input else None
        if weight is None or seen is None or not _is_patches(node, weight, seen):
            nodes.append(node)
            continue
        made, values = _product(node, weight, seen)
        nodes.extend(made)
        constants.extend(values)
    if not constants:
        return changed
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    changed.graph.initializer.extend(constants)
    prune(changed)
    return changed


def _is_patches(node: NodeProto, weight: NDArray[np.float32], seen: list[int]) -> bool:
    values = attributes(node)
    kernel = list(weight.shape[2:])
    return (
        weight.ndim == 4
        and len(seen) == 4
        and values.get("group", 1) == 1
        and values.get("auto_pad", b"") in (b"", b"NOTSET", b"VALID")
        and not any(values.get("pads", []))
        and all(step == 1 for step in values.get("dilations", [1]))
        and list(values.get("strides", [1, 1])) == kernel
        and all(size > 0 and size % step == 0 for size, step in zip(seen[2:], kernel, strict=True))
    )


def _product(
    node: NodeProto, weight: NDArray[np.float32], seen: list[int]
) -> tuple[list[NodeProto], list[TensorProto]]:
    out, channels, high, wide = weight.shape
    rows, columns = seen[2] // high, seen[3] // wide
    name = node.name
    shapes = {
        "windows": [0, channels, rows, high, columns, wide],
        "patches": [0, rows * columns, channels * high * wide],
        "picture": [0, out, rows, columns],
    }
    constants = [numpy_helper.from_array(np.array(shape, np.int64), f"{name}.{key}") for key, shape in shapes.items()]
    matrix = np.ascontiguousarray(weight.reshape(out, -1).T)
    constants.append(numpy_helper.from_array(matrix, f"{node.input[1]}.patches"))
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Reshape", [node.input[0], f"{name}.windows"], {}),
        ("Transpose", [], {"perm": [0, 2, 4, 1, 3, 5]}),
        ("Reshape", [f"{name}.patches"], {}),
        ("MatMul", [f"{node.input[1]}.patches"], {}),
    ]
    if len(node.input) > 2 and node.input[2]:
        steps.append(("Add", [node.input[2]], {}))
    steps += [("Transpose", [], {"perm": [0, 2, 1]}), ("Reshape", [f"{name}.picture"], {})]
    made: list[NodeProto] = []
    tensor = ""
    for place, (kind, inputs, values) in enumerate(steps):
        inputs = inputs if place == 0 else [tensor, *inputs]
        tensor = node.output[0] if place == len(steps) - 1 else f"{name}.step{place}"
        made.append(helper.make_node(kind, inputs, [tensor], name if kind == "MatMul" else f"{name}.{place}", **values))
    return made, constants
