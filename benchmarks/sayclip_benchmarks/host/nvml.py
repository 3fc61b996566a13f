"""NVIDIA's management library (NVML) by ctypes: names, clocks, temperatures, throttling and energy of GPUs.

It comes with the driver. A GPU that cannot tell something (a Jetson's has no energy counter) says None for it.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
SLOWED = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "temperature (driver)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""Bits of the reasons for lower clocks that are throttling; the others are idleness and what a user set."""
_GRAPHICS, _MEMORY = 0, 2  # nvmlClockType_t
_CORE = 0  # nvmlTemperatureSensors_t
_POLICIES = {"power": 0, "thermal": 1}  # nvmlPerfPolicyType_t
_TEXT = 96  # bytes, NVML's longest name


class _Violation(ctypes.Structure):
    _fields_ = (("reference_ns", ctypes.c_ulonglong), ("violation_ns", ctypes.c_ulonglong))


class Gpu:
    """One GPU; every method gives None where the driver does not tell."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    def name(self) -> str | None:
        text = ctypes.create_string_buffer(_TEXT)
        done = self._call("nvmlDeviceGetName", text, ctypes.c_uint(_TEXT))
        return text.value.decode(errors="replace") if done else None

    def mhz(self) -> int | None:
        """Clock of the processors now."""
        return self._count("nvmlDeviceGetClockInfo", ctypes.c_int(_GRAPHICS))

    def max_mhz(self) -> int | None:
        return self._count("nvmlDeviceGetMaxClockInfo", ctypes.c_int(_GRAPHICS))

    def memory_mhz(self) -> int | None:
        return self._count("nvmlDeviceGetClockInfo", ctypes.c_int(_MEMORY))

    def celsius(self) -> int | None:
        return self._count("nvmlDeviceGetTemperature", ctypes.c_int(_CORE))

    def watts(self) -> float | None:
        milliwatts = self._count("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1e3

    def joules(self) -> float | None:
        """Energy since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        done = self._call("nvmlDeviceGetTotalEnergyConsumption", ctypes.byref(millijoules))
        return millijoules.value / 1e3 if done else None

    def slowed_by(self) -> list[str] | None:
        """Why clocks are lower than they could be at this moment, as far as that is throttling."""
        reasons = ctypes.c_ulonglong()
        if not self._call("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.byref(reasons)):
            return None
        return [words for bit, words in SLOWED.items() if reasons.value & bit]

    def slowed_s(self) -> dict[str, float]:
        """Seconds of throttling since the driver was loaded, by cause (power, thermal), where the GPU counts them."""
        found = {}
        for cause, policy in _POLICIES.items():
            seen = _Violation()
            if self._call("nvmlDeviceGetViolationStatus", ctypes.c_int(policy), ctypes.byref(seen)):
                found[cause] = seen.violation_ns / 1e9
        return found

    def state(self) -> dict[str, Any]:
        """All of it that changes, JSON-ready."""
        return {
            "name": self.name(),
            "mhz": self.mhz(),
            "max_mhz": self.max_mhz(),
            "memory_mhz": self.memory_mhz(),
            "celsius": self.celsius(),
            "watts": self.watts(),
            "slowed_by": self.slowed_by(),
            "slowed_s": self.slowed_s(),
        }

    def _count(self, function: str, *arguments: Any) -> int | None:
        value = ctypes.c_uint()
        return int(value.value) if self._call(function, *arguments, ctypes.byref(value)) else None

    def _call(self, function: str, *arguments: Any) -> bool:
        return _call(self._library, function, self._handle, *arguments)


@functools.lru_cache(maxsize=4)
def _library(path: str) -> Any:
    """NVML, initialised for as long as the process lives; None where there is none."""
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    return library if _call(library, "nvmlInit_v2") else None


def gpus(path: str = LIBRARY) -> list[Gpu]:
    """All GPUs of NVIDIA's driver; none where there is no driver. Never raises."""
    library = _library(path)
    count = ctypes.c_uint()
    if library is None or not _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count)):
        return []
    made = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)):
            made.append(Gpu(library, handle))
    return made


def driver(path: str = LIBRARY) -> str | None:
    """The driver's version, or None."""
    library = _library(path)
    text = ctypes.create_string_buffer(_TEXT)
    if library is None or not _call(library, "nvmlSystemGetDriverVersion", text, ctypes.c_uint(_TEXT)):
        return None
    return text.value.decode(errors="replace")


def _call(library: Any, function: str, *arguments: Any) -> bool:
    """Whether the function is there and succeeded (NVML_SUCCESS is 0)."""
    try:
        return int(getattr(library, function)(*arguments)) == 0
    except AttributeError:
        return False
