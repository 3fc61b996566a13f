"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write(path: Path, put: Callable[[Path], object]) -> None:
    """Let ``put`` write ``.NAME.PID.part`` beside ``path``, which takes its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        put(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
