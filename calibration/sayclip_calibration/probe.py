"""One graph whose layers go to int8 and back at a switch, so that many choices of layers can be tried quickly.

Every layer of a placement has a switch, an input of the graph: it picks between an activation and its Q/DQ pair, and
between a weight and what int8 makes of it. Loading a graph of hundreds of megabytes once for every layer would take
minutes. With the switches of some layers on, the outputs are those of the graph that has these layers in int8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from .agreement import Outputs, join
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
        self._runner = Runner(switched, threads=threads)

    def __call__(self, parts: Collection[str], feeds: int | None = None) -> Outputs:
        """All outputs, a row a sample, with these ``parts`` of the placement in int8; of the first ``feeds``, or all.

        The output of a convolution counts alone too, though no graph would be written that way.
        """
        switches = {name: np.array(part in parts) for part, name in self._switches.items()}
        return join([self._runner.run_all({**feed, **switches}) for feed in self.feeds[:feeds]])


def with_switches(
    model: ModelProto, placement: Placement, ranges: Mapping[str, Range], rounded: Rounded
) -> tuple[ModelProto, dict[str, str]]:
    """``model`` with every layer of ``placement`` in int8 or float by a bool scalar, and their inputs' names by layer.

    A quantised output of a convolution has a switch of its own; see ``Placement.parts``.
    """
    quantised = insert_qdq(model, placement, ranges, rounded, keep=True)
    switches: dict[str, str] = {}
    nodes: list[NodeProto] = []
    sites = {site.node: site for site in placement.sites}

    def pick(layer: str, on: str, off: str) -> str:
        name = switches.setdefault(layer, f"switch.{len(switches)}")
        output = f"{on}.{name}"
        nodes.append(helper.make_node("Where", [name, on, off], [output], output))
        return output

    renamed: dict[str, str] = {}
    for node in quantised.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        site = sites.get(node.name)
        for index, tensor in enumerate(node.input):
            if site is not None and index == 0 and tensor == f"{site.activation}.dequantised":
                continue
            copy.input[index] = renamed.get(tensor, tensor)
        if site is not None:
            # What a convolution before gave may be switched too: int8 of int8 is the same int8.
            plain = renamed.get(f"{site.activation}.dequantised", site.activation)
            copy.input[0] = pick(site.node, f"{site.activation}.dequantised", plain)
            copy.input[1] = pick(site.node, copy.input[1], site.weight)
        nodes.append(copy)
        for tensor in placement.outputs:
            if f"{tensor}.dequantised" in node.output:
                renamed[f"{tensor}.dequantised"] = pick(f"{tensor}{OUT}", f"{tensor}.dequantised", tensor)
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    quantised.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in switches.values()
    )
    return quantised, switches
