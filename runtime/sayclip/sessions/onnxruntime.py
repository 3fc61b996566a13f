"""ONNX Runtime as a backend, strict: the provider asked for computes, or it is an error."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sayclip.bundle.entries import TensorSpec
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions.base import Array, Signature, fits
from sayclip.sessions.cpu import default_threads

PROVIDERS = {"onnxruntime": "CPUExecutionProvider", "onnxruntime-cuda": "CUDAExecutionProvider"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def import_onnxruntime() -> Any:
    """The onnxruntime module, quiet on stderr and towards the network. Raises MissingDependencyError."""
    # Before the import: with it, ONNX Runtime 1.31 writes an id of the device and looks for a server to send it to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported ({error})", "`pip install 'sayclip[cpu]'`, or 'sayclip[cuda]' for NVIDIA"
        ) from None
    # What goes wrong arrives as an exception; the log would only repeat it.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


class OnnxRuntimeSession:
    """A ``Session`` of ONNX Runtime; see ``sessions.base`` for what its methods promise.

    ``threads`` None means ``cpu.default_threads()``. Threads sleep between runs unless ``spinning`` (which saves some
    microseconds a run and burns a processor). ``arena`` keeps freed memory for the next run: faster for bulk work of
    one shape, but memory stays at its peak.
    """

    def __init__(
        self,
        graph: str | os.PathLike[str],
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        spinning: bool = False,
        arena: bool = False,
    ) -> None:
        runtime = import_onnxruntime()
        provider = PROVIDERS[backend]
        self._path = Path(graph)
        self._backend = backend
        if provider not in runtime.get_available_providers():
            raise BackendError(
                f"backend {backend!r} needs {provider}, this onnxruntime {runtime.__version__} has only "
                f"{', '.join(runtime.get_available_providers())}",
                "install the onnxruntime that has it (`pip install 'sayclip[cuda]'`), or use backend='auto'",
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads if threads is not None else default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = arena
        # A plan of memory is kept for every input shape seen, and lengths of speech hardly repeat.
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        self.threads: int = options.intra_op_num_threads
        # By path, so that external weights are found beside the graph and are mapped, not copied.
        try:
            self._session: Any = runtime.InferenceSession(
                os.fspath(graph), sess_options=options, providers=[provider], enable_fallback=0
            )
        except Exception as error:
            raise BackendError(
                f"{self._path} cannot be loaded by onnxruntime {runtime.__version__} on {provider} "
                f"({_one_line(error)})",
                "fetch or make the bundle again, or use another backend or precision",
            ) from None
        used = self._session.get_providers()
        if not used or used[0] != provider:
            self._session = None
            raise BackendError(
                f"backend {backend!r} wants {provider}, but the session of {self._path.name} uses {', '.join(used)}",
                "see that the provider's own libraries can be found (`sayclip doctor`), or use backend='auto'",
            )
        self._provider: str = used[0]
        self._signature = Signature(
            tuple(_spec(node) for node in self._session.get_inputs()),
            tuple(_spec(node) for node in self._session.get_outputs()),
        )
        self._inputs = {spec.name: spec for spec in self._signature.inputs}
        self._outputs = {spec.name: spec for spec in self._signature.outputs}
        self._buffers: dict[str, Array] = {}
        self._bound: dict[str, Array] = {}

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def signature(self) -> Signature:
        return self._signature

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        spec = self._inputs.get(name)
        if spec is None:
            raise self._wrong(f"has no input {name!r}, it has {', '.join(self._inputs)}")
        size = int(np.prod(shape, dtype=np.int64))
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, dtype=spec.dtype)
        view = buffer[:size].reshape(tuple(shape))
        if problem := fits(view, spec):
            raise self._wrong(f"input {name!r}: {problem}")
        self._bound[name] = view
        return view

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._session is None:
            raise self._wrong("is closed")
        unknown = [name for name in feeds if name not in self._inputs]
        unknown += [name for name in out or {} if name not in self._outputs]
        if unknown:
            raise self._wrong(
                f"has no {unknown[0]!r}, inputs are {', '.join(self._inputs)}, outputs {', '.join(self._outputs)}"
            )
        complete: dict[str, Array] = {}
        for name, spec in self._inputs.items():
            array = feeds[name] if name in feeds else self._bound.get(name)
            if array is None:
                raise self._wrong(f"was given no {name!r}, wanted {spec.dtype} {list(spec.shape)}")
            if problem := fits(array, spec):
                raise self._wrong(f"input {name!r}: {problem}")
            complete[name] = np.ascontiguousarray(array)
        try:
            if not out:
                names = list(self._outputs)
                return dict(zip(names, self._session.run(names, complete), strict=True))
            return self._run_into(complete, out)
        except BackendError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in complete.items())
            raise self._wrong(f"failed on {shapes} ({_one_line(error)})") from None

    def _run_into(self, feeds: Mapping[str, Array], out: Mapping[str, Array]) -> dict[str, Array]:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, spec in self._outputs.items():
            if name not in out:
                binding.bind_output(name, "cpu")
                continue
            array = out[name]
            if problem := fits(array, spec):
                raise self._wrong(f"output {name!r}: {problem}")
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise self._wrong(f"output {name!r}: a strided or read-only array, wanted a writable one in C order")
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        results = binding.get_outputs()
        return {
            name: out[name] if name in out else result.numpy()
            for name, result in zip(self._outputs, results, strict=True)
        }

    def close(self) -> None:
        self._session = None
        self._buffers.clear()
        self._bound.clear()

    def _wrong(self, problem: str) -> BackendError:
        return BackendError(f"graph {self._path.name} {problem}", "feed it as the bundle's manifest says")


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else str(size or "?") for size in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)
