"""Small files of /sys and /proc as numbers and words; what is absent or unreadable is None or nothing, no error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sayclip.sessions.cgroups import read

ROOT = Path("/")


def number(path: Path) -> float | None:
    """The number that a file holds, or None."""
    try:
        return float(read(path))
    except ValueError:
        return None


def whole(path: Path) -> int | None:
    """The whole number that a file holds, or None."""
    found = number(path)
    return None if found is None else int(found)


def words(path: Path) -> str:
    """One line of text, without the NULs that end strings of a device tree."""
    return " ".join(read(path).replace("\0", " ").split())


def found(folder: Path, pattern: str) -> list[Path]:
    """What matches in ``folder``, numbers in their order (cpu2 before cpu10); nothing where it cannot be listed."""
    try:
        return sorted(folder.glob(pattern), key=_natural)
    except OSError:
        return []


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def cpu_folders(root: Path = ROOT) -> Iterator[Path]:
    """/sys/devices/system/cpu/cpu0, cpu1 and so on."""
    for folder in found(root / "sys/devices/system/cpu", "cpu[0-9]*"):
        if folder.name[3:].isdigit():
            yield folder


def real(root: Path) -> bool:
    """Whether ``root`` is this machine's own: then its commands and its GPUs may be asked, too."""
    return os.path.realpath(root) == "/"


def jetson(root: Path = ROOT) -> str:
    """What a Jetson calls itself; nothing on any other machine."""
    model = words(root / "proc/device-tree/model")
    return model if "jetson" in model.lower() or (root / "etc/nv_tegra_release").exists() else ""
