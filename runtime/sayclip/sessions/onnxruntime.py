"""ONNX Runtime as a backend, strict: the provider asked for computes, or it is an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import TensorSpec
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions.base import Array, Signature
from sayclip.sessions.cpu import default_threads
from sayclip.sessions.tensors import Tensors, one_line

PROVIDERS = {"onnxruntime": "CPUExecutionProvider", "onnxruntime-cuda": "CUDAExecutionProvider"}
LARGE = 640 << 10
"""Bytes of input (one picture of 224 x 224, ten seconds of speech) up to which a run keeps its memory for the next.

ONNX Runtime's arena never gives back its peak by itself; without an arena, every run asks the system for pages again,
which took half as long again on speech.
"""
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
    if "usearch" in sys.modules and "onnxruntime" not in sys.modules:
        # It would end the process, see library.ann_file.import_usearch.
        raise MissingDependencyError(
            "ONNX Runtime cannot be imported after usearch", "put `import onnxruntime` before `import usearch`"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported ({error})", "`pip install 'sayclip[cpu]'`, or 'sayclip[cuda]' for NVIDIA"
        ) from None
    # What goes wrong arrives as an exception; the log would only repeat it.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


class OnnxRuntimeSession:
    """A ``Session`` of ONNX Runtime; see ``sessions.base`` for what its methods promise.

    ``threads`` None means ``cpu.default_threads()``. Threads sleep between runs unless ``spinning`` (which saves some
    microseconds a run and burns a processor). ``configure`` may change ONNX Runtime's own SessionOptions after that, as
    profiling does.
    """

    def __init__(
        self,
        graph: str | os.PathLike[str],
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        spinning: bool = False,
        configure: Callable[[Any], None] | None = None,
    ) -> None:
        runtime = import_onnxruntime()
        provider = PROVIDERS[backend]
        self._path = Path(graph)
        self.backend = backend
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
        # A plan of memory is kept for every input shape seen, and lengths of speech hardly repeat.
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        if configure is not None:
            configure(options)
        self.threads: int = options.intra_op_num_threads
        self._giving_back = runtime.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        # By path, so that external weights are found beside the graph and are mapped, not copied.
        try:
            self._session: Any = runtime.InferenceSession(
                os.fspath(graph), sess_options=options, providers=[provider], enable_fallback=0
            )
        except Exception as error:
            raise BackendError(
                f"{self._path} cannot be loaded by onnxruntime {runtime.__version__} on {provider} ({one_line(error)})",
                "fetch or make the bundle again, or use another backend or precision",
            ) from None
        used = self._session.get_providers()
        if not used or used[0] != provider:
            self._session = None
            raise BackendError(
                f"backend {backend!r} wants {provider}, but the session of {self._path.name} uses {', '.join(used)}",
                "see that the provider's own libraries can be found (`sayclip doctor`), or use backend='auto'",
            )
        self.provider: str = used[0]
        self.signature = Signature(
            tuple(_spec(node) for node in self._session.get_inputs()),
            tuple(_spec(node) for node in self._session.get_outputs()),
        )
        self._tensors = Tensors(f"graph {self._path.name}", self.signature)
        self._names = [spec.name for spec in self.signature.outputs]

    def bind(self, name: str, shape: Sequence[int]) -> Array:
        return self._tensors.bind(name, shape)

    def run(self, feeds: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        if self._session is None:
            raise self._tensors.wrong("is closed")
        complete = self._tensors.feeds(feeds, out)
        large = sum(array.nbytes for array in complete.values()) > LARGE
        options = self._giving_back if large else None
        try:
            if not out:
                return dict(zip(self._names, self._session.run(self._names, complete, options), strict=True))
            return self._run_into(complete, out, options)
        except Exception as error:
            raise self._tensors.failed(complete, error) from None

    def _run_into(self, feeds: Mapping[str, Array], out: Mapping[str, Array], options: Any) -> dict[str, Array]:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name in self._names:
            if name not in out:
                binding.bind_output(name, "cpu")
                continue
            array = out[name]
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding, options)
        results = binding.get_outputs()
        return {
            name: out[name] if name in out else result.numpy()
            for name, result in zip(self._names, results, strict=True)
        }

    def end_profiling(self) -> str:
        """The path of the profile that ``configure`` asked for, written now; empty where it did not ask."""
        return "" if self._session is None else str(self._session.end_profiling())

    def close(self) -> None:
        self._session = None
        self._tensors.clear()


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else str(size or "?") for size in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)
