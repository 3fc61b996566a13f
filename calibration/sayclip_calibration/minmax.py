"""Min-max calibration: the range each activation takes over real inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from sayclip.errors import BundleError, InputError

from .graph import load_model
from .session import Feed, Runner

LEVELS = 127  # symmetric int8 uses -127 .. 127
SMALLEST_SCALE = 2.0**-60  # keeps a scale, its reciprocal and the product of two of them normal float32 numbers


def scale_of(absmax: float) -> NDArray[np.float32]:
    """Symmetric int8 scale, float32 [], of a largest absolute value: ``absmax / 127``, always > 0.

    A tensor of zeros says nothing about its range; it gets that of [-1, 1], which also survives a cast to fp16.
    """
    if absmax == 0.0:
        absmax = 1.0
    return np.asarray(max(absmax / LEVELS, SMALLEST_SCALE), dtype=np.float32)


@dataclass(frozen=True)
class Range:
    """Smallest and largest value seen of one tensor."""

    low: float
    high: float

    @property
    def absmax(self) -> float:
        return max(abs(self.low), abs(self.high))

    @property
    def scale(self) -> NDArray[np.float32]:
        """Symmetric int8 scale, float32 [], > 0."""
        return scale_of(self.absmax)

    def merged(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def collect_ranges(
    model_path: str | Path, feeds: Iterable[Feed], tensors: Sequence[str], *, threads: int = 0
) -> dict[str, Range]:
    """Range of each named float32 tensor over all feeds, in one streaming pass.

    ``feeds`` are dictionaries of input name to array as the graph takes them (``pixels`` f32 [B, 3, H, W];
    ``token_ids`` i32 [B, L] and ``length`` i32 [B]; ``waveform`` f32 [B, S] and ``length`` i32 [B]). Give batches
    without padding: what padded positions compute is measured too and would only widen the ranges.

    The same feeds give the same ranges to the bit. Raises InputError for bad feeds (see ``Runner.checked``) and for
    an activation that overflows, BundleError for a graph that cannot be read or lacks one of the tensors.
    """
    model = load_model(model_path)
    return ranges_of(model, feeds, tensors, threads=threads)


def ranges_of(
    model: ModelProto, feeds: Iterable[Feed], tensors: Sequence[str], *, threads: int = 0
) -> dict[str, Range]:
    """``collect_ranges`` for a graph already in memory."""
    wanted = list(dict.fromkeys(tensors))
    inputs = {value.name for value in model.graph.input}
    inner = [tensor for tensor in wanted if tensor not in inputs]
    runner = Runner(with_outputs(model, inner), threads=threads)
    ranges: dict[str, Range] = {}
    for number, feed in enumerate(runner.checked(feeds)):
        values = dict(zip(inner, runner.run(feed, inner), strict=True)) if inner else {}
        for tensor in wanted:
            seen = _range(tensor, values[tensor] if tensor in values else feed[tensor], number)
            ranges[tensor] = ranges[tensor].merged(seen) if tensor in ranges else seen
    return ranges


def _range(tensor: str, values: NDArray[Any], number: int) -> Range:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN passes through min and max
        raise InputError(f"feed {number} makes {tensor} NaN or infinite", "leave this feed out or check the weights")
    return Range(low, high)


def with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """The model with more outputs; ONNX Runtime keeps the name and the value of every output whatever it rewrites."""
    made = {output for node in model.graph.node for output in node.output}
    missing = [tensor for tensor in tensors if tensor not in made]
    if missing:
        raise BundleError(f"the graph makes no tensor {missing[0]!r}", "take tensor names from the graph's placement")
    extended = ModelProto()
    extended.CopyFrom(model)
    present = {value.name for value in model.graph.output}
    extended.graph.output.extend(
        onnx.helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
        for tensor in tensors
        if tensor not in present
    )
    return extended
