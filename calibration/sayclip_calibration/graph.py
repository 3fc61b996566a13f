"""ONNX graphs as the calibration passes see them: loading, constants, producers, dead code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from sayclip.errors import BundleError

OPSETS = range(18, 21)  # what every backend of a bundle takes; 21 and later bring operators TensorRT-RTX refuses
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_ITEM_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.INT32: 4, TensorProto.INT64: 8}
_FOLDABLE = frozenset({"Constant", "Identity", "Transpose", "Reshape", "Cast"})


def load_model(path: str | Path) -> ModelProto:
    """Read an fp32 ONNX graph with its weights, wherever they are stored.

    Raises BundleError when the file or its external data is missing, truncated or not ONNX, when its opset is not one
    of ``OPSETS``, or when it holds control flow.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"no ONNX file at {path}", "export the encoder first or correct the path")
    try:
        model = onnx.load(str(path))
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path.name} cannot be read ({_first_line(error)})", "export the encoder again") from error
    _check_model(model, path.name)
    for name, node in zip(node_names(model), model.graph.node, strict=True):
        node.name = name  # later passes tell nodes apart by it
    return model


def _check_model(model: ModelProto, name: str) -> None:
    opset = opset_of(model)
    if not model.graph.node or opset == 0:
        raise BundleError(f"{name} holds no graph, it may be truncated", "export the encoder again")
    if opset not in OPSETS:
        wanted = f"{OPSETS.start} to {OPSETS.stop - 1}"
        raise BundleError(f"{name} has opset {opset}, wanted {wanted}", "export the encoder with one of these opsets")
    flow = next((node for node in model.graph.node if node.op_type in CONTROL_FLOW), None)
    if flow is not None:
        raise BundleError(f"{name} holds a {flow.op_type} node ({flow.name})", "export the encoder without branches")
    made: set[str] = set()
    for output in (output for node in model.graph.node for output in node.output if output):
        if output in made:
            problem = f"{name} makes the tensor {output!r} twice"
            raise BundleError(problem, "export again with another name for the inner tensor or for the output")
        made.add(output)
    for tensor in model.graph.initializer:
        _check_size(tensor, name)
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))


