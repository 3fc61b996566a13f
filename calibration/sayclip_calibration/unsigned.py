"""The x86 form of an int8 master: the same numbers, activations held as uint8 around zero-point 128.

ONNX Runtime's x86 kernels multiply unsigned by signed bytes. A signed level q and the unsigned level q + 128 with
zero-point 128 stand for the same value, so this is a rewrite of the structure: no scale and no weight changes.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from sayclip.errors import BundleError

ZERO_POINT = "uint8.zero_point"


def to_unsigned(master: ModelProto) -> ModelProto:
    """The unsigned form of a signed symmetric master; weights stay int8 and are not read.

    Raises BundleError when an activation's zero-point is not the int8 scalar 0.
    """
    unsigned = ModelProto()
    unsigned.CopyFrom(master)
    graph = unsigned.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    signed: set[str] = set()
    quantised: set[str] = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            zero = node.input[2] if len(node.input) > 2 else ""
            _check(node.name, constants.get(zero))
            signed.add(zero)
            quantised.add(node.output[0])
            node.input[2] = ZERO_POINT
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised:
            node.input[2] = ZERO_POINT
    still_read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in signed or tensor.name in still_read]
    notes = [value for value in graph.value_info if value.name not in quantised]  # they would say int8
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), ZERO_POINT))
    graph.value_info.extend(notes)
    return unsigned


def _check(node: str, zero: TensorProto | None) -> None:
    if zero is None or zero.data_type != TensorProto.INT8 or len(zero.dims) != 0:
        raise BundleError(f"{node} has no int8 scalar zero-point", "derive the unsigned form from an int8 master")
    if numpy_helper.to_array(zero) != 0:
        seen = int(numpy_helper.to_array(zero))
        raise BundleError(f"{node} has zero-point {seen}, wanted 0", "derive the unsigned form from an int8 master")
