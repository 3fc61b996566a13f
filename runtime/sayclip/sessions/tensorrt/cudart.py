"""The few calls of the CUDA runtime that a session needs: memory, copies, one stream, graphs; ctypes on libcudart."""

from __future__ import annotations

import ctypes
import importlib.util
import weakref
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BackendError

# cuda_runtime_api.h and driver_types.h: the values used below
_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING = 1
_THREAD_LOCAL = 1
_PORTABLE = 1
_NO_MEMORY = 2

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    # Not cudaGraphInstantiate, whose arguments changed with CUDA 12.
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGetLastError": (),
}
_MAJORS = (13, 12, 11)


def load(driver: str) -> Cuda:
    """The CUDA runtime for a ``driver`` that speaks this version of CUDA. Raises BackendError where there is none."""
    spoken = int(driver.split(".")[0])
    tried = []
    for path in _places([major for major in _MAJORS if major <= spoken]):
        try:
            return Cuda(open_library(path))
        except (OSError, AttributeError):  # not there, or so old that a function is missing
            tried.append(path)
    raise BackendError(
        f"CUDA's runtime is not found (none of {', '.join(dict.fromkeys(Path(path).name for path in tried))})",
        f"install it for CUDA {spoken} (`pip install nvidia-cuda-runtime-cu{spoken}`, from CUDA 13 on "
        "`pip install nvidia-cuda-runtime`; on a Jetson `apt install cuda-cudart-12-6` or your JetPack's), "
        "or set LD_LIBRARY_PATH",
    )


def open_library(path: str) -> Any:
    """The shared library, by name or path. Raises OSError."""
    return ctypes.CDLL(path)


def _places(majors: list[int]) -> Iterator[str]:
    """Where libcudart can be, best first: where the system looks, pip's packages, CUDA's own folder."""
    names = [f"libcudart.so.{'11.0' if major == 11 else major}" for major in majors]
    yield from names
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        spec = None
    for root in list(spec.submodule_search_locations or ()) if spec else ():
        for major, name in zip(majors, names, strict=True):
            yield from (str(Path(root, folder, "lib", name)) for folder in (f"cu{major}", "cuda_runtime"))
    yield from (f"/usr/local/cuda/lib64/{name}" for name in names)


class Cuda:
    """libcudart with checked calls. All of them raise BackendError, in CUDA's words."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.cudaGetErrorString.argtypes = (c_int,)
        library.cudaGetErrorString.restype = c_char_p
        for name, arguments in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int

    def free_bytes(self) -> int:
        """Bytes of device memory that are free now."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def malloc(self, size: int) -> int:
        """The address of ``size`` bytes of device memory."""
        pointer = c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), size, size=size)
        return int(pointer.value or 0)

    def free(self, address: int) -> None:
        """Give device memory back; 0 is nothing."""
        if address:
            self._call("cudaFree", address)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes of host memory that the GPU copies from directly; freed when no array sees it any more."""
        pointer = c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), max(size, 1), _PORTABLE, size=size)
        address = int(pointer.value or 0)
        block = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(block, self._library.cudaFreeHost, c_void_p(address)).atexit = False
        return np.frombuffer(memoryview(block), dtype=np.uint8)

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy ``size`` bytes to the device, in the stream's order."""
        self._call("cudaMemcpyAsync", device, host, size, _TO_DEVICE, stream)

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy ``size`` bytes from the device, in the stream's order."""
        self._call("cudaMemcpyAsync", host, device, size, _TO_HOST, stream)

    def stream(self) -> int:
        """A new stream that does not wait for the default one."""
        pointer = c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(pointer), _NON_BLOCKING)
        return int(pointer.value or 0)

    def synchronise(self, stream: int) -> None:
        """Wait until everything in the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back; 0 is nothing."""
        if stream:
            self._call("cudaStreamDestroy", stream)

    def begin_capture(self, stream: int) -> None:
        """From here on the stream's work is recorded instead of done."""
        self._call("cudaStreamBeginCapture", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """End the recording and make it executable: a handle for ``launch``."""
        graph, executable = c_void_p(), c_void_p()
        self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
        try:
            self._call("cudaGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        return int(executable.value or 0)

    def abandon_capture(self, stream: int) -> None:
        """End a recording that failed, and forget the error."""
        graph = c_void_p()
        self._library.cudaStreamEndCapture(stream, ctypes.byref(graph))
        if graph.value:
            self._library.cudaGraphDestroy(graph)
        self._library.cudaGetLastError()

    def launch(self, executable: int, stream: int) -> None:
        """Do what was recorded, in the stream's order."""
        self._call("cudaGraphLaunch", executable, stream)

    def destroy_graph(self, executable: int) -> None:
        """Give a recording back; 0 is nothing."""
        if executable:
            self._call("cudaGraphExecDestroy", executable)

    def _call(self, name: str, *arguments: Any, size: int = 0) -> None:
        status = int(getattr(self._library, name)(*arguments))
        if not status:
            return
        # Errors that do not last are kept until they are asked for, and would be reported by the next call.
        self._library.cudaGetLastError()
        words = self._library.cudaGetErrorString(status) or b""
        if status == _NO_MEMORY:
            raise BackendError(
                f"the GPU has too little memory: {size / 1e6:.0f} MB wanted, {self._free_now() / 1e6:.0f} MB free",
                "close other programs, or build with `--profile query`",
            )
        raise BackendError(
            f"CUDA's {name} failed (error {status}, {words.decode('utf-8', 'replace')})",
            "see `sayclip doctor`, and the kernel's log for the GPU's own errors",
        )

    def _free_now(self) -> int:
        free, total = c_size_t(), c_size_t()
        return free.value if not self._library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) else 0
