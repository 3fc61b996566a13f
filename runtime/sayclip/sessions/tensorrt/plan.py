"""One deserialised plan: its profiles, and contexts that run a shape as a plain launch or as a CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sayclip.errors import BackendError
from sayclip.sessions.base import Signature
from sayclip.sessions.tensorrt.cudart import Cuda
from sayclip.sessions.tensorrt.library import said
from sayclip.sessions.tensorrt.memory import Memory

Shapes = Mapping[str, tuple[int, ...]]
# By NVIDIA's names; its own conversion to numpy's types breaks with new versions of numpy.
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
SCRATCH = ":scratch"
# A CUDA graph needs a context of its own; shapes beyond these run without one.
GRAPHS = 16
_FORGET = 4096


@dataclass(eq=False)
class Lane:
    """An execution context, what it is set up for, and the CUDA graph that was captured of it, if any."""

    context: Any
    profile: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    generation: int = -1
    alone: bool = False
    """Whether the context serves one shape only, so that its work may be captured."""
    graph: int = 0


class Plan:
    """A plan in device memory. ``title`` names it in errors; ``log`` is the logger it was deserialised with."""

    def __init__(
        self, trt: Any, engine: Any, log: Any, signature: Signature, cuda: Cuda, memory: Memory, stream: int, title: str
    ) -> None:
        self._trt, self._engine, self._log = trt, engine, log
        self._cuda, self._memory, self._stream, self._title = cuda, memory, stream, title
        self._inputs = {spec.name: np.dtype(spec.dtype).itemsize for spec in signature.inputs}
        self._outputs = {spec.name: np.dtype(spec.dtype).itemsize for spec in signature.outputs}
        self._check(signature)
        self._profiles = [
            {name: self._limits(name, index) for name in self._inputs}
            for index in range(int(engine.num_optimization_profiles))
        ]
        self.batch: int = max(next(iter(limits.values()))[1][0] for limits in self._profiles)
        self._plain: dict[int, Lane] = {}
        self._captured: OrderedDict[tuple[Any, ...], Lane] = OrderedDict()
        self._seen: dict[tuple[Any, ...], int] = {}
        self.no_graphs = ""
        """Why shapes run without a CUDA graph; empty while they run with one."""

    def lane(self, shapes: Shapes) -> Lane:
        """The context for these input shapes, ready to ``run``; its ``outputs`` are their shapes.

        Device blocks are reserved by tensor name. Raises BackendError for shapes that no profile takes.
        """
        key = tuple(shapes[name] for name in self._inputs)
        lane = self._captured.get(key)
        if lane is None:
            profile = self._profile_for(shapes)
            plain = self._plain_lane(profile)
            if len(self._seen) > _FORGET:
                self._seen.clear()
            self._seen[key] = self._seen.get(key, 0) + 1
            # A length that comes once is not worth a context.
            lane = self._lane_to_capture(key, profile) if self._seen[key] > 1 and not self.no_graphs else plain
        else:
            self._captured.move_to_end(key)
        self._prepare(lane, shapes)
        return lane

    def run(self, lane: Lane) -> None:
        """Enqueue the lane's work on the stream, and capture it where that is still to be done."""
        if lane.graph:
            self._cuda.launch(lane.graph, self._stream)
            return
        self._enqueue(lane)  # also the warm-up of what is captured next
        if lane.alone and not self.no_graphs:
            self._capture(lane)

    def close(self) -> None:
        """Free contexts and engine; device blocks are not the plan's."""
        for lane in self._captured.values():
            self._cuda.destroy_graph(lane.graph)
        self._captured.clear()
        self._plain.clear()
        self._engine = None

    def _check(self, signature: Signature) -> None:
        engine, mode = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(int(engine.num_io_tensors))]
        for wanted, kind in ((signature.inputs, mode.INPUT), (signature.outputs, mode.OUTPUT)):
            there = {name for name in names if engine.get_tensor_mode(name) == kind}
            seen = sorted((name, DTYPES.get(engine.get_tensor_dtype(name).name, "?")) for name in there)
            if seen != sorted((spec.name, spec.dtype) for spec in wanted):
                raise BackendError(
                    f"{self._title} has the tensors {seen}, the manifest says {[(s.name, s.dtype) for s in wanted]}",
                    "run `sayclip build BUNDLE --force`",
                )

    def _limits(self, name: str, profile: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        least, _, most = self._engine.get_tensor_profile_shape(name, profile)
        return tuple(int(size) for size in least), tuple(int(size) for size in most)

    def _profile_for(self, shapes: Shapes) -> int:
        for index, limits in enumerate(self._profiles):
            if all(_within(shapes[name], *limits[name]) for name in limits):
                return index
        for name in self._inputs:
            ranges = [limits[name] for limits in self._profiles]
            if not any(_within(shapes[name], *limits) for limits in ranges):
                takes = " or ".join(f"{list(least)} to {list(most)}" for least, most in ranges)
                raise BackendError(
                    f"{self._title} takes {name} of {takes}, given {list(shapes[name])}",
                    "give a shorter or longer input, or fewer at a time",
                )
        given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise BackendError(f"{self._title} takes no such shapes together: {given}", "feed it as the manifest says")

    def _context(self, profile: int) -> Any:
        engine, user_managed = self._engine, self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        specialise = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if specialise is None:
            context = engine.create_execution_context(user_managed)
        else:
            # Kernels are compiled on the device: at once, or a CUDA graph would hold the makeshift ones for good.
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(user_managed)
            config.dynamic_shapes_kernel_specialization_strategy = specialise.EAGER
            context = engine.create_execution_context(config)
        if context is None:
            raise self._failed("no execution context could be made")
        if not context.set_optimization_profile_async(profile, self._stream):
            raise self._failed(f"profile {profile} cannot be used")
        self._cuda.synchronise(self._stream)
        return context

    def _scratch_size(self, profile: int) -> int:
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def _plain_lane(self, profile: int) -> Lane:
        """The profile's own context; with the first, blocks for the profile's largest shapes are reserved."""
        if profile in self._plain:
            return self._plain[profile]
        lane = Lane(self._context(profile), profile)
        self._memory.reserve(SCRATCH, self._scratch_size(profile))
        largest = {name: most for name, (_, most) in self._profiles[profile].items()}
        for name, shape in {**largest, **self._output_shapes(lane, largest)}.items():
            itemsize = self._inputs.get(name) or self._outputs[name]
            self._memory.reserve(name, int(np.prod(shape, dtype=np.int64)) * itemsize)
        self._plain[profile] = lane
        return lane

    def _lane_to_capture(self, key: tuple[Any, ...], profile: int) -> Lane:
        if len(self._captured) >= GRAPHS:
            _, oldest = self._captured.popitem(last=False)
            self._cuda.destroy_graph(oldest.graph)
        self._captured[key] = Lane(self._context(profile), profile, alone=True)
        return self._captured[key]

    def _output_shapes(self, lane: Lane, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        for name in self._inputs:
            if not lane.context.set_input_shape(name, tuple(shapes[name])):
                raise self._failed(f"the shape {list(shapes[name])} of {name} is refused")
        found = {name: tuple(int(size) for size in lane.context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in found.items():
            if any(size < 0 for size in shape):
                raise self._failed(f"the shape of {name} depends on more than the shapes of the inputs")
        return found

    def _prepare(self, lane: Lane, shapes: Shapes) -> None:
        if lane.generation == self._memory.generation and lane.shapes == shapes:
            return
        self._cuda.destroy_graph(lane.graph)
        lane.graph, lane.generation = 0, -1
        lane.outputs = self._output_shapes(lane, shapes)
        lane.shapes = dict(shapes)
        # All contexts of a session run one after another, so one block does for all.
        lane.context.set_device_memory(self._memory.address(SCRATCH), self._scratch_size(lane.profile))
        for name in (*self._inputs, *self._outputs):
            if not lane.context.set_tensor_address(name, self._memory.address(name)):
                raise self._failed(f"{name} cannot be given its memory")
        lane.generation = self._memory.generation

    def _enqueue(self, lane: Lane) -> None:
        self._log.errors.clear()
        if not lane.context.execute_async_v3(self._stream):
            raise self._failed("running failed")

    def _capture(self, lane: Lane) -> None:
        """Record the lane's work. Where that cannot be, shapes run without, and ``no_graphs`` says why."""
        context = lane.context
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self._stream):
            self.no_graphs = "the library says that this engine cannot be captured"
            return
        self._cuda.synchronise(self._stream)
        try:
            self._cuda.begin_capture(self._stream)
            self._enqueue(lane)
            lane.graph = self._cuda.end_capture(self._stream)
        except BackendError as error:
            self._cuda.abandon_capture(self._stream)
            self.no_graphs = error.problem

    def _failed(self, what: str) -> BackendError:
        return BackendError(f"{self._title}: {what} ({said(self._log, 'no reason given')})", "see `sayclip doctor`")


def _within(shape: tuple[int, ...], least: tuple[int, ...], most: tuple[int, ...]) -> bool:
    return len(shape) == len(least) and all(
        low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
    )
