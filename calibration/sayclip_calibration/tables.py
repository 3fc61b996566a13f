"""Embedding tables in half precision: half the bytes of a text encoder's largest weight, on every backend."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .graph import GraphView, attributes, prune

SMALLEST = 1 << 16  # elements: below this the Cast costs more than it saves


def halve_tables(model: ModelProto) -> ModelProto:
    """A copy of ``model`` whose large float tables (Gather along axis 0 from a constant) are looked up as fp16.

    Rounding a row of a table costs at most 2^-11 of each value. Tables that do not fit fp16 stay.
    """
    view = GraphView(model)
    halved = ModelProto()
    halved.CopyFrom(model)
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    for node in model.graph.node:
        table = node.input[0] if node.op_type == "Gather" and attributes(node).get("axis", 0) == 0 else ""
        if not table or not view.is_constant(table):
            nodes.append(node)
            continue
        values = view.constant(table)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.dtype != np.float32 or values.size < SMALLEST or not np.isfinite(halves).all():
            nodes.append(node)
            continue
        name, rows = f"{table}.half", f"{node.output[0]}.half"
        constants[name] = numpy_helper.from_array(halves, name)
        nodes.append(helper.make_node("Gather", [name, node.input[1]], [rows], node.name, axis=0))
        nodes.append(helper.make_node("Cast", [rows], [node.output[0]], f"{node.name}.to_single", to=TensorProto.FLOAT))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del halved.graph.node[:]
    halved.graph.node.extend(copies)
    halved.graph.initializer.extend(constants.values())
    prune(halved)
    return halved
