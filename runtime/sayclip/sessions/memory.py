"""What this process may still use of the machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sayclip.sessions import cgroups
from sayclip.sessions.cgroups import read

# Of a control group, by version: what it may use, and what it uses.
_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes to be had without swapping, within the limits of control groups; None where the system does not say."""
    return min((max(0, count) for count in _counts(root)), default=None)


def _counts(root: Path) -> Iterator[int]:
    for line in read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == "MemAvailable" and words and words[0].isdigit():
            yield int(words[0]) * 1024
    for folder, version in cgroups.folders(root, "memory"):
        limit, used = _FILES[version]
        sizes = [read(folder / limit), read(folder / used)]
        if all(size.isdigit() for size in sizes):  # "max" where there is no limit
            yield int(sizes[0]) - int(sizes[1])
