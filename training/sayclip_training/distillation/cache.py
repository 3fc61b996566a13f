"""What is slow to make and depends on its inputs alone, kept on the disk under a hash of them."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip_training.whole import write

AT_ONCE = 4096  # rows a file: what an interruption can lose


def digest(parts: Iterable[str]) -> str:
    """24 hex digits over strings and their borders."""
    made = hashlib.sha256()
    for part in parts:
        data = part.encode()
        made.update(b"%d:" % len(data) + data)
    return made.hexdigest()[:24]


def rows(
    folder: Path,
    kind: str,
    identity: str,
    keys: Sequence[str],
    width: int,
    make: Callable[[int, int], NDArray[np.float32]],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """A row of ``width`` numbers for each of ``keys``, float32 [N, width], read from ``folder`` as far as it is there.

    ``make(start, stop)`` gives the rows that are missing; ``identity`` is all else that they depend on. A file that is
    damaged is made again.
    """
    parts = [np.empty((0, width), np.float32)]
    for start in range(0, len(keys), AT_ONCE):
        stop = min(start + AT_ONCE, len(keys))
        path = folder / f"{kind}-{digest([identity, str(width), *keys[start:stop]])}.npy"
        part = _load(path, (stop - start, width))
        if part is None:
            part = np.ascontiguousarray(make(start, stop), np.float32)
            write(path, lambda target, part=part: _save(target, part))  # type: ignore[misc]
        parts.append(part)
        progress(stop, len(keys))
    return np.concatenate(parts)


def texts(folder: Path, kind: str, identity: str, keys: Sequence[str], make: Callable[[], list[str]]) -> list[str]:
    """A text of one line for each of ``keys``, as ``rows``; without any of ``keys`` nothing is asked."""
    if not keys:
        return []
    path = folder / f"{kind}-{digest([identity, *keys])}.txt"
    try:
        read = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        read = []
    if len(read) != len(keys):
        read = make()
        whole = "".join(line + "\n" for line in read)
        write(path, lambda target: target.write_text(whole, encoding="utf-8", newline="\n"))
    return read


def keep_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write ``arrays`` to ``path``, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write(path, lambda target: target.write_bytes(buffer.getvalue()))


def kept_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    """The arrays ``names`` of ``path``; None where it is not there, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _load(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    good = found.shape == shape and found.dtype == np.float32 and bool(np.isfinite(found).all())
    return found if good else None


def _save(path: Path, part: NDArray[np.float32]) -> None:
    with path.open("wb") as file:  # by its name numpy would add an ending of its own
        np.save(file, part)
