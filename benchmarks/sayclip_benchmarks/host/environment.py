"""What a figure was measured on: the machine, what a process may use of it, and the versions of what it ran."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from sayclip.sessions import cpu
from sayclip.sessions.cgroups import read
from sayclip_benchmarks.host import nvml
from sayclip_benchmarks.host.packages import install_bytes, versions
from sayclip_benchmarks.host.readings import ROOT, jetson, real, words

__all__ = ["PACKAGES", "environment", "install_bytes"]

PACKAGES = (
    "sayclip",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
    "transformers",
    "optimum",
    "fastembed",
    "usearch",
    "faiss-cpu",
    "pillow",
    "soundfile",
    "soxr",
)
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
_SMI_S = 10.0


def environment(root: Path = ROOT) -> dict[str, Any]:
    """A flat mapping of str, int, float and bool; what cannot be found out is left out.

    ``cores`` are the logical processors that this process may run on, ``physical_cores`` the cores they lie on,
    ``threads`` what one inference uses by default, ``quota`` the processors' worth of time that a container grants.
    ``root`` other than ``/`` is for tests: it leaves out GPUs.
    """
    affinity = _affinity()
    found: dict[str, Any] = {
        "cpu": processor(root),
        "instructions": " ".join(cpu.features()),
        "vnni": cpu.has_vnni(),
        "cores": len(affinity),
        "physical_cores": cpu.usable_cores(),
        "threads": cpu.default_threads(),
        "affinity": _ranges(affinity),
        "quota": cpu.cgroup_quota(root),
        "memory_bytes": _memory(root),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "machine": platform.machine(),
        "kernel": platform.release(),
        "distribution": _distribution(root),
        "jetson": jetson(root),
        "l4t": l4t(root),
        **(_gpus() if real(root) else {}),
        **versions(PACKAGES),
    }
    return {key: value for key, value in found.items() if value not in (None, "")}


def processor(root: Path = ROOT) -> str:
    """What the processor calls itself; on Arm, where it does not, what the board does."""
    lines = [line.partition(":") for line in read(root / "proc/cpuinfo").splitlines()]
    named = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    if named.get("model name"):
        return named["model name"]
    parts = [f"{key} {named[key]}" for key in ("CPU implementer", "CPU part") if key in named]
    board = words(root / "proc/device-tree/model")
    return ", ".join(part for part in (board, *parts) if part) or platform.processor() or platform.machine()


def l4t(root: Path = ROOT) -> str:
    """Release of a Jetson's Linux, such as ``36.4.3``; nothing elsewhere."""
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", read(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else ""


def _affinity() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _ranges(numbers: list[int]) -> str:
    """Numbers as Linux writes lists of processors: 0-3,8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _memory(root: Path) -> int | None:
    """Bytes of the machine's memory."""
    match = re.search(r"^MemTotal:\s*(\d+)", read(root / "proc/meminfo"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _distribution(root: Path) -> str:
    match = re.search(r"^PRETTY_NAME=\"?([^\"\n]*)", read(root / "etc/os-release"), re.MULTILINE)
    return match[1] if match else ""


def _gpus() -> dict[str, Any]:
    """Names and driver of NVIDIA's GPUs, by the driver's library, else by its command."""
    names: list[str] = [name for gpu in nvml.gpus() if (name := gpu.name())]
    version = nvml.driver() if names else None
    if not names and shutil.which(_SMI[0]):
        try:
            done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return {}
        rows = [line.rpartition(",") for line in done.stdout.splitlines() if "," in line]
        names = [name.strip() for name, _, _ in rows]
        version = rows[0][2].strip() if rows else None
    if not names:
        return {}
    return {"gpu": ", ".join(dict.fromkeys(names)), "gpus": len(names), "gpu_driver": version}
