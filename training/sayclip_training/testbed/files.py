"""Files that are either whole or not there, and their hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write(path: Path, content: bytes) -> str:
    """Write ``content`` under another name, then move it to ``path``; its sha256 in hexadecimal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
