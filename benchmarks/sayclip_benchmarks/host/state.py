"""The state that a machine is in before and after it is measured, and whether it slowed itself down in between."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sayclip.sessions.cgroups import read
from sayclip.sessions.memory import available_memory
from sayclip_benchmarks.host import nvml
from sayclip_benchmarks.host.readings import ROOT, cpu_folders, found, jetson, number, real, whole, words

HOT = 95.0  # °C
FELL = 0.8  # of the clock at the start
BUSY = 0.5  # cores
_NVPMODEL_S = 5.0
Snapshot = Mapping[str, Any]


def snapshot(root: Path = ROOT) -> dict[str, Any]:
    """What the machine says of itself now, JSON-ready; what it does not say is empty or None.

    ``cores`` by name with governor, mhz, min_mhz and max_mhz; ``boost``; ``load`` over 1, 5 and 15 minutes, in cores;
    ``temperatures`` in °C and ``throttle_counts`` by name; ``power`` is mains or battery;
    ``available_bytes`` of memory; ``nvpmodel`` and ``jetson_clocks`` are a Jetson's; ``gpus`` as ``nvml.Gpu.state``.
    ``root`` other than ``/`` is for tests: no GPU and no command is asked then.
    """
    cores = _cores(root)
    return {
        "cores": cores,
        "boost": _boost(root),
        "load": _load(root),
        "temperatures": _temperatures(root),
        "throttle_counts": dict(_throttle_counts(root)),
        "power": _power(root),
        "available_bytes": available_memory(root),
        "nvpmodel": _nvpmodel() if real(root) else None,
        "jetson_clocks": _pinned(cores) if jetson(root) else None,
        "gpus": [gpu.state() for gpu in nvml.gpus()] if real(root) else [],
    }


def judge(start: Snapshot, end: Snapshot) -> tuple[bool | None, list[str]]:
    """Whether the machine throttled between two snapshots, and what is to be known of its state, in plain words.

    None where neither snapshot holds anything that would tell.
    """
    slowed = [*_counted(start, end), *_heated(start, end), *_gpus_slowed(start, end), *_fell(start, end)]
    notes = [*slowed, *_conditions(start, end)]
    if slowed:
        return True, notes
    tells = any(
        (
            end.get("throttle_counts"),
            end.get("temperatures"),
            any(gpu.get("slowed_by") is not None or gpu.get("slowed_s") for gpu in end.get("gpus") or []),
            any(True for _ in _steady(start, end)),
        )
    )
    return (False if tells else None), notes


def _cores(root: Path) -> dict[str, dict[str, Any]]:
    cores: dict[str, dict[str, Any]] = {}
    for folder in cpu_folders(root):
        scaling = folder / "cpufreq"
        core = {
            "governor": read(scaling / "scaling_governor") or None,
            "mhz": _megahertz(scaling / "scaling_cur_freq"),
            "min_mhz": _megahertz(scaling / "scaling_min_freq"),
            "max_mhz": _megahertz(scaling / "scaling_max_freq"),
        }
        if any(value is not None for value in core.values()):
            cores[folder.name] = core
    if cores:
        return cores
    # Virtual machines have no say in their clock, and mostly see a fixed one.
    clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read(root / "proc/cpuinfo"), re.MULTILINE)
    nothing = {"governor": None, "min_mhz": None, "max_mhz": None}
    return {f"cpu{place}": {**nothing, "mhz": float(clock)} for place, clock in enumerate(clocks)}


def _megahertz(path: Path) -> float | None:
    kilohertz = number(path)
    return None if kilohertz is None else kilohertz / 1000.0


def _boost(root: Path) -> bool | None:
    """Whether clocks above the nominal one are allowed."""
    folder = root / "sys/devices/system/cpu"
    allowed, forbidden = whole(folder / "cpufreq/boost"), whole(folder / "intel_pstate/no_turbo")
    if allowed is not None:
        return allowed == 1
    return None if forbidden is None else forbidden == 0


def _load(root: Path) -> list[float]:
    try:
        return [float(part) for part in read(root / "proc/loadavg").split()[:3]]
    except ValueError:
        return []


def _temperatures(root: Path) -> dict[str, float]:
    zones: dict[str, float] = {}
    for folder in found(root / "sys/class/thermal", "thermal_zone*"):
        thousandths = number(folder / "temp")
        if thousandths is not None and -50_000 < thousandths < 200_000:  # others are sensors that are switched off
            kind = words(folder / "type") or folder.name
            zones[kind if kind not in zones else f"{kind} ({folder.name})"] = thousandths / 1000.0
    return zones


def _throttle_counts(root: Path) -> Iterator[tuple[str, int]]:
    for core in cpu_folders(root):
        for path in found(core / "thermal_throttle", "*_throttle_count"):
            count = whole(path)
            if count is not None:
                yield f"{core.name} {path.name.removesuffix('_throttle_count')}", count


def _power(root: Path) -> str | None:
    """Where the machine's power comes from; batteries of mice and pens do not count."""
    online, discharging = [], False
    for supply in found(root / "sys/class/power_supply", "*"):
        kind = read(supply / "type")
        if kind in ("Mains", "USB"):
            online.append(whole(supply / "online"))
        elif kind == "Battery" and read(supply / "scope") != "Device":
            discharging |= read(supply / "status") == "Discharging"
    if discharging:
        return "battery"
    return "mains" if 1 in online else None