def _check_size(tensor: TensorProto, name: str) -> None:
    """A shortened external data file loads without a word: compare what came with what the shape asks for."""
    item = _ITEM_BYTES.get(tensor.data_type)
    if item is None or not tensor.HasField("raw_data"):
        return
    wanted, seen = item * math.prod(tensor.dims), len(tensor.raw_data)
    if seen != wanted:
        problem = f"{name}: {tensor.name} has {seen} bytes, wanted {wanted}"
        raise BundleError(problem, "export the encoder again, its data file is damaged")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def opset_of(model: ModelProto) -> int:
    """Version of the default operator set, 0 when the model names none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


class GraphView:
    """Who makes and who reads each tensor of a model, and which tensors are constants.

    The view is taken once: build a new one after changing the graph.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.inputs = {value.name: value for value in graph.input}
        self.outputs = tuple(value.name for value in graph.output)
        # An initialiser that is also an input is only a default, so it is no constant.
        self.initialisers = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in self.inputs}
        self.producers = {output: node for node in graph.node for output in node.output if output}
        self.nodes = {name: node for name, node in zip(node_names(model), graph.node, strict=True)}
        self._known: dict[str, tuple[int, int | None]] | None = None

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initialiser, or made of one by Identity, Transpose, Reshape or Cast alone."""
        if tensor in self.initialisers:
            return True
        node = self.producers.get(tensor)
        if node is None or node.op_type not in _FOLDABLE:
            return False
        return all(self.is_constant(name) for name in node.input)

    def constant(self, tensor: str) -> NDArray[Any]:
        """The value of a constant tensor; KeyError when it is not one."""
        if tensor in self.initialisers:
            return np.asarray(numpy_helper.to_array(self.initialisers[tensor]))
        node = self.producers[tensor]
        if not self.is_constant(tensor):
            raise KeyError(tensor)
        values = attributes(node)
        if node.op_type == "Constant":
            return _constant_value(values)
        data = self.constant(node.input[0])
        if node.op_type == "Cast":  # weights kept as fp16
            return data.astype(onnx.helper.tensor_dtype_to_np_dtype(values["to"]))
        if node.op_type == "Transpose":
            return np.transpose(data, values.get("perm"))
        if node.op_type == "Reshape":
            wanted = [int(size) for size in self.constant(node.input[1])]
            if not values.get("allowzero"):
                wanted = [data.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
            return data.reshape(wanted)
        return data

    def origin(self, tensor: str) -> str:
        """The initialiser that a constant tensor comes from, or the tensor itself."""
        while tensor not in self.initialisers and tensor in self.producers and self.producers[tensor].input:
            tensor = self.producers[tensor].input[0]
        return tensor

    def ancestors(self, tensors: Iterable[str]) -> set[str]:
        """Names of the nodes that the given tensors depend on."""
        name_of = {id(node): name for name, node in self.nodes.items()}
        found: set[str] = set()
        waiting = list(tensors)
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None or name_of[id(node)] in found:
                continue
            found.add(name_of[id(node)])
            waiting.extend(node.input)
        return found

    def rank(self, tensor: str) -> int | None:
        """Number of axes of a tensor, None when it cannot be inferred."""
        return self._inferred().get(tensor, (0, None))[1]

    def floats(self) -> set[str]:
        """Names of all tensors of float32, constants among them."""
        return {name for name, (kind, _) in self._inferred().items() if kind == TensorProto.FLOAT}

    def _inferred(self) -> dict[str, tuple[int, int | None]]:
        if self._known is None:
            self._known = _infer(self.model)
        return self._known


def _constant_value(values: dict[str, Any]) -> NDArray[Any]:
    if "value" in values:
        return np.asarray(numpy_helper.to_array(values["value"]))
    kind, value = next(iter(values.items()))
    return np.asarray(value, dtype=np.float32 if "float" in kind else np.int64)


def _infer(model: ModelProto) -> dict[str, tuple[int, int | None]]:
    """Element types and ranks by ONNX shape inference over the structure alone.

    Large weights become inputs, so nothing is copied.
    """
    light = ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = "structure"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    found: dict[str, tuple[int, int | None]] = {}
    for tensor in model.graph.initializer:
        found[tensor.name] = (tensor.data_type, len(tensor.dims))
        if len(tensor.raw_data) <= 256:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    known = onnx.shape_inference.infer_shapes(light).graph
    for values in (known.input, known.value_info, known.output):
        for value in values:
            kind = value.type.tensor_type
            found[value.name] = (kind.elem_type, len(kind.shape.dim) if kind.HasField("shape") else None)
    return found


def node_names(model: ModelProto) -> list[str]:
    """One unique name per node, in graph order; a nameless or repeated one gets ``<op>_<position>``."""
    seen: set[str] = set()
    names: list[str] = []
    for position, node in enumerate(model.graph.node):
        name = node.name if node.name and node.name not in seen else f"{node.op_type}_{position}"
        while name in seen:
            name += "_"
        seen.add(name)
        names.append(name)
    return names


def prune(model: ModelProto) -> None:
    """Drop, in place, nodes, initialisers and shape notes that no graph output depends on."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept.reverse()
    made = {output for node in kept for output in node.output}
    initialisers = [tensor for tensor in graph.initializer if tensor.name in needed]
    notes = [value for value in graph.value_info if value.name in made]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(initialisers)
    graph.value_info.extend(notes)


def strip_notes(model: ModelProto) -> None:
    """Drop, in place, what an exporter noted for people: doc strings and metadata such as stack traces with paths."""
    graph = model.graph
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for values in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for value in values:
            value.ClearField("doc_string")
            value.ClearField("metadata_props")
