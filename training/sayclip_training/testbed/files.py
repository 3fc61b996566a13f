"""Files that are either whole or not there, and their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sayclip_training import whole


def write(path: Path, content: bytes) -> str:
    """Write ``content`` to ``path``, whole or not at all; its sha256 in hexadecimal."""
    whole.write(path, lambda part: part.write_bytes(content))
    return hashlib.sha256(content).hexdigest()