def _nvpmodel() -> str | None:
    """The name of a Jetson's power mode."""
    command = shutil.which("nvpmodel")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "-q"], capture_output=True, text=True, timeout=_NVPMODEL_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"NV Power Mode:\s*(\S+)", done.stdout)
    return match[1] if match else None


def _pinned(cores: Mapping[str, Mapping[str, Any]]) -> bool | None:
    """Whether clocks cannot move, which is what ``jetson_clocks`` does."""
    ranges = [(core["min_mhz"], core["max_mhz"]) for core in cores.values() if core["max_mhz"] is not None]
    return all(low == high for low, high in ranges) if ranges else None


def _counted(start: Snapshot, end: Snapshot) -> Iterator[str]:
    before, after = start.get("throttle_counts") or {}, end.get("throttle_counts") or {}
    rises = [after[name] - before[name] for name in after if name in before and after[name] > before[name]]
    if rises:
        yield f"the processor slowed down for its temperature {max(rises)} times during the run"


def _heated(start: Snapshot, end: Snapshot) -> Iterator[str]:
    hottest: dict[str, float] = {}
    for one in (start, end):
        for zone, value in (one.get("temperatures") or {}).items():
            hottest[zone] = max(value, hottest.get(zone, value))
    for zone, value in hottest.items():
        if value > HOT:
            yield f"{zone} was at {value:.0f} °C, over {HOT:.0f}"


def _gpus_slowed(start: Snapshot, end: Snapshot) -> Iterator[str]:
    before, after = start.get("gpus") or [], end.get("gpus") or []
    for place, gpu in enumerate(after):
        name = gpu.get("name") or f"GPU {place}"
        earlier = before[place] if place < len(before) else {}
        for cause, seconds in (gpu.get("slowed_s") or {}).items():
            more = seconds - (earlier.get("slowed_s") or {}).get(cause, seconds)
            if more > 0:
                yield f"{name} ran slower for {more:.2g} s of the run ({cause})"
        reasons = dict.fromkeys([*(earlier.get("slowed_by") or []), *(gpu.get("slowed_by") or [])])
        if reasons:
            yield f"{name} ran slower: {', '.join(reasons)}"


def _steady(start: Snapshot, end: Snapshot) -> Iterator[tuple[str, float, float]]:
    """Cores that are told to keep their highest clock, with the clocks at the start and at the end."""
    before, after = start.get("cores") or {}, end.get("cores") or {}
    for name, core in after.items():
        earlier = before.get(name) or {}
        if core.get("governor") == earlier.get("governor") == "performance" and core.get("mhz") and earlier.get("mhz"):
            yield name, earlier["mhz"], core["mhz"]


def _fell(start: Snapshot, end: Snapshot) -> Iterator[str]:
    for name, before, after in _steady(start, end):
        if after < FELL * before:
            yield f"{name} fell from {before:.0f} to {after:.0f} MHz under the performance governor"


def _conditions(start: Snapshot, end: Snapshot) -> Iterator[str]:
    """What is no throttling, and makes figures less sure all the same."""
    if "battery" in (start.get("power"), end.get("power")):
        yield "on battery"
    load = start.get("load") or []
    if load and load[0] > BUSY:
        yield f"other work was running at the start (load average {load[0]:.2f})"
    governors = {core.get("governor") for core in (start.get("cores") or {}).values()} - {None, "performance"}
    if governors:
        yield f"clocks were free to change (governor {', '.join(sorted(map(str, governors)))})"
    if start.get("nvpmodel") != end.get("nvpmodel"):
        yield f"the power mode changed from {start.get('nvpmodel')} to {end.get('nvpmodel')}"
