"""Compiled graphs in the user's cache, for a backend that takes long to compile what it takes moments to load.

A file's name holds the hash of its content, which is looked at before it is used: a file that is damaged, or cut off by
a kill or a full disk, is removed and the graph compiled again. The cache stays within a size; what was used longest ago
goes first. As all of the cache it is a convenience: nothing here raises.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.memo import cache_folder
from sayclip.sessions import cpu

LIMIT_BYTES = 1_000_000_000
LARGEST_BYTES = 300_000_000
"""A larger one would be held in memory whole while it is written, and saves little beside loading it."""
_ABANDONED_S = 3600.0


def key_of(graph: str, version: str, settings: Mapping[str, str]) -> str:
    """A name for what a graph with the hash ``graph`` compiles to, by the backend's version and on this processor."""
    facts = [graph, version, dict(settings), cpu.model()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def folder() -> Path | None:
    """Where compiled graphs lie, not created; None without a home folder."""
    cache = cache_folder()
    return None if cache is None else cache / "compiled"


def read(key: str) -> NDArray[np.uint8] | None:
    """The content stored under ``key``, uint8 [n], mapped from its file; None where there is none that is whole."""
    for path in _files(key):
        try:
            content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="c")
        except (OSError, ValueError):  # ValueError: an empty file
            continue
        if _name(key, content) == path.name:
            with suppress(OSError):
                os.utime(path)
            return content
    forget(key)
    return None


def write(key: str, content: Any) -> bool:
    """Store ``content`` (bytes or a buffer of them) under ``key``, and make room for it; whether that was possible."""
    place = folder()
    size = memoryview(content).nbytes
    if place is None or size > LARGEST_BYTES:
        return False
    import tempfile  # hardly any start has something to write

    temporary = ""
    try:
        place.mkdir(parents=True, exist_ok=True)
        _make_room(place, size)
        handle, temporary = tempfile.mkstemp(prefix=f"{key}.", suffix=".tmp", dir=place)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        forget(key)  # another process's, or the same graph compiled to other bytes
        os.replace(temporary, place / _name(key, content))
    except OSError:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def forget(key: str) -> None:
    """Remove what is stored under ``key``."""
    for path in _files(key):
        with suppress(OSError):
            path.unlink()


def _files(key: str) -> list[Path]:
    place = folder()
    return [] if place is None else sorted(place.glob(f"{key}.*.blob"))


def _name(key: str, content: Any) -> str:
    return f"{key}.{hashlib.sha256(content).hexdigest()[:32]}.blob"


def _make_room(place: Path, size: int) -> None:
    """Remove the files used longest ago until ``size`` more bytes fit, and what killed processes left."""
    found = []
    for path in place.iterdir():
        with suppress(OSError):
            status = path.stat()
            if path.suffix == ".tmp":
                if time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink()
                continue
            found.append((status.st_mtime, status.st_size, path))
    total = size + sum(length for _, length, _ in found)
    for _, length, path in sorted(found):
        if total <= LIMIT_BYTES:
            break
        with suppress(OSError):
            path.unlink()
            total -= length
