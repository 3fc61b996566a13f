"""What this process may use of the machine's processor: threads, instruction sets, model."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from sayclip.sessions import cgroups
from sayclip.sessions.cgroups import read


def default_threads() -> int:
    """Threads for one inference: the cores this process may run on, within its control group's quota; at least 1.

    Two hardware threads of one core count as one, because matrix products gain nothing from the second.
    """
    quota = cgroup_quota()
    cores = usable_cores()
    return max(1, cores if quota is None else min(cores, int(quota)))


def usable_cores() -> int:
    """Physical cores in this process's affinity mask."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    cores = set()
    for cpu in cpus:
        siblings = read(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
        cores.add(siblings or str(cpu))
    return len(cores)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The CPUs' worth of time that control groups grant (1.5 is one and a half), or None when they set no limit.

    Reads ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1) of this process's group and of those above it.
    """
    limits = [limit for limit in _limits(root) if limit > 0]
    return min(limits, default=None)


def _limits(root: Path) -> Iterator[float]:
    for folder, version in cgroups.folders(root, "cpu"):
        if version == 1:
            quota = [read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")]
        else:
            quota = read(folder / "cpu.max").split()
        if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]) > 0:
            yield int(quota[0]) / int(quota[1])


def is_arm() -> bool:
    """Whether this is a 64-bit Arm processor."""
    return platform.machine().lower() in ("aarch64", "arm64")


def is_x86() -> bool:
    """Whether this is a 64-bit x86 processor."""
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    found: dict[str, str] = {}
    for line in read(Path("/proc/cpuinfo")).splitlines():
        key, colon, value = line.partition(":")
        if not colon and found:
            break
        found[key.strip()] = value.strip()
    return found


def features() -> tuple[str, ...]:
    """Those instruction sets for int8 products that the processor has, such as ``avx512_vnni`` or ``i8mm``."""
    flags = (_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split()
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    return tuple(name for name in known if name in flags)


def has_vnni() -> bool:
    """Whether products of unsigned and signed bytes are summed in 32 bits here; without it they saturate at 16."""
    return any(name in features() for name in ("avx_vnni", "avx512_vnni", "amx_int8"))


def model() -> str:
    """The processor's model, to tell machines apart in the cache: a name on x86, the part's numbers on Arm."""
    info = _cpuinfo()
    if "model name" in info:
        parts = [info["model name"], *(info.get(key, "") for key in ("cpu family", "model", "stepping"))]
    else:
        parts = [platform.machine(), *(info.get(key, "") for key in ("CPU implementer", "CPU part", "CPU variant"))]
    return " ".join([*(part for part in parts if part), *features()])
