"""fp16 graphs: products and what lies between them in half precision, norms, sums and decisions in single.

Which is which is decided in three steps. Some operations always stay in fp32: LayerNormalization, Softmax, reductions,
cumulative sums, comparisons and whatever is not known to be safe; a signal front; the last product before a decision
(ArgMax, TopK, CumSum), since its margin decides; and what comes near fp16's end on real inputs. Then cheap operations
between two that stay are kept too, so that nothing is cast back and forth between them. Everything else becomes fp16,
and each tensor that crosses is cast once. Inputs and outputs of the graph stay float32.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sayclip.errors import BundleError

from .graph import GraphView, attributes, prune, strip_notes
from .minmax import with_outputs
from .placement import LAYERS, signal_front
from .session import Feed, Runner
from .store import publish, write_data, write_structure

LARGEST = 8192.0  # an eighth of what fp16 can hold: inputs that were not seen may be larger
FEEDS = 4  # inputs that magnitudes are taken from
_PRODUCTS = frozenset({*LAYERS, "ConvTranspose"})
_DECISIONS = frozenset({"ArgMax", "ArgMin", "TopK", "CumSum", "Floor", "Ceil", "Round"})
_BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Where"})
_MOVERS = frozenset(
    {"Reshape", "Transpose", "Slice", "Concat", "Gather", "Expand", "Squeeze", "Unsqueeze", "Identity", "Split"}
    | {"Flatten", "Pad", "Tile", "Cast"}
)
_SAFE = frozenset(
    {"Add", "Sub", "Mul", "Neg", "Abs", "Where", "Sigmoid", "Tanh", "Erf", "Gelu", "Relu", "LeakyRelu", "Elu"}
    | {"MaxPool", "AveragePool"}
)


@dataclass(frozen=True)
class Conversion:
    """Products in fp16 by node name, and those that stay in fp32 with the reason."""

    halves: tuple[str, ...]
    kept: dict[str, str]


def to_half(model: ModelProto, feeds: Sequence[Feed]) -> tuple[ModelProto, Conversion]:
    """An fp16 copy of ``model``, opset unchanged, and what became of its products; magnitudes from ``feeds``.

    Raises BundleError where a weight does not fit fp16.
    """
    view = GraphView(model)
    floats = view.floats()
    kept = _kept(view, floats, _magnitudes(model, view, floats, feeds))
    writer = _Writer(view, floats, kept)
    half = ModelProto()
    half.CopyFrom(model)
    nodes = list(writer.nodes())
    del half.graph.node[:], half.graph.value_info[:]
    half.graph.node.extend(nodes)
    half.graph.initializer.extend(writer.constants.values())
    prune(half)
    strip_notes(half)
    products = [name for name, node in view.nodes.items() if node.op_type in LAYERS and node.output[0] in floats]
    reasons = {name: kept[name] for name in products if name in kept}
    return half, Conversion(tuple(name for name in products if name not in kept), reasons)


def write_half(half: ModelProto, out: Path, name: str) -> None:
    """Write ``<name>.fp16.onnx`` and the ``<name>.fp16.data`` that holds its weights. Raises BundleError."""
    graph, data = f"{name}.fp16.onnx", f"{name}.fp16.data"
    try:
        with publish(out, [data, graph]) as drafts:
            write_data(half, drafts / data)
            write_structure(half, drafts / graph)
    except OSError as error:
        problem = f"cannot write {error.filename or out} ({error.strerror})"
        raise BundleError(problem, "free some space or choose another folder") from error


def _magnitudes(model: ModelProto, view: GraphView, floats: set[str], feeds: Sequence[Feed]) -> dict[str, float]:
    """Largest absolute value of what each node gives that could become fp16, over the first inputs, one at a time."""
    could = _PRODUCTS | _SAFE | {"Div"}
    tensors = [node.output[0] for node in view.nodes.values() if node.op_type in could and node.output[0] in floats]
    found = dict.fromkeys(tensors, 0.0)
    runner = Runner(with_outputs(model, tensors))
    for feed in runner.checked([{key: value[:1] for key, value in feed.items()} for feed in feeds[:FEEDS]]):
        for tensor, values in zip(tensors, runner.run(feed, tensors), strict=True):
            if values.size:
                largest = float(np.abs(values).max())
                found[tensor] = max(found[tensor], largest if np.isfinite(largest) else np.inf)
    return found


def _kept(view: GraphView, floats: set[str], magnitudes: dict[str, float]) -> dict[str, str]:
    """Nodes that compute in fp32, with the reason."""
    kept: dict[str, str] = {}
    front = signal_front(view)
    for name, node in view.nodes.items():
        if not any(tensor in floats for tensor in (*node.input, *node.output)):
            continue
        by_constant = node.op_type == "Div" and view.is_constant(node.input[1])
        if node.op_type not in _PRODUCTS | _SAFE | _MOVERS and not by_constant:
            kept[name] = f"{node.op_type} stays in fp32"
        elif name in front:
            kept[name] = "signal front"
        elif magnitudes.get(node.output[0], 0.0) > LARGEST:
            kept[name] = f"reaches {magnitudes[node.output[0]]:.3g}, fp16 ends at 65504"
    for name in _before_decisions(view):
        kept.setdefault(name, "decides")
    _keep_between(view, floats, kept)
    return kept


def _before_decisions(view: GraphView) -> Iterator[str]:
    """The nodes between a decision and the products before it, these included."""
    name_of = {id(node): name for name, node in view.nodes.items()}
    waiting = [tensor for node in view.nodes.values() if node.op_type in _DECISIONS for tensor in node.input]
    seen: set[str] = set()
    while waiting:
        node = view.producers.get(waiting.pop())
        if node is None or name_of[id(node)] in seen:
            continue
        seen.add(name_of[id(node)])
        yield name_of[id(node)]
        if node.op_type not in _PRODUCTS:
            waiting.extend(node.input)


def _keep_between(view: GraphView, floats: set[str], kept: dict[str, str]) -> None:
    """Add cheap nodes whose results only nodes in fp32 read, or that stand between two of them."""
    name_of = {id(node): name for name, node in view.nodes.items()}
    readers: dict[str, list[str]] = {}
    for name, node in view.nodes.items():
        for tensor in node.input:
            readers.setdefault(tensor, []).append(name)
    changed = True
    while changed:
        changed = False
        for name, node in reversed(view.nodes.items()):
            if name in kept or node.op_type not in _BETWEEN | _MOVERS or node.output[0] not in floats:
                continue
            after = [reader in kept for tensor in node.output for reader in readers.get(tensor, [])]
            sources = {
                name_of[id(view.producers[tensor])]
                for tensor in node.input
                if tensor in floats and tensor in view.producers and not view.is_constant(tensor)
            }
            halves = len([source for source in sources if source not in kept])
            cheap = node.op_type in _BETWEEN
            # In fp16 its result is cast once; in fp32 each of its sources that is fp16 would be.
            read_there = bool(after) and all(after) and halves <= (1 if cheap else 0) and bool(sources)
            if read_there or (cheap and any(after) and halves < len(sources)):
                kept[name], changed = "between operations in fp32", True


class _Writer:
    def __init__(self, view: GraphView, floats: set[str], kept: dict[str, str]) -> None:
        self.view, self.floats, self.kept = view, floats, kept
        self.constants: dict[str, TensorProto] = {}
        self._type: dict[str, int] = {}  # of tensors that nodes give
        self._cast: set[str] = set()

    def nodes(self) -> Iterator[NodeProto]:
        for name, node in self.view.nodes.items():
            copy = NodeProto.FromString(node.SerializeToString())
            touched = any(tensor in self.floats for tensor in (*node.input, *node.output))
            if not touched or all(self.view.is_constant(tensor) for tensor in node.output if tensor):
                yield copy
                continue
            kind = TensorProto.FLOAT if name in self.kept else TensorProto.FLOAT16
            for index, tensor in enumerate(node.input):
                if tensor in self.floats:
                    if node.op_type == "Cast" and not self.view.is_constant(tensor):  # it casts by itself
                        kind_in = self._type.get(tensor, TensorProto.FLOAT)
                        copy.input[index] = tensor if kind_in == TensorProto.FLOAT else f"{tensor}.half"
                        continue
                    copy.input[index] = yield from self._as(tensor, kind)
            if node.op_type == "Cast" and attributes(node)["to"] == TensorProto.FLOAT:
                del copy.attribute[:]
                copy.attribute.append(helper.make_attribute("to", kind))
            for index, tensor in enumerate(node.output):
                if tensor in self.floats:
                    self._type[tensor] = kind
                    if kind == TensorProto.FLOAT16:
                        copy.output[index] = f"{tensor}.half"
            yield copy
            for tensor in node.output:
                if tensor in self.view.outputs and self._type.get(tensor) == TensorProto.FLOAT16:
                    yield from self._single(tensor)

    def _as(self, tensor: str, kind: int) -> Generator[NodeProto, None, str]:
        """The name under which ``tensor`` has the type ``kind``; the cast it takes, once."""
        if self.view.is_constant(tensor):
            return self._constant(tensor, kind)
        if self._type.get(tensor, TensorProto.FLOAT) == kind:
            return tensor if kind == TensorProto.FLOAT else f"{tensor}.half"
        if kind == TensorProto.FLOAT:
            yield from self._single(tensor)
            return tensor
        if f"{tensor}.half" not in self._cast:
            self._cast.add(f"{tensor}.half")
            yield helper.make_node("Cast", [tensor], [f"{tensor}.half"], f"{tensor}.to_half", to=kind)
        return f"{tensor}.half"

    def _single(self, tensor: str) -> Iterator[NodeProto]:
        if tensor not in self._cast:
            self._cast.add(tensor)
            yield helper.make_node("Cast", [f"{tensor}.half"], [tensor], f"{tensor}.to_single", to=TensorProto.FLOAT)

    def _constant(self, tensor: str, kind: int) -> str:
        if kind == TensorProto.FLOAT:
            return tensor
        name = f"{tensor}.half"
        if name not in self.constants:
            values: NDArray[np.float32] = self.view.constant(tensor)
            with np.errstate(over="ignore"):
                halves = values.astype(np.float16)
            if not np.isfinite(halves).all():
                largest = float(np.abs(values).max())
                raise BundleError(
                    f"{tensor} reaches {largest:.3g}, fp16 ends at 65504", "ship this encoder without fp16"
                )
            self.constants[name] = numpy_helper.from_array(halves, name)
        return name
