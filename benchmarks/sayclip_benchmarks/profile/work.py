"""How much a graph computes: multiplications and bytes of its matrix products and convolutions, at a given size.

Sizes within a graph depend on its inputs in ways that shape inference does not follow (lengths, frames, pooling), so
they are taken from one real run, as ONNX Runtime's profile tells them, of the graph as it is written, not optimised.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sayclip.sessions.onnxruntime import OnnxRuntimeSession, import_onnxruntime
from sayclip_benchmarks.profile.feeds import Feed

PRODUCTS = ("MatMul", "Gemm", "Conv")
_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Work:
    """Multiplications (each with an addition), and numbers read and written, of one node in one run."""

    multiplications: int
    read: int
    written: int


def of_graph(path: Path, feed: Feed) -> dict[str, Work]:
    """The work of every product of the graph at ``path`` by name, computing ``feed``.

    Raises MissingDependencyError without ONNX Runtime, BackendError for what it cannot compute.
    """
    runtime = import_onnxruntime()
    with TemporaryDirectory() as folder:

        def configure(options: Any) -> None:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
            # Weights that were packed ahead would be missing from what the profile tells of a node's inputs.
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")

        session = OnnxRuntimeSession(path, configure=configure)
        session.run(feed)
        told = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        session.close()
    found: dict[str, Work] = {}
    for one in told:
        about = one.get("args") or {}
        if one.get("cat") == "Node" and about.get("op_name") in PRODUCTS and str(one["name"]).endswith(_SUFFIX):
            name = str(one["name"]).removesuffix(_SUFFIX)
            work = of_node(about["op_name"], _shapes(about["input_type_shape"]), _shapes(about["output_type_shape"])[0])
            before = found.get(name, Work(0, 0, 0))  # within a loop, a node runs more than once
            found[name] = Work(*(getattr(before, key) + getattr(work, key) for key in Work.__dataclass_fields__))
    return found


def of_node(kind: str, inputs: Sequence[Sequence[int]], output: Sequence[int]) -> Work:
    """The work of one product from the shapes of its inputs and its output."""
    left, right = inputs[0], inputs[1]
    if kind == "Conv":  # weights [out, in / groups, …]
        each = math.prod(right[1:])
    elif kind == "Gemm":  # either may lie transposed
        each = math.prod(left) // output[0] if output[0] else 0
    else:
        each = left[-1]
    return Work(math.prod(output) * each, sum(math.prod(shape) for shape in inputs), math.prod(output))


def sums(path: Path) -> dict[str, str]:
    """The products of the graph at ``path`` by the names of the additions behind them, whose names backends keep when
    they fuse the two. Empty without the onnx package, or where it cannot read the graph."""
    try:
        import onnx

        nodes = onnx.load(str(path), load_external_data=False).graph.node
    except Exception:  # then some operators are not found, which the table says
        return {}
    readers = Counter(name for node in nodes for name in node.input)
    made = {node.output[0]: str(node.name) for node in nodes if node.op_type in PRODUCTS}
    found = {}
    for node in (node for node in nodes if node.op_type == "Add"):
        for product in [made[name] for name in node.input if name in made and readers[name] == 1][:1]:
            found[str(node.name)] = product
    return found


def matched(
    executed: Iterable[Sequence[str]], work: Mapping[str, Work], sums: Mapping[str, str] | None = None
) -> list[list[str]]:
    """For each operator that ran, given by the names it goes by, the products of ``work`` that it computes.

    Backends keep a node's name, alone or with an ending of their own (``node_1/MatMulScaleFusion/``, ``node_1_quant``),
    or that of the addition behind it (``sums``). A product belongs to the first operator that claims it, whole names
    before additions before those with an ending.
    """
    operators = [list(names) for names in executed]
    owner: dict[str, int] = {}
    for named in (str, lambda name: (sums or {}).get(name, ""), lambda name: _root(name, work)):
        for number, names in enumerate(operators):
            for product in (named(name) for name in names):
                if product in work:
                    owner.setdefault(product, number)
    return [[product for product, at in owner.items() if at == number] for number in range(len(operators))]


def _root(name: str, work: Mapping[str, Work]) -> str:
    """``name`` without the ending that a backend gave it, if that is a product's name; else empty."""
    if "/" in name and (root := name[: name.index("/")]) in work:
        return root
    for place in range(len(name) - 1, 0, -1):
        if name[place] in "/_" and name[:place] in work and not name[place + 1 :].isdigit():
            return name[:place]
    return ""


def _shapes(told: Sequence[Mapping[str, Sequence[int]]]) -> list[list[int]]:
    return [[int(size) for size in shape] for one in told for shape in one.values()]
