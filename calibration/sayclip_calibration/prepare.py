"""Everything about an int8 graph but which layers stay in float: smoothing, scales and rounded weights.

Where smoothing is worth having is found out layer by layer. Whether scales other than min-max's are depends on the
encoder: both go through the whole graph, with weights rounded to the nearest, and those whose embeddings stay nearest
are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from sayclip.errors import BundleError, InputError

from . import rowscaled, smooth, smoothed
from .batching import BATCH, BATCH_OF, in_batches, padded
from .compensate import round_weights
from .cosine import OUTPUT
from .graph import GraphView, attributes
from .groups import groups
from .layers import best_threshold, frame_error, matrix
from .minmax import Range
from .patches import patches_to_products
from .placement import Placement, place
from .qdq import Rounded, insert_qdq
from .rowscaled import BY_ROW
from .scales import METHODS
from .session import Feed, Runner
from .statistics import Statistics, collect
from .tables import halve_tables

SEARCH = "search"
TRIED = 16  # samples that ways are compared on, of those that gave the ranges

Scales = dict[str, tuple[str, float, float]]
Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Options:
    """How to calibrate. ``scales``: a method of ``scales.METHODS``, or the best of them for each tensor.

    ``smooth``: channels moved and scaled where it helps. ``exclude``: nodes to leave in float, by name or pattern.
    ``seed``: of the rows that settings are tried on. ``threads`` 0 takes every core.
    """

    scales: str = SEARCH
    smooth: bool = True
    exclude: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.scales not in (SEARCH, *METHODS):
            known = ", ".join((SEARCH, *METHODS))
            raise InputError(f"there is no way {self.scales!r} to choose scales", f"use one of {known}")


@dataclass(frozen=True)
class Way:
    """One way to quantise: the graph in float, its layers, and their scales."""

    model: ModelProto
    placement: Placement
    scales: Scales
    smoothings: tuple[smooth.Smoothing, ...]
    work: dict[str, float]
    """Multiplications of each layer over the calibration inputs."""

    @property
    def ranges(self) -> dict[str, Range]:
        return {tensor: Range(-used, used) for tensor, (_, _, used) in self.scales.items()}


def prepare(
    original: ModelProto, name: str, calibration: Sequence[Feed], options: Options, progress: Progress
) -> tuple[Way, Rounded]:
    """The best way for ``original``, an encoder called ``name``, and its weights in int8.

    ``calibration``: feeds of one unpadded sample each. Raises InputError for bad feeds, BundleError where there is
    nothing to quantise.
    """
    model = halve_tables(patches_to_products(original))
    # Convolutions that are left run in int8 on ONNX Runtime only if their outputs are int8 too.
    placement = place(model, options.exclude, conv_outputs=True)
    if not placement.sites:
        reasons = "; ".join(sorted(set(placement.skipped.values()))) or "it has no Conv, MatMul or Gemm"
        raise BundleError(f"{name} has no layer to quantise ({reasons})", "ship it in fp32 or exclude fewer layers")
    preparing = _Preparing(name, options, progress)
    chosen: tuple[smooth.Smoothing, ...] = ()
    if options.smooth:
        # From every other input: where the others go beyond what these gave, the ranges still see it.
        seen = preparing.statistics(model, placement, in_batches(calibration[::2]), "channels", moments=False)
        view = GraphView(model)
        chosen = tuple(smooth.choose(view, groups(view, placement), seen))
        del view, seen
    if chosen:
        model = smoothed.apply(model, chosen)
        placement = place(model, options.exclude, conv_outputs=True)
    statistics = preparing.statistics(model, placement, in_batches(calibration), "ranges", moments=True)
    divided = _divided(model, chosen)
    if divided:
        statistics |= {f"{tensor}{BY_ROW}": statistics[tensor].by_row() for tensor in divided}
        model = rowscaled.apply(model, divided)
        placement = place(model, options.exclude, conv_outputs=True)
    ways = preparing.ways(model, placement, statistics, chosen)
    way = preparing.best(original, ways, padded(calibration[:TRIED], BATCH_OF.get(name, BATCH)))
    return way, preparing.rounded(way, statistics)


def _divided(model: ModelProto, chosen: Sequence[smooth.Smoothing]) -> dict[str, list[str]]:
    """What ``rowscaled.apply`` is to divide by row, by the names that smoothing gave."""
    read_by = {node.name: node.input[0] for node in model.graph.node if node.input}
    nodes = [[site.node for site in smoothing.group.sites] for smoothing in chosen if smoothing.by_row]
    return {read_by[group[0]]: group for group in nodes}


@dataclass(frozen=True)
class _Preparing:
    name: str
    options: Options
    progress: Progress

    def statistics(
        self, model: ModelProto, placement: Placement, feeds: Sequence[Feed], label: str, *, moments: bool
    ) -> dict[str, Statistics]:
        def step(done: int, total: int) -> None:
            self.progress(f"{self.name}: {label}", done, total)

        return collect(
            model,
            feeds,
            placement.tensors,
            [site.activation for site in placement.sites if site.op != "Conv"],
            moments=moments,
            seed=self.options.seed,
            threads=self.options.threads,
            progress=step,
        )

    def ways(
        self,
        model: ModelProto,
        placement: Placement,
        statistics: Mapping[str, Statistics],
        smoothings: tuple[smooth.Smoothing, ...],
    ) -> list[Way]:
        view, how = GraphView(model), self.options.scales
        tried = (SEARCH, "minmax") if how == SEARCH else (how,)
        work = multiplications(view, placement, statistics)
        chosen = [choose_scales(view, placement, statistics, one) for one in tried]
        return [Way(model, placement, scales, smoothings, work) for scales in chosen]

    def best(self, original: ModelProto, ways: Sequence[Way], feeds: Sequence[Feed]) -> Way:
        """The way whose embeddings, weights rounded to the nearest, are least far from those in float."""
        if len(ways) == 1:
            return ways[0]
        threads = self.options.threads
        runner = Runner(original, threads=threads)
        output = OUTPUT if OUTPUT in runner.outputs else runner.outputs[0]
        wanted = [runner.run(feed, [output])[0] for feed in runner.checked(feeds)]
        del runner
        distances = []
        for done, way in enumerate(ways, start=1):
            runner = Runner.from_files(insert_qdq(way.model, way.placement, way.ranges), threads=threads)
            seen = [runner.run(feed, [output])[0] for feed in feeds]
            del runner
            distance = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(seen, wanted, strict=True))
            distances.append(distance if np.isfinite(distance) else np.inf)
            self.progress(f"{self.name}: ways", done, len(ways))
        return ways[int(np.argmin(distances))]

    def rounded(self, way: Way, statistics: Mapping[str, Statistics]) -> Rounded:
        def step(done: int, total: int) -> None:
            self.progress(f"{self.name}: weights", done, total)

        return round_weights(GraphView(way.model), way.placement, statistics, way.ranges, step)


def multiplications(view: GraphView, placement: Placement, statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """How many products each layer of ``placement`` made, from how many values it read."""
    found = {}
    for site in placement.sites:
        values = float(statistics[site.activation].histogram.counts.sum())
        if site.op != "Conv":
            found[site.node] = values * site.channels
            continue
        about = attributes(view.nodes[site.node])
        channels = view.constant(site.weight).shape[1] * about.get("group", 1)
        positions = values / channels / float(np.prod(about.get("strides", [1])))
        found[site.node] = positions * site.reduction * site.channels
    return found


def choose_scales(view: GraphView, placement: Placement, statistics: Mapping[str, Statistics], how: str) -> Scales:
    """Method, largest magnitude seen and largest magnitude represented, for each tensor of ``placement``.

    ``search`` takes what gives the layers that read a tensor the least error on the kept rows. Of what convolutions
    read and give the kept frames themselves count, each as much as any other: norms behind make quiet ones loud.
    """
    readers: dict[str, list[NDArray[np.float32]]] = {}
    for site in placement.sites:
        if site.op != "Conv":
            readers.setdefault(site.activation, []).append(matrix(view, site))
    chosen: Scales = {}
    for tensor in placement.tensors:
        seen = statistics[tensor]
        largest = seen.histogram.absmax
        if tensor.endswith(BY_ROW):
            chosen[tensor] = ("row", 1.0, 1.0)
        elif how in METHODS:
            chosen[tensor] = (how, largest, METHODS[how](seen.histogram))
        elif tensor in readers and seen.channels is not None:
            weights = readers[tensor]
            wanted = [seen.rows @ weight for weight in weights]
            best = best_threshold(seen.rows, seen.channels, weights, wanted, seen.histogram)
            chosen[tensor] = (best.method, largest, best.absmax)
        else:
            used = {method: choose(seen.histogram) for method, choose in METHODS.items()}
            best_of = min(used, key=lambda method: frame_error(seen.rows, used[method]))
            chosen[tensor] = (best_of, largest, used[best_of])
    return chosen
