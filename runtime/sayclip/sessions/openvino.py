"""OpenVINO as a backend, on the processor, strict: the precision that was asked for computes, or it is an error.

``openvino`` computes in float32 what a graph leaves in float, ``openvino-bf16`` in bfloat16 (8 bits of mantissa, the
range of float32), which newer processors multiply twice as fast or better. What a graph has in int8 is int8 in both.
"""

from __future__ import annotations

import functools
import io
import math
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sayclip.bundle.entries import TensorSpec
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions import compiled
from sayclip.sessions.base import Array, Signature
from sayclip.sessions.cpu import default_threads
from sayclip.sessions.tensors import Tensors, one_line

FLOATS = {"openvino": "f32", "openvino-bf16": "bf16"}
"""Each backend's type for what is not int8."""
LEAST = (2025, 4)
"""Of earlier ones, 2024.4 crashed on int8 graphs, and 2025.0 loaded what it had compiled as something else."""
_TELEMETRY = "openvino_telemetry"
_IMPORTING = threading.Lock()


def import_openvino() -> Any:
    """The openvino module, without the package that tells a server of every import.

    Raises MissingDependencyError where it is missing or too old.
    """
    with _IMPORTING:
        # OpenVINO has a stand-in for when its telemetry is not installed; what is told here is that it is not.
        hidden = _TELEMETRY not in sys.modules and "openvino" not in sys.modules
        if hidden:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            import openvino
        except Exception as error:  # a broken native library can raise anything
            raise MissingDependencyError(
                f"OpenVINO cannot be imported ({one_line(error)})", "`pip install 'sayclip[openvino]'`"
            ) from None
        finally:
            if hidden:
                sys.modules.pop(_TELEMETRY, None)
    version = str(openvino.__version__)
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < LEAST:
        raise MissingDependencyError(
            f"OpenVINO {version.partition('-')[0]} is installed, wanted {LEAST[0]}.{LEAST[1]} or later",
            "`pip install --upgrade 'sayclip[openvino]'`",
        )
    return openvino


@functools.lru_cache(maxsize=1)
def multiplies_bfloat16() -> bool:
    """Whether OpenVINO is at home with bfloat16 on this processor. Raises MissingDependencyError without OpenVINO."""
    try:
        return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except MissingDependencyError:
        raise
    except Exception:  # a plugin that cannot be loaded; opening a graph says so
        return False


def _why(error: BaseException) -> str:
    """OpenVINO's own words without the places in its source."""
    return one_line(RuntimeError(re.sub(r"Exception from \S+:\d+:|Check '.*?' failed at \S+:\d+:", "", str(error))))


