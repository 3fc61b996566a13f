"""The int8 master: Q/DQ pairs written into an fp32 graph by the bundle's rules.

Signed and symmetric: zero-point 0 everywhere, activations per tensor with scale absmax/127, weights per output channel,
stored as int8 with a DequantizeLinear. One QuantizeLinear/DequantizeLinear pair serves every reader of a tensor that is
quantised. Biases stay in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sayclip.errors import BundleError, InputError

from .graph import GraphView, attributes, load_model, prune, strip_notes
from .minmax import LEVELS, SMALLEST_SCALE, Range
from .placement import Placement, Site, place
from .store import publish, write_data, write_structure
from .unsigned import to_unsigned

ZERO_POINT = "int8.zero_point"
# Weight as the layer reads it and its channel axis, to int8 values and one scale a channel.
Rounded = dict[tuple[str, int], tuple[NDArray[np.int8], NDArray[np.float32]]]


@dataclass(frozen=True)
class Int8Files:
    """What ``write_int8`` wrote: two structures over one data file."""

    master: Path
    """Signed symmetric form: TensorRT, TensorRT-RTX, OpenVINO, Arm."""
    unsigned: Path
    """The same numbers with zero-point 128: ONNX Runtime on x86."""
    data: Path


def quantise_weight(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values of a float32 weight and one scale > 0 per index of ``axis``."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    absmax = np.abs(weight).max(axis=others).astype(np.float64)
    absmax[absmax == 0.0] = 1.0
    scale = np.maximum(absmax / LEVELS, SMALLEST_SCALE).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    levels = np.rint(weight / scale.reshape(shape))
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8), scale


def insert_qdq(
    model: ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    rounded: Rounded | None = None,
    *,
    keep: bool = False,
) -> ModelProto:
    """A copy of ``model`` with the placement's layers reading quantised inputs and int8 weights.

    ``rounded``: the weights in int8; those it lacks are rounded to the nearest. With ``keep`` the weights in float,
    which nothing reads any more, stay.

    Raises InputError when a tensor has no range, BundleError when a weight holds NaN or infinity.
    """
    writer = _Writer(model, placement, ranges, rounded or {})
    quantised = ModelProto()
    quantised.CopyFrom(model)
    del quantised.graph.node[:]
    quantised.graph.node.extend(writer.nodes())
    quantised.graph.initializer.extend(writer.initialisers)
    if not keep:
        prune(quantised)
    strip_notes(quantised)
    return quantised


class _Writer:
    def __init__(self, model: ModelProto, placement: Placement, ranges: Mapping[str, Range], rounded: Rounded) -> None:
        missing = [tensor for tensor in placement.tensors if tensor not in ranges]
        if missing:
            raise InputError(f"no range for {missing[0]}", "collect ranges for every tensor of the placement")
        self.view = GraphView(model)
        self.sites = {site.node: site for site in placement.sites}
        self.outputs = frozenset(placement.outputs)
        self.ranges, self.rounded = ranges, rounded
        self.initialisers: list[TensorProto] = [numpy_helper.from_array(np.array(0, np.int8), ZERO_POINT)]
        self._written: set[str] = set()

    def nodes(self) -> list[NodeProto]:
        result: list[NodeProto] = []
        renamed: dict[str, str] = {}  # conv outputs whose readers all take the dequantised tensor
        for name, node in self.view.nodes.items():
            copy = NodeProto()
            copy.CopyFrom(node)
            for index, tensor in enumerate(copy.input):
                copy.input[index] = renamed.get(tensor, tensor)
            site = self.sites.get(name)
            if site is None:
                result.append(copy)
                continue
            result.extend(self._activation(site.activation))
            result.extend(self._weight(site))
            copy.input[0] = f"{site.activation}.dequantised"
            copy.input[1] = f"{site.weight}.dequantised.{site.axis}"
            result.extend(self._layer(site, copy))
            if site.output in self.outputs and site.output not in self.view.outputs:
                result.extend(self._activation(site.output))
                renamed[site.output] = f"{site.output}.dequantised"
        return result

    def _activation(self, tensor: str) -> list[NodeProto]:
        """The one Q/DQ pair of a tensor, the first time it is asked for."""
        if tensor in self._written:
            return []
        self._written.add(tensor)
        scale, quantised = f"{tensor}.scale", f"{tensor}.quantised"
        self.initialisers.append(numpy_helper.from_array(self.ranges[tensor].scale, scale))
        return [
            helper.make_node("QuantizeLinear", [tensor, scale, ZERO_POINT], [quantised], f"{tensor}.quantise"),
            helper.make_node(
                "DequantizeLinear", [quantised, scale, ZERO_POINT], [f"{tensor}.dequantised"], f"{tensor}.dequantise"
            ),
        ]

    def _weight(self, site: Site) -> list[NodeProto]:
        key = f"{site.weight}.dequantised.{site.axis}"
        if key in self._written:
            return []
        self._written.add(key)
        weight = self.view.constant(site.weight)
        if not np.isfinite(weight).all():
            raise BundleError(f"the weight of {site.node} holds NaN or infinity", "export a sound checkpoint")
        values, scale = self.rounded.get((site.weight, site.axis)) or quantise_weight(weight, site.axis)
        # Zeros change nothing, but ONNX Runtime has its integer Gemm only for weights that spell them out.
        names = [f"{site.weight}.int8.{site.axis}", f"{site.weight}.scale.{site.axis}", f"{ZERO_POINT}s.{len(scale)}"]
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(values), names[0]))
        self.initialisers.append(numpy_helper.from_array(scale, names[1]))
        if names[2] not in self._written:
            self._written.add(names[2])
            self.initialisers.append(numpy_helper.from_array(np.zeros(len(scale), np.int8), names[2]))
        return [helper.make_node("DequantizeLinear", names, [key], f"{key}.dequantise", axis=site.axis)]

    def _layer(self, site: Site, node: NodeProto) -> list[NodeProto]:
        """Rows times matrix plus bias in the shape ONNX Runtime has an integer kernel for.

        A Gemm with a float bias has none, and ONNX Runtime folds MatMul + Add on matrices into one: so a Gemm passes
        its bias to an Add of its own, and a MatMul of a matrix (rank 2) becomes a Gemm without bias.
        """
        if site.op == "MatMul" and self.view.rank(site.activation) == 2:
            node.op_type = "Gemm"
        values = attributes(node)
        biased = site.op == "Gemm" and len(node.input) > 2 and node.input[2] != ""
        if not biased or values.get("beta", 1.0) != 1.0:
            return [node]
        bias, output = node.input[2], node.output[0]
        del node.input[2:]
        node.output[0] = f"{output}.product"
        return [node, helper.make_node("Add", [node.output[0], bias], [output], f"{site.node}.bias")]


def write_int8(
    fp32_path: str | Path,
    out_dir: str | Path,
    name: str,
    ranges: Mapping[str, Range],
    *,
    exclude: Sequence[str] = (),
    conv_outputs: bool = False,
) -> Int8Files:
    """Write ``<name>.int8.onnx``, ``<name>.int8-u8.onnx`` and the ``<name>.int8.data`` that both read.

    ``ranges`` come from ``collect_ranges`` over ``place(...).tensors``; ``exclude`` and ``conv_outputs`` as in
    ``place``. Raises BundleError for a graph that cannot be read, that has no layer to quantise, or a folder that
    cannot be written.
    """
    model = load_model(fp32_path)
    return write_placed(model, out_dir, name, place(model, exclude, conv_outputs=conv_outputs), ranges)


def write_placed(
    model: ModelProto,
    out_dir: str | Path,
    name: str,
    placement: Placement,
    ranges: Mapping[str, Range],
    rounded: Rounded | None = None,
) -> Int8Files:
    """``write_int8`` for a graph in memory and a placement already decided."""
    if not placement.sites:
        reasons = "; ".join(sorted(set(placement.skipped.values()))) or "it has no Conv, MatMul or Gemm"
        raise BundleError(f"{name} has no layer to quantise ({reasons})", "ship it in fp32 or exclude fewer layers")
    out = Path(out_dir)
    files = Int8Files(out / f"{name}.int8.onnx", out / f"{name}.int8-u8.onnx", out / f"{name}.int8.data")
    master = insert_qdq(model, placement, ranges, rounded)
    try:
        with publish(out, [files.data.name, files.master.name, files.unsigned.name]) as drafts:
            write_data(master, drafts / files.data.name)
            write_structure(master, drafts / files.master.name)
            write_structure(to_unsigned(master), drafts / files.unsigned.name)
    except OSError as error:
        problem = f"cannot write {error.filename or out} ({error.strerror})"
        raise BundleError(problem, "free some space or choose another folder") from error
    return files
