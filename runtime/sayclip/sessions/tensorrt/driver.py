"""NVIDIA's driver and the first GPU, asked through ctypes before any TensorRT object is made.

Without a usable driver TensorRT hands out a ``Runtime`` all the same, and using it ends the process.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from sayclip.errors import BackendError
from sayclip.sessions import memory as system

LIBRARY = "libcuda.so.1"
_REMEDY = "use backend='auto' or a machine with NVIDIA's driver; `sayclip doctor` says what is here"
# cuda.h: CUdevice_attribute, CUresult
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
_NO_DEVICE = 100


@dataclass(frozen=True)
class Gpu:
    """The first visible GPU. ``capability`` is (major, minor), ``driver`` the newest CUDA that the driver speaks, as
    in ``12.6``; ``memory`` in bytes, on ``integrated`` GPUs (Jetson) that of the whole board."""

    name: str
    capability: tuple[int, int]
    driver: str
    memory: int
    integrated: bool

    @property
    def sm(self) -> str:
        """The compute capability as NVIDIA writes it for compilers, such as ``sm_87``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


def load() -> Any:
    """The driver's library. Raises BackendError where there is none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        raise BackendError(f"there is no NVIDIA driver here ({LIBRARY} is not found)", _REMEDY) from None


def probe() -> Gpu:
    """The first GPU, as the driver sees it. Raises BackendError, one line, without a driver or without a GPU."""
    cuda = load()
    _call(cuda, "cuInit", ctypes.c_uint(0))
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise BackendError("NVIDIA's driver sees no GPU", _REMEDY)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(cuda, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
        return value.value

    return Gpu(
        name.value.decode("utf-8", "replace").strip(),
        (attribute(_MAJOR), attribute(_MINOR)),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
        memory.value,
        bool(attribute(_INTEGRATED)),
    )


def free_memory(gpu: Gpu) -> int:
    """Bytes that a program could get now: the GPU's own, on a Jetson those of the board. Raises BackendError."""
    cuda = load()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cuInit", ctypes.c_uint(0))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    _call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _call(cuda, "cuCtxSetCurrent", context)
        _call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    finally:
        cuda.cuCtxSetCurrent(ctypes.c_void_p())
        cuda.cuDevicePrimaryCtxRelease_v2(device)
    # On a board the driver does not count what Linux keeps of files and would give back.
    return max(free.value, system.available_memory() or 0) if gpu.integrated else free.value


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    status = int(getattr(cuda, function)(*arguments))
    if status == _NO_DEVICE:
        raise BackendError("NVIDIA's driver sees no GPU", _REMEDY)
    if status:
        raise BackendError(f"NVIDIA's driver does not work ({function}: {_words(cuda, status)})", _REMEDY)


def _words(cuda: Any, status: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text)) or not text.value:
        return f"error {status}"
    return f"error {status}, {text.value.decode('utf-8', 'replace')}"
