"""A make-believe GPU behind ctypes: libcuda and libcudart as far as sayclip calls them, strict about every argument.

Device memory is host memory, so addresses are real; copies and launches wait in their stream until it is synchronised,
as on a device, and graphs keep what was recorded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

Work = Callable[[], None]

# As cuda.h and cuda_runtime_api.h declare them; every one returns an int.
DRIVER: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_void_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
RUNTIME: dict[str, tuple[Any, ...]] = {
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
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGetLastError": (),
}


class Stream:
    """What waits, and what is being recorded."""

    def __init__(self) -> None:
        self.queue: list[Work] = []
        self.recording: list[Work] | None = None


class Library:
    """Functions of a shared library, each a real C callback."""


class Gpu:
    """The device and everything that was allocated on it. Fields may be changed to make it fail."""

    def __init__(self) -> None:
        self.name, self.capability, self.cuda = "NVIDIA Stub", (8, 7), 12060
        self.total, self.free_bytes, self.integrated = 8 << 30, 6 << 30, 1
        self.count = 1
        self.uncapturable = False
        self.fail: dict[str, int] = {}
        """Status by function name."""
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.calls: list[str] = []
        self.retained = 0
        self._next = 1000

    def driver(self) -> Any:
        """libcuda.so.1"""
        return self._library(DRIVER)

    def runtime(self) -> Any:
        """libcudart.so"""
        library = self._library(RUNTIME)
        library.cudaGetErrorString = _Words()
        return library

    def enqueue(self, stream: int, work: Work) -> int:
        """Work for a stream; a status."""
        if stream not in self.streams:
            return 400
        there = self.streams[stream]
        if there.recording is not None and self.uncapturable:
            return 900
        (there.queue if there.recording is None else there.recording).append(work)
        return 0

    def block(self, address: int, size: int) -> None:
        """Refuses what does not lie inside one allocation."""
        for start, memory in (*self.device.items(), *self.pinned.items()):
            if start <= address and address + size <= start + len(memory):
                return
        raise AssertionError(f"{size} bytes at {address:#x} are outside of every allocation")

    def _library(self, table: dict[str, tuple[Any, ...]]) -> Any:
        library = Library()
        for name, arguments in table.items():
            setattr(library, name, ctypes.CFUNCTYPE(c_int, *arguments)(self._function(name)))
        return library

    def _function(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if self.fail.get(name):
                return self.fail[name]
            return int(getattr(self, f"_{name}")(*arguments) or 0)

        return call

    def _handle(self) -> int:
        self._next += 1
        return self._next

    # libcuda

    def _cuInit(self, flags: int) -> int:
        return 0 if flags == 0 else 1

    def _cuDriverGetVersion(self, version: Any) -> None:
        version[0] = self.cuda

    def _cuDeviceGetCount(self, count: Any) -> None:
        count[0] = self.count

    def _cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device[0] = 0
        return 0 if ordinal < self.count else 101

    def _cuDeviceGetName(self, name: int, size: int, device: int) -> None:
        text = self.name.encode() + b"\0"
        ctypes.memmove(name, text, min(size, len(text)))

    def _cuDeviceTotalMem_v2(self, size: Any, device: int) -> None:
        size[0] = self.total

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        known = {75: self.capability[0], 76: self.capability[1], 18: self.integrated}
        value[0] = known.get(attribute, 0)
        return 0 if attribute in known else 1

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        context[0] = 1
        self.retained += 1

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> None:
        self.retained -= 1

    def _cuCtxSetCurrent(self, context: int | None) -> None:
        return None

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free[0], total[0] = self.free_bytes, self.total
        return 0 if self.retained else 201

    def _cuGetErrorString(self, status: int, text: Any) -> int:
        text[0] = f"words for {status}".encode()
        return 0

    # libcudart

    def _cudaMalloc(self, pointer: Any, size: int) -> int:
        if size > self.free_bytes:
            return 2
        memory = ctypes.create_string_buffer(size)
        self.device[ctypes.addressof(memory)] = memory
        pointer[0] = ctypes.addressof(memory)
        return 0

    def _cudaFree(self, address: int | None) -> int:
        return 0 if self.device.pop(address or 0, None) is not None else 1

    def _cudaHostAlloc(self, pointer: Any, size: int, flags: int) -> None:
        memory = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(memory)] = memory
        pointer[0] = ctypes.addressof(memory)

    def _cudaFreeHost(self, address: int | None) -> int:
        return 0 if self.pinned.pop(address or 0, None) is not None else 1

    def _cudaMemGetInfo(self, free: Any, total: Any) -> None:
        free[0], total[0] = self.free_bytes, self.total

    def _cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> int:
        self.block(to, size)
        self.block(source, size)
        assert (to in self._range(self.device), source in self._range(self.device)) == (kind == 1, kind == 2)
        return self.enqueue(stream, lambda: void(ctypes.memmove(to, source, size)))

    def _range(self, memories: dict[int, Any]) -> _Ranges:
        return _Ranges(memories)

    def _cudaStreamCreateWithFlags(self, stream: Any, flags: int) -> None:
        stream[0] = self._handle()
        self.streams[stream[0]] = Stream()

    def _cudaStreamSynchronize(self, stream: int) -> int:
        there = self.streams[stream]
        if there.recording is not None:
            return 900
        queue, there.queue = there.queue, []
        for work in queue:
            work()
        return 0

    def _cudaStreamDestroy(self, stream: int) -> int:
        return 0 if self.streams.pop(stream, None) is not None else 400

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> None:
        self.streams[stream].recording = []

    def _cudaStreamEndCapture(self, stream: int, graph: Any) -> int:
        there = self.streams[stream]
        recorded, there.recording = there.recording, None
        if recorded is None:
            graph[0] = None
            return 901
        graph[0] = self._handle()
        self.graphs[graph[0]] = recorded
        return 0

    def _cudaGraphInstantiateWithFlags(self, executable: Any, graph: int, flags: int) -> None:
        executable[0] = self._handle()
        self.executables[executable[0]] = list(self.graphs[graph])

    def _cudaGraphDestroy(self, graph: int) -> int:
        return 0 if self.graphs.pop(graph, None) is not None else 400

    def _cudaGraphLaunch(self, executable: int, stream: int) -> int:
        for work in self.executables[executable]:
            self.enqueue(stream, work)
        return 0

    def _cudaGraphExecDestroy(self, executable: int) -> int:
        return 0 if self.executables.pop(executable, None) is not None else 400

    def _cudaGetLastError(self) -> None:
        return None


class _Ranges:
    def __init__(self, memories: dict[int, Any]) -> None:
        self._memories = memories

    def __contains__(self, address: int) -> bool:
        return any(start <= address < start + len(memory) for start, memory in self._memories.items())


class _Words:
    """cudaGetErrorString; a callback cannot return text."""

    argtypes: Any = None
    restype: Any = None

    def __call__(self, status: int) -> bytes:
        assert isinstance(status, int)
        return f"words for {status}".encode()


def void(_: object) -> None:
    """Leave out what a function returns."""


GPU = Gpu()
"""The one that the stub of TensorRT computes on; ``reset`` makes a new one."""


def reset() -> Gpu:
    """A fresh device for the next test."""
    global GPU
    GPU = Gpu()
    return GPU