class OpenVinoSession:
    """A ``Session`` of OpenVINO; see ``sessions.base`` for what its methods promise.

    ``backend`` is one of ``FLOATS``. ``threads`` None means ``cpu.default_threads()``; they sleep between runs. ``key``
    names everything that the graph's bytes say (a hash): with it, a compiled graph that ``keep`` stored is loaded
    instead of compiling again. ``settings`` are further properties of OpenVINO's for this graph.
    """

    def __init__(
        self,
        graph: str | os.PathLike[str],
        *,
        backend: str = "openvino",
        threads: int | None = None,
        key: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        runtime = import_openvino()
        self._path = Path(graph)
        self._runtime = runtime
        self.threads: int = threads if threads is not None else default_threads()
        try:
            core = runtime.Core()
            complete = {**_settings(core, self.threads, FLOATS[backend]), **(settings or {})}
            self._key = key and compiled.key_of(key, runtime.__version__, {k: str(v) for k, v in complete.items()})
            self._blob, model = self._load(core, complete)
            self._compiled: Any = core.compile_model(self._read(), "CPU", complete) if model is None else model
            self._request: Any = self._compiled.create_infer_request()
            devices = self._compiled.get_property("EXECUTION_DEVICES")
            precision = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        except Exception as error:
            raise BackendError(
                f"{self._path} cannot be loaded by openvino {runtime.__version__} on the CPU ({_why(error)})",
                "fetch or make the bundle again, or use another backend or precision",
            ) from None
        if precision.get_type_name() != FLOATS[backend]:
            raise BackendError(
                f"openvino {runtime.__version__} computes {self._path.name} in {precision.get_type_name()}, wanted "
                f"{FLOATS[backend]}",
                "use backend='onnxruntime', and report this",
            )
        self.backend = backend
        self.provider = ", ".join(devices)
        self.signature = Signature(
            tuple(_spec(port, port.get_any_name()) for port in self._compiled.inputs),
            tuple(_spec(port, _output_name(port)) for port in self._compiled.outputs),
        )
        self._tensors = Tensors(f"graph {self._path.name}", self.signature)
        self._names = [spec.name for spec in self.signature.outputs]

    @property
    def from_cache(self) -> bool:
        """Whether the graph was loaded as ``keep`` stored it, rather than compiled."""
        return self._blob is not None

    def keep(self) -> bool:
        """Store the compiled graph for later starts; whether that was done now. Never raises."""
        if not self._key or self.from_cache or self._compiled is None:
            return False
        try:
            content = self._compiled.export_model()
            return compiled.write(self._key, content.getbuffer() if isinstance(content, io.BytesIO) else content)
        except Exception:  # a convenience: without it, the next start compiles again
            return False

    def forget(self) -> None:
        """Remove what ``keep`` stored."""
        if self._key:
            compiled.forget(self._key)

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        return self._tensors.bind(name, shape)

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        request = self._request
        if request is None:
            raise self._tensors.wrong("is closed")
        complete = self._tensors.feeds(feeds, out)
        tensor = self._runtime.Tensor
        try:
            for place, array in enumerate(complete.values()):
                # Shared, not copied; a read-only array cannot be shared.
                request.set_input_tensor(place, tensor(array, shared_memory=array.flags.writeable))
            for array in self._results():
                if array.size and array.dtype.kind == "f":
                    array.reshape(-1)[0] = np.nan
            request.infer(share_outputs=True)
            results = dict(zip(self._names, self._results(), strict=True))
            # On one thread, OpenVINO keeps to itself that it failed, and what lies there is the run before.
            if any(
                not array.size or (array.dtype.kind == "f" and np.isnan(array.item(0))) for array in results.values()
            ):
                raise ValueError("it gave nothing, or no numbers")
        except Exception as error:
            raise self._tensors.failed(complete, RuntimeError(_why(error))) from None
        for name, array in results.items():
            wanted = out.get(name) if out else None
            if wanted is None:
                results[name] = array.copy()
                continue
            if wanted.shape != array.shape:
                raise self._tensors.wrong(f"output {name!r}: shape {list(wanted.shape)}, wanted {list(array.shape)}")
            np.copyto(wanted, array)
            results[name] = wanted
        return results

    def _results(self) -> list[Array]:
        """The request's own outputs, in the graph's order."""
        return [self._request.get_output_tensor(place).data for place in range(len(self._names))]

    def node_times(self) -> list[Any]:
        """OpenVINO's ProfilingInfo of every node in the latest run, in order; wants PERF_COUNT in ``settings``."""
        return [] if self._request is None else list(self._request.get_profiling_info())

    def made_of(self) -> dict[str, list[str]]:
        """Which nodes of the ONNX graph each node of the compiled one computes, by name."""
        nodes = [] if self._compiled is None else self._compiled.get_runtime_model().get_ops()
        found = {str(node.get_friendly_name()): node.get_rt_info() for node in nodes}
        key = "originalLayersNames"
        return {name: str(about[key].astype(str)).split(",") for name, about in found.items() if key in about}

    def close(self) -> None:
        self._request = self._compiled = self._blob = None
        self._tensors.clear()

    def _read(self) -> Any:
        # By the ONNX reader: asked by file, OpenVINO offers what that cannot read to its other readers, and those write
        # to stderr.
        from openvino.frontend import FrontEndManager

        reader = FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(os.fspath(self._path)))
        if not model.inputs or not model.outputs:  # what it makes of an empty file
            raise ValueError("no ONNX graph")
        return model

    def _load(self, core: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """The mapped file of the compiled graph and the model in it, or twice None."""
        blob = compiled.read(self._key) if self._key else None
        if blob is None:
            return None, None
        try:
            try:
                model = core.import_model(self._runtime.Tensor(blob, shared_memory=True), "CPU", settings)
            except TypeError:  # versions that take no tensor
                model = core.import_model(io.BytesIO(blob.tobytes()), "CPU", settings)
        except Exception:
            compiled.forget(self._key)
            return None, None
        return blob, model


def _settings(core: Any, threads: int, floats: str) -> dict[str, Any]:
    """One stream of ``threads`` threads for the shortest latency, what is not int8 in ``floats``."""
    wanted: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        # Processors with bfloat16 would be asked to compute fp32 graphs in it: another precision, silently.
        "INFERENCE_PRECISION_HINT": floats,
    }
    # Threads tied to cores stand in each other's way when processes share the cores; no gain was measured from it.
    # Layers that calibration left in float stay there.
    optional = {"ENABLE_CPU_PINNING": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    supported = core.get_property("CPU", "SUPPORTED_PROPERTIES")
    return {**wanted, **{name: value for name, value in optional.items() if name in supported}}


def _output_name(port: Any) -> str:
    """The output's name in the ONNX graph; a port also bears the names of what only passes through to it."""
    name = str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")
    return name if name in port.get_names() else str(port.get_any_name())


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _spec(port: Any, name: str) -> TensorSpec:
    shape = tuple(size.get_length() if size.is_static else "?" for size in port.get_partial_shape())
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, shape)
