"""A library of many vectors to search: random ones that lie as embeddings do, near a space of fewer dimensions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip.library.store import Store

_INNER = 64
_BLOCK = 10_000


class Stub:
    """What a library asks of an encoder, for one that only names a space."""

    names: tuple[str, ...] = ()

    def __init__(self, space: str, width: int) -> None:
        self.space, self.width = space, width


def vectors(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """f32 [count, width], unit length."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((min(_INNER, width), width), np.float32)
    rows: NDArray[np.float32] = rng.standard_normal((count, len(basis)), np.float32) @ basis
    rows += 0.3 * np.float32(len(basis)) ** 0.5 * rng.standard_normal((count, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def library(folder: Path, space: str, width: int, count: int) -> tuple[Path, Path]:
    """The library's database, indexed where it can be, and the same vectors (.npy); made where they are not there."""
    stem = folder / f"{count}x{width}-{hashlib.sha256(space.encode()).hexdigest()[:8]}"
    database, array = stem.with_suffix(".sqlite"), stem.with_suffix(".npy")
    if database.exists() and array.exists():
        return database, array
    folder.mkdir(parents=True, exist_ok=True)
    database.unlink(missing_ok=True)
    rows = vectors(count, width)
    np.save(array, rows)
    sayclip.Library.create(database, Stub(space, width)).close()  # type: ignore[arg-type]
    store = Store(database, 30.0)
    try:
        for start in range(0, count, _BLOCK):
            with store.writing():
                for number in range(start, min(start + _BLOCK, count)):
                    name = f"picture{number:07d}.jpg"
                    item = store.insert_item("picture", name, hashlib.sha256(name.encode()).hexdigest(), {})
                    store.replace_vector(item, "image", "0" * 64, rows[number].astype(np.float16).tobytes())
    finally:
        store.close()
    try:
        with sayclip.Library.open(database, None) as opened:
            opened.build_index()
    except sayclip.SayclipError:
        pass  # without usearch, search is exact
    return database, array
