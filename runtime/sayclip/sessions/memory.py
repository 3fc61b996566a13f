"""What this process may still use of the machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes to be had without swapping, within the limits of control groups; None where the system does not say."""
    return min((max(0, count) for count in _counts(root)), default=None)


def _counts(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == "MemAvailable" and words and words[0].isdigit():
            yield int(words[0]) * 1024
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        group = mount / path.strip("/")
        # In a container the path can be the host's, and the group's own files lie at the mount point.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            sizes = [_read(folder / limit), _read(folder / used)]
            if all(size.isdigit() for size in sizes):  # "max" where there is no limit
                yield int(sizes[0]) - int(sizes[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
