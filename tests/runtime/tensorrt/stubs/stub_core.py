"""TensorRT in the shape of one version: the names it has, strict about how they are called, without a GPU.

Graphs are read with onnx and computed with ONNX Runtime, so results are real; everything in between is not.
``make(version)`` gives a module's names; what a version lacks is absent, so that touching it raises AttributeError.
Environment variables make builds fail: STUB_REFUSE (strong or all), STUB_DIE (a signal's number), STUB_MEMORY,
STUB_FP32 (a layer that is not run in int8), STUB_WAIT (a file; the build says so by writing it, and waits).
"""

from __future__ import annotations

import enum
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import stub_cuda

MAGIC = b"stub of a plan "
UNSUPPORTED = ("DynamicQuantizeLinear", "MatMulInteger", "NonZero")
KINDS = {
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Conv": "CONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
}
ONNX_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 2: "UINT8", 6: "INT32", 7: "INT64", 9: "BOOL"}
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}


def want(kind: Any, *values: Any) -> None:
    """What pybind11 checks: arguments of the wrong type are a TypeError."""
    for value in values:
        wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        if wrong:
            raise TypeError(f"incompatible function arguments: {value!r}, wanted {kind}")


class Names:
    """The names of one version, see ``make``."""

    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


def make(version: str, *, rtx: bool = False) -> dict[str, Any]:
    """The public names of TensorRT ``version``, or of TensorRT-RTX."""
    old = not rtx and int(version.split(".")[0]) < 11
    t = Names()

    def enumeration(name: str, *members: str) -> Any:
        made = enum.IntEnum(name, {member: place for place, member in enumerate(members)})
        setattr(t, name, made)
        return made

    enumeration("TensorIOMode", "NONE", "INPUT", "OUTPUT")
    enumeration("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
    enumeration("LayerInformationFormat", "ONELINE", "JSON")
    enumeration("MemoryPoolType", "WORKSPACE", "DLA_MANAGED_SRAM", "TACTIC_DRAM")
    enumeration("ExecutionContextAllocationStrategy", "STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED")
    enumeration("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "INT64")
    enumeration("LayerType", "CONVOLUTION", "MATRIX_MULTIPLY", "QUANTIZE", "DEQUANTIZE", "SHUFFLE", "CONSTANT", "OTHER")
    flags = ["DEBUG", "REFIT", "TF32", "VERSION_COMPATIBLE", "STRIP_PLAN"]
    enumeration("BuilderFlag", *flags, *(["INT8", "FP16", "BF16", "FP8"] if old else []))
    creation = enum.IntEnum(
        "NetworkDefinitionCreationFlag",
        {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1} if old else {"STRONGLY_TYPED": 1},
    )
    t.NetworkDefinitionCreationFlag = creation
    if rtx:
        enumeration("ComputeCapability", "NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
        enumeration("EngineValidity", "VALID", "SUBOPTIMAL", "INVALID")
        enumeration("DynamicShapesKernelSpecializationStrategy", "LAZY", "EAGER", "NONE")

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self) -> None:
            self._made = True

    class IProgressMonitor:
        def __init__(self) -> None:
            self._made = True

    class Tensor:
        __slots__ = ("dtype", "is_shape_tensor", "name", "shape")

        def __init__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
            self.name, self.dtype, self.shape, self.is_shape_tensor = name, dtype, shape, False

    class Layer:
        __slots__ = ("_inputs", "_outputs", "metadata", "name", "type")

        def __init__(self, name: str, kind: str, inputs: list[Any], outputs: list[Any]) -> None:
            self.name, self.type = name, getattr(t.LayerType, kind, t.LayerType.OTHER)
            self._inputs, self._outputs = inputs, outputs
            self.metadata = f"[ONNX Layer: {name}]"

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

    class Network:
        __slots__ = ("_graph", "_inputs", "_layers", "_outputs", "_strong")

        def __init__(self, strong: bool) -> None:
            self._strong, self._graph = strong, ""
            self._inputs: list[Any] = []
            self._outputs: list[Any] = []
            self._layers: list[Any] = []

        num_inputs = property(lambda self: len(self._inputs))
        num_outputs = property(lambda self: len(self._outputs))
        num_layers = property(lambda self: len(self._layers))

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

    class ParserError:
        def __init__(self, index: int, name: str, operator: str, text: str) -> None:
            self._values = index, name, operator, text

        def node(self) -> int:
            return self._values[0]

        def node_name(self) -> str:
            return self._values[1]

        def node_operator(self) -> str:
            return self._values[2]

        def desc(self) -> str:
            return self._values[3]

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            want(Network, network)
            _made(ILogger, logger)
            self._network, self._errors = network, []

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, index: int) -> Any:
            want(int, index)
            return self._errors[index]

        def parse_from_file(self, model: str) -> bool:
            want(str, model)
            import onnx

            graph = onnx.load(model).graph  # with the weights beside it
            types = {}
            for weight in graph.initializer:
                types[weight.name] = ONNX_TYPES.get(weight.data_type, "FLOAT")

            def tensor(name: str, kind: str = "FLOAT") -> Any:
                return Tensor(name, t.DataType[types.get(name, kind)], ())

            for weight in graph.initializer:
                self._network._layers.append(Layer(weight.name, "CONSTANT", [], [tensor(weight.name)]))
            for index, node in enumerate(graph.node):
                name = node.name or f"node_{index}"
                if node.op_type in UNSUPPORTED:
                    self._errors.append(ParserError(index, name, node.op_type, "no importer is registered for this op"))
                kind = KINDS.get(node.op_type, "OTHER")
                inputs = [tensor(value) for value in node.input if value]
                half = node.op_type == "Cast" and any(a.name == "to" and a.i == 10 for a in node.attribute)
                outputs = [tensor(value, "HALF" if half else "FLOAT") for value in node.output]
                self._network._layers.append(Layer(name, kind, inputs, outputs))
            for values, made in ((graph.input, self._network._inputs), (graph.output, self._network._outputs)):
                for value in values:
                    about = value.type.tensor_type
                    shape = tuple(-1 if dim.dim_param else dim.dim_value for dim in about.shape.dim)
                    made.append(Tensor(value.name, t.DataType[ONNX_TYPES[about.elem_type]], shape))
            self._network._graph = model
            return not self._errors

    class Profile:
        def __init__(self) -> None:
            self._shapes: dict[str, list[list[int]]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            want(str, input)
            want(tuple, min, opt, max)
            if not all(0 <= a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                raise ValueError("Shape provided for min is inconsistent with other shapes.")
            self._shapes[input] = [list(min), list(opt), list(max)]

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> memoryview:
            return memoryview(self._content + b"+")

    class Config:
        __slots__ = (
            "_cache",
            "_capabilities",
            "_flags",
            "_pools",
            "_profiles",
            "num_compute_capabilities",
            "profiling_verbosity",
            "progress_monitor",
        )

        def __init__(self) -> None:
            self._profiles: list[Any] = []
            self._flags: set[Any] = set()
            self._cache, self._pools, self._capabilities = None, {}, {}
            self.profiling_verbosity = t.ProfilingVerbosity.LAYER_NAMES_ONLY
            self.progress_monitor = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            want(t.MemoryPoolType, pool)
            want(int, pool_size)
            self._pools[pool] = pool_size

        def set_flag(self, flag: Any) -> None:
            want(t.BuilderFlag, flag)
            self._flags.add(flag)

        def add_optimization_profile(self, profile: Any) -> int:
            want(Profile, profile)
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            want(bytes, serialized_timing_cache)
            return TimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            want(TimingCache, cache)
            want(bool, ignore_mismatch)
            if cache._content.startswith(b"foreign"):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    if rtx:

        def set_compute_capability(self: Any, compute_capability: Any, index: int) -> bool:
            want(t.ComputeCapability, compute_capability)
            assert 0 <= index < self.num_compute_capabilities
            self._capabilities[index] = compute_capability
            return True

        Config.set_compute_capability = set_compute_capability  # type: ignore[attr-defined]

    class Builder:
        def __init__(self, logger: Any) -> None:
            _made(ILogger, logger)
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            want(int, flags)
            allowed = sum(1 << flag for flag in creation)
            assert flags & ~allowed == 0
            return Network(bool(flags & 1 << creation.STRONGLY_TYPED) or not old)

        def create_builder_config(self) -> Any:
            return Config()

        def create_optimization_profile(self) -> Any:
            return Profile()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            want(Network, network)
            want(Config, config)

            def error(text: str) -> None:
                self._logger.log(ILogger.Severity.ERROR, text)

            refuse = os.environ.get("STUB_REFUSE", "")
            if refuse == "all" or (refuse == "strong" and network._strong):
                return error("Could not find any implementation for node {ForeignNode[node_3]}.")
            if os.environ.get("STUB_MEMORY"):
                return error("Error Code 2: OutOfMemory (no further information)")
            if os.environ.get("STUB_DIE"):
                os.kill(os.getpid(), int(os.environ["STUB_DIE"]))
            if config._profiles == [] or (network._strong and config._flags & _precision_flags(t)):
                return error("API Usage Error: precision flags on a strongly typed network, or no profile")
            if not _progress(IProgressMonitor, config.progress_monitor):
                return error("the build was ended by the progress monitor")
            about = {
                "version": version,
                "graph": network._graph,
                "profiles": [profile._shapes for profile in config._profiles],
                "inputs": [[x.name, x.dtype.name, list(x.shape)] for x in network._inputs],
                "outputs": [[x.name, x.dtype.name, list(x.shape)] for x in network._outputs],
                "report": _report(network, config.profiling_verbosity == t.ProfilingVerbosity.DETAILED, old),
                "flags": sorted(flag.name for flag in config._flags),
                "strong": network._strong,
                "workspace": config._pools.get(t.MemoryPoolType.WORKSPACE),
                "capabilities": [capability.name for capability in config._capabilities.values()],
            }
            return memoryview(MAGIC + json.dumps(about).encode())

    class Inspector:
        def __init__(self, report: str) -> None:
            self._report = report

        def get_engine_information(self, format: Any) -> str:
            assert format == t.LayerInformationFormat.JSON
            return self._report

    class RuntimeConfig:
        __slots__ = ("_strategy", "dynamic_shapes_kernel_specialization_strategy")

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            want(t.ExecutionContextAllocationStrategy, strategy)
            self._strategy = strategy

    class Engine:
        def __init__(self, about: dict[str, Any]) -> None:
            self._about = about
            self._modes = {x[0]: t.TensorIOMode.INPUT for x in about["inputs"]}
            self._modes |= {x[0]: t.TensorIOMode.OUTPUT for x in about["outputs"]}
            self._types = {x[0]: t.DataType[x[1]] for x in (*about["inputs"], *about["outputs"])}

        num_io_tensors = property(lambda self: len(self._modes))
        num_optimization_profiles = property(lambda self: len(self._about["profiles"]))

        def get_tensor_name(self, index: int) -> str:
            return list(self._modes)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return self._modes[name]

        def get_tensor_dtype(self, name: str) -> Any:
            return self._types[name]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            want(int, profile_index)
            return [tuple(shape) for shape in self._about["profiles"][profile_index][name]]

        def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
            want(int, profile_index)
            return 1024 * (profile_index + 1)

        def create_engine_inspector(self) -> Any:
            return Inspector(self._about["report"])

        def create_execution_context(self, strategy: Any = None) -> Any:
            if rtx and isinstance(strategy, RuntimeConfig):
                assert strategy.dynamic_shapes_kernel_specialization_strategy is not None
                strategy = strategy._strategy
            want(t.ExecutionContextAllocationStrategy, strategy)
            return Context(self, strategy)

    if rtx:
        Engine.create_runtime_config = lambda self: RuntimeConfig()  # type: ignore[attr-defined]
    if old:
        Engine.device_memory_size = property(lambda self: 4096)  # type: ignore[attr-defined]

    class Context:
        def __init__(self, engine: Any, strategy: Any) -> None:
            self._engine, self._strategy = engine, strategy
            self._profile = -1
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._memory = (0, 0)

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            want(int, profile_index, stream_handle)
            self._profile = profile_index
            return 0 <= profile_index < self._engine.num_optimization_profiles

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            want(str, name)
            want(tuple, shape)
            least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
            good = all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
            self._shapes[name] = shape
            return good

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            about = self._engine._about
            if set(self._shapes) != {x[0] for x in about["inputs"]}:
                return (-1,)
            batch = next(iter(self._shapes.values()))[0]
            wanted = next(x[2] for x in about["outputs"] if x[0] == name)
            return tuple(batch if size == -1 else size for size in wanted)

        def set_device_memory(self, memory: int, size: int) -> None:
            want(int, memory, size)
            assert memory % 16 == 0
            stub_cuda.GPU.block(memory, size)
            self._memory = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            want(int, memory)
            self._addresses[name] = memory
            return name in self._engine._modes and memory != 0

        def execute_async_v3(self, stream_handle: int) -> bool:
            want(int, stream_handle)
            about = self._engine._about
            if self._strategy != t.ExecutionContextAllocationStrategy.USER_MANAGED:
                raise AssertionError("the context was to be given its memory")
            needed = self._engine.get_device_memory_size_for_profile_v2(self._profile)
            if self._memory[1] < needed or set(self._addresses) != set(self._engine._modes):
                return False
            shapes, addresses = dict(self._shapes), dict(self._addresses)
            outputs = {x[0]: self.get_tensor_shape(x[0]) for x in about["outputs"]}
            types = {name: NUMPY[kind.name] for name, kind in self._engine._types.items()}

            def work() -> None:
                feeds = {name: _array(addresses[name], shape, types[name]).copy() for name, shape in shapes.items()}
                for name, result in _compute(about["graph"], feeds).items():
                    _array(addresses[name], outputs[name], types[name])[...] = result

            return stub_cuda.GPU.enqueue(stream_handle, work) == 0

    if rtx:
        Context.is_stream_capturable = lambda self, stream: True  # type: ignore[attr-defined]

    class Runtime:
        def __init__(self, logger: Any) -> None:
            _made(ILogger, logger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
            content = bytes(memoryview(serialized_engine))
            if not content.startswith(MAGIC):
                self._logger.log(ILogger.Severity.ERROR, "Serialization assertion magicTag failed")
                return None
            about = json.loads(content[len(MAGIC) :])
            assert about["version"] == version, "a foreign plan must never get here"
            return Engine(about)

    if rtx:
        Runtime.get_engine_validity = lambda self, buffer: (  # type: ignore[attr-defined]
            (t.EngineValidity.INVALID if os.environ.get("STUB_INVALID") else t.EngineValidity.VALID),
            0,
        )

    return {
        **t.__dict__,
        "__version__": version,
        "ILogger": ILogger,
        "IProgressMonitor": IProgressMonitor,
        "OnnxParser": OnnxParser,
        "Builder": Builder,
        "Runtime": Runtime,
    }


def _made(kind: Any, value: Any) -> None:
    want(kind, value)
    if not getattr(value, "_made", False):
        raise TypeError("__init__() must be called when overriding __init__")


def _precision_flags(t: Any) -> set[Any]:
    return {flag for flag in t.BuilderFlag if flag.name in ("INT8", "FP16", "BF16", "FP8")}


def _progress(kind: Any, monitor: Any) -> bool:
    """A build of two phases, the second inside the first; false when the monitor ends it."""
    _made(kind, monitor)
    monitor.phase_start("Building engine", None, 4)
    for step in range(4):
        monitor.phase_start("Timing", "Building engine", 2)
        for part in range(2):
            if wait := os.environ.get("STUB_WAIT"):
                Path(wait).write_text(str(os.getpid()))
                time.sleep(0.05)
            if not monitor.step_complete("Timing", part):
                return False
        monitor.phase_finish("Timing")
        if not monitor.step_complete("Building engine", step):
            return False
        if wait and step == 1:
            time.sleep(20)
    monitor.phase_finish("Building engine")
    return True


def _report(network: Any, detailed: bool, old: bool) -> str:
    """The inspector's JSON, in the manner of 10 (kernels by name) or of 11 (kernels by number)."""
    layers = [layer for layer in network._layers if layer.type.name in ("CONVOLUTION", "MATRIX_MULTIPLY")]
    if not detailed:
        return json.dumps({"Layers": [layer.name for layer in layers]})
    makers = {out.name: layer for layer in network._layers for out in layer._outputs}
    told = []
    for layer in layers:
        maker = makers.get(layer._inputs[0].name)
        int8 = maker is not None and maker.type.name == "DEQUANTIZE" and layer.name != os.environ.get("STUB_FP32")
        told.append(
            {
                "Name": layer.name if old else f"__myl_{layer.name}_0",
                "LayerType": "CaskGemmMatrixMultiply" if old else "gemm",
                "Inputs": [
                    {"Name": "x", "Dimensions": [1, 2], "Format/Datatype": f"Row major {'Int8' if int8 else 'FP32'}"}
                ],
                "Outputs": [{"Name": "y", "Dimensions": [1, 2], "Format/Datatype": "Row major FP32"}],
                "TacticName": f"sm80_xmma_gemm_{'i8f32_i8i32_f32' if int8 else 'f32f32_f32'}_tn_n" if old else "0x01",
                "Metadata": layer.metadata,
            }
        )
    return json.dumps({"Layers": told, "Bindings": ["x", "y"]})


def _array(address: int, shape: tuple[int, ...], dtype: str) -> Any:
    import ctypes

    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    stub_cuda.GPU.block(address, size)
    block = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memoryview(block), dtype=dtype).reshape(shape)


_SESSIONS: dict[str, Any] = {}


def _compute(graph: str, feeds: dict[str, Any]) -> dict[str, Any]:
    import onnxruntime

    if graph not in _SESSIONS:
        _SESSIONS[graph] = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in _SESSIONS[graph].get_outputs()]
    return dict(zip(names, _SESSIONS[graph].run(names, feeds), strict=True))
