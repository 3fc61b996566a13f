"""Memory of one session: device buffers that stay where they are, scratch space shared in turn, pinned host blocks.

Addresses are baked into CUDA graphs, so ``generation`` rises whenever one of them changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.sessions.base import Array
from sayclip.sessions.tensorrt.cudart import Cuda


class Memory:
    """Blocks that only grow, each allocated once for the largest shapes asked for. Raises BackendError when full."""

    def __init__(self, cuda: Cuda) -> None:
        self.generation = 0
        self._cuda = cuda
        self._device: dict[str, tuple[int, int]] = {}
        self._pinned: dict[str, NDArray[np.uint8]] = {}

    def reserve(self, name: str, size: int) -> int:
        """The device address of the block ``name``, of at least ``size`` bytes; nothing may run on the device now."""
        address, there = self._device.get(name, (0, 0))
        if address and there >= size:
            return address
        self._device.pop(name, None)
        self._cuda.free(address)
        address = self._cuda.malloc(max(size, 1))
        self._device[name] = (address, size)
        self.generation += 1
        return address

    def address(self, name: str) -> int:
        """Where the block ``name`` lies."""
        return self._device[name][0]

    def host(self, name: str, shape: Sequence[int], dtype: str) -> Array:
        """Pinned host memory called ``name`` as an array; it is the same memory every time, unless it had to grow."""
        count = int(np.prod(tuple(shape), dtype=np.int64))
        size = count * np.dtype(dtype).itemsize
        block = self._pinned.get(name)
        if block is None or block.nbytes < size:
            block = self._pinned[name] = self._cuda.pinned(max(size, 1))
        view: NDArray[Any] = block[:size].view(dtype).reshape(tuple(shape))
        return view

    def is_pinned(self, array: Array) -> bool:
        """Whether all of ``array``, in C order, lies in one of the pinned blocks."""
        if not array.flags.c_contiguous:
            return False
        first = array.ctypes.data
        return any(
            block.ctypes.data <= first and first + array.nbytes <= block.ctypes.data + block.nbytes
            for block in self._pinned.values()
        )

    def close(self) -> None:
        """Give everything back; host memory only when no array sees it any more."""
        self._pinned.clear()
        while self._device:
            _, (address, _) = self._device.popitem()
            self._cuda.free(address)
