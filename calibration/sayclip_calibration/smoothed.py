"""A graph with smoothed activations written out: it computes the same, in other numbers on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .graph import GraphView, prune
from .smooth import Smoothing


def apply(model: ModelProto, smoothings: Sequence[Smoothing]) -> ModelProto:
    """A copy of ``model`` that computes the same with smoothed activations; nodes keep their names."""
    writer = _Writer(model)
    for smoothing in smoothings:
        if smoothing.alpha or smoothing.moved:
            writer.smooth(smoothing)
    return writer.result()


class _Writer:
    def __init__(self, model: ModelProto) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.view = GraphView(model)
        self.nodes = {name: node for name, node in zip(self.view.nodes, self.model.graph.node, strict=True)}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes.values():
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(node)
        self.before: dict[str, list[NodeProto]] = {}
        self.after: dict[str, list[NodeProto]] = {}
        # A value projection is changed twice, at its input and its output.
        self.constants: dict[str, NDArray[np.float32]] = {}

    def smooth(self, smoothing: Smoothing) -> None:
        group, factors, centres = smoothing.group, smoothing.factors, smoothing.centres
        for site in group.sites:
            node = self.nodes[site.node]
            weight = self._constant(node.input[1])
            if smoothing.moved:
                products = weight if site.axis == 1 else weight.T
                self._add(site.node, centres.astype(np.float64) @ products.astype(np.float64))
            if smoothing.alpha:
                self._put(node, 1, weight * (factors[:, None] if site.axis == 1 else factors[None, :]))
        if group.value:
            product = self.nodes[group.value]
            self._put(product, 1, self._constant(product.input[1]) / factors)
            added = self._sum(product)
            assert added is not None
            index = 1 - list(added.input).index(product.output[0])
            self._put(added, index, (self._constant(added.input[index]) - centres) / factors)
        elif group.norm:
            norm = self._twin(smoothing) if group.shared else self.nodes[group.norm]
            self._put(norm, 1, self._constant(norm.input[1]) / factors)
            bias = self._constant(norm.input[2]) if len(norm.input) > 2 and norm.input[2] else np.zeros_like(centres)
            if len(norm.input) > 2 or smoothing.moved:
                self._put(norm, 2, (bias - centres) / factors)
        else:
            moved = f"{group.activation}.smoothed"
            steps: list[tuple[str, str, NDArray[np.floating]]] = []
            if smoothing.moved:
                steps.append(("Sub", "centres", centres))
            if smoothing.alpha:
                steps.append(("Mul", "factors", 1 / factors))
            tensor, made = group.activation, []
            for place, (op, label, values) in enumerate(steps, start=1):
                result = moved if place == len(steps) else f"{moved}.{place}"
                self._put_constant(f"{moved}.{label}", values)
                made.append(helper.make_node(op, [tensor, f"{moved}.{label}"], [result], f"{moved}.{op.lower()}"))
                tensor = result
            first = next(name for name in self.nodes if name in {site.node for site in group.sites})
            self.before.setdefault(first, []).extend(made)
            for site in group.sites:
                self.nodes[site.node].input[0] = moved

    def _twin(self, smoothing: Smoothing) -> NodeProto:
        group = smoothing.group
        twin = NodeProto()
        twin.CopyFrom(self.nodes[group.norm])
        twin.name, twin.output[0] = f"{group.norm}.smoothed", f"{group.activation}.smoothed"
        self.after.setdefault(group.norm, []).append(twin)
        for site in group.sites:
            self.nodes[site.node].input[0] = twin.output[0]
        return twin

    def _add(self, name: str, values: NDArray[np.float64]) -> None:
        """Add ``values`` [channels] to what the product ``name`` gives: to its bias, where it has one."""
        product = self.nodes[name]
        if product.op_type == "Gemm" and len(product.input) > 2 and product.input[2]:
            self._put(product, 2, self._constant(product.input[2]) + values)
            return
        added = self._sum(product)
        if added is not None:
            index = 1 - list(added.input).index(product.output[0])
            self._put(added, index, self._constant(added.input[index]) + values)
            return
        if product.op_type == "Gemm":
            del product.input[2:]
            product.input.append("")
            self._put(product, 2, values, f"{name}.bias")
            return
        output, inner = product.output[0], f"{product.output[0]}.unmoved"
        self._put_constant(f"{name}.bias", values)
        product.output[0] = inner
        node = helper.make_node("Add", [inner, f"{name}.bias"], [output], f"{name}.add")
        self.after.setdefault(name, []).append(node)
        self.readers[inner] = [node]

    def _sum(self, product: NodeProto) -> NodeProto | None:
        """The node that adds a bias, one number a channel, to a product that nothing else reads."""
        readers = self.readers.get(product.output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add" or product.output[0] in self.view.outputs:
            return None
        other = [tensor for tensor in readers[0].input if tensor != product.output[0]]
        if len(other) != 1 or not (other[0] in self.constants or self.view.is_constant(other[0])):
            return None
        return readers[0] if self._constant(other[0]).ndim == 1 else None

    def _constant(self, name: str) -> NDArray[np.float32]:
        return self.constants[name] if name in self.constants else self.view.constant(name)

    def _put(self, node: NodeProto, index: int, value: NDArray[np.floating], name: str = "") -> None:
        name = f"{name or node.input[index]}.smoothed.{len(self.constants)}"
        self._put_constant(name, value)
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name

    def _put_constant(self, name: str, value: NDArray[np.floating]) -> None:
        self.constants[name] = value.astype(np.float32)

    def result(self) -> ModelProto:
        nodes = []
        for name, node in self.nodes.items():
            nodes += [*self.before.get(name, []), node, *self.after.get(name, [])]
        # A list that is emptied frees its own.
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        self.model.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items()
        )
        prune(self.model)
        return self.model
