"""Numbers that depend on a text alone: the same on every machine and in every run."""

from __future__ import annotations

import hashlib


def number(key: str) -> int:
    """A whole number of 64 bits, such as a seed."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def share(key: str) -> float:
    """A number in [0, 1)."""
    return number(key) / 2**64
