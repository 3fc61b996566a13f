"""The control groups that this process is in, where Linux keeps what they grant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folder of this process's group for ``controller`` and of each above it, with the hierarchy's version, 1 or 2.

    ``root`` is ``/``, but for tests.
    """
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mounts = dict.fromkeys((controllers, controller)) if controllers else ("",)
        for mount in (root / "sys/fs/cgroup" / name for name in mounts):
            group = mount / path.strip("/")
            # In a container the path can be the host's, and the group's own files lie at the mount point.
            for folder in (group, *group.parents):
                if not folder.is_relative_to(mount):
                    break
                yield folder, 1 if controllers else 2


def read(path: Path) -> str:
    """The text of a small file of the system's, stripped; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
