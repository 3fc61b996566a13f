"""One graph whose layers go to int8 and back at a switch, so that many choices of layers can be tried quickly.

Every layer of a placement has a switch, an input of the graph: it picks between the layer in float and the layer that
reads a Q/DQ pair's output and what int8 makes of its weight. Loading a graph of hundreds of megabytes once for every
layer would take minutes. With the switches of some layers on, the outputs are those of the graph that has these layers
in int8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .agreement import Outputs, join
from .gates import lengths
from .minmax import Range
from .placement import OUT, Placement
from .qdq import Rounded, insert_qdq
from .session import Feed, Runner


class Probe:
    """The outputs of an encoder under any choice of its placement's layers in int8, on fixed feeds.

    Q/DQ pairs are computed as written, so figures do not depend on the machine's integer kernels. ``reference`` holds
    the outputs of ``original``, which ``model`` was made from; both in float.
    """

    def __init__(
        self,
        original: ModelProto,
        model: ModelProto,
        placement: Placement,
        ranges: Mapping[str, Range],
        rounded: Rounded,
        feeds: Sequence[Feed],
        *,
        threads: int = 0,
    ) -> None:
        self.placement, self.feeds = placement, list(feeds)
        plain = Runner(original, threads=threads)
        self.reference: Outputs = join([plain.run_all(feed) for feed in plain.checked(self.feeds)])
        del plain
        switched, self._switches = with_switches(model, placement, ranges, rounded)
        self._runner = Runner.from_files(switched, threads=threads)

    def __call__(self, parts: Collection[str], feeds: int | Sequence[int] | None = None) -> Outputs:
        """All outputs, a row a sample, with these ``parts`` of the placement in int8.

        ``feeds``: the first so many, those of these numbers, or all. The output of a convolution counts alone too,
        though no graph would be written that way.
        """
        switches = {name: np.array(part in parts) for part, name in self._switches.items()}
        chosen = self.feeds[:feeds] if feeds is None or isinstance(feeds, int) else [self.feeds[i] for i in feeds]
        return join([self._runner.run_all({**feed, **switches}) for feed in chosen])

    def fragile(self, count: int) -> tuple[list[int], list[int]]:
        """Numbers of the ``count`` feeds whose samples a given error turns furthest, and the rows of these samples.

        They lie near the mean of all embeddings, or near 0 where there are too few for a mean.
        """
        sizes = [len(next(iter(feed.values()))) for feed in self.feeds]
        ends = np.cumsum(sizes)
        turned = lengths(self.reference) ** -2.0
        of_feed = [turned[end - size : end].mean() for end, size in zip(ends, sizes, strict=True)]
        chosen = sorted(np.argsort(of_feed, kind="stable")[::-1][:count].tolist())
        return chosen, [row for feed in chosen for row in range(ends[feed] - sizes[feed], ends[feed])]


def with_switches(
    model: ModelProto, placement: Placement, ranges: Mapping[str, Range], rounded: Rounded
) -> tuple[ModelProto, dict[str, str]]:
    """``model`` with every layer of ``placement`` in int8 or float by a bool scalar, and their inputs' names by layer.

    A quantised output of a convolution has a switch of its own; see ``Placement.parts``.
    """
    quantised = insert_qdq(model, placement, ranges, rounded, keep=True)
    weights = _in_float(quantised)
    switches: dict[str, str] = {}
    nodes: list[NodeProto] = []
    sites = {site.node: site for site in placement.sites}
    renamed: dict[str, str] = {}

    def switch(part: str) -> str:
        return switches.setdefault(part, f"switch.{len(switches)}")

    for node in quantised.graph.node:
        if node.output[0] in weights:
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        site = sites.get(node.name)
        for index, tensor in enumerate(node.input):
            if site is None or index > 0 or tensor != f"{site.activation}.dequantised":
                copy.input[index] = renamed.get(tensor, tensor)
        if site is not None:
            # What a convolution before gave may be switched too: int8 of int8 is the same int8.
            plain = NodeProto()
            plain.CopyFrom(copy)
            plain.input[0] = renamed.get(f"{site.activation}.dequantised", site.activation)
            plain.input[1] = site.weight
            copy = _either(switch(site.node), copy, plain)
        nodes.append(copy)
        for tensor in placement.outputs:
            if f"{tensor}.dequantised" in node.output:
                name = switch(f"{tensor}{OUT}")
                picked = renamed[f"{tensor}.dequantised"] = f"{tensor}.{name}"
                nodes.append(helper.make_node("Where", [name, f"{tensor}.dequantised", tensor], [picked], picked))
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    quantised.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in switches.values()
    )
    return quantised, switches


def _in_float(model: ModelProto) -> set[str]:
    """Weights in int8 written out in float, in place, lest every run does so; their names."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, TensorProto] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            values, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
            shape = [1] * values.ndim
            shape[helper.get_node_attr_value(node, "axis")] = -1
            found[node.output[0]] = numpy_helper.from_array(values * scale.reshape(shape), node.output[0])
            constants[node.input[0]].Clear()
    kept = [tensor for tensor in model.graph.initializer if tensor.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *found.values()])
    return set(found)


def _either(condition: str, on: NodeProto, off: NodeProto) -> NodeProto:
    """``on`` where ``condition``, else ``off``; only the one that is wanted is computed."""
    branches = {}
    for key, node in (("then_branch", on), ("else_branch", off)):
        result = f"{node.output[0]}.{key}"
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.output[0] = f"{node.name}.{key}", result
        output = onnx.ValueInfoProto(name=result)
        output.type.tensor_type.elem_type = TensorProto.FLOAT
        branches[key] = helper.make_graph([copy], f"{node.name}.{key}", [], [output])
    return helper.make_node("If", [condition], [on.output[0]], on.name, **branches)
