"""SHA-256 of a bundle's files: computed once, then remembered in the user's cache until the file changes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import FileEntry
from sayclip.bundle.fields import REMEDY, refuse
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import Memo
from sayclip.errors import BundleError

_CHUNK = 1 << 20
# A file written within the resolution of its time stamp could change again without a trace: not remembered yet.
_SETTLED_NS = 2_000_000_000


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hex. Raises OSError."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def describe_file(folder: str | os.PathLike[str], name: str) -> FileEntry:
    """The manifest entry of the file ``name`` (POSIX, relative) in ``folder``, for those who write bundles."""
    path = Path(folder, name)
    try:
        return FileEntry(name, sha256_of(path), path.stat().st_size)
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", "write the file before its manifest") from None


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def verify_files(manifest: Manifest, *, again: bool = False, progress: Callable[[int, int], None] | None = None) -> int:
    """Check the SHA-256 of every file that ``manifest`` names; returns how many files were hashed.

    A file is hashed once and then remembered by path, size, times of modification and change, and inode; ``again``
    hashes all of them anew. ``progress`` is called with the bytes done and the bytes in all.
    Raises BundleError for the first file that differs.
    """
    memo = Memo("hashes")
    files = manifest.files()
    facts: dict[str, dict[str, Any]] = {}
    hashed, done, total = 0, 0, sum(file.bytes for file in files)
    try:
        for entry in files:
            path = manifest.path(entry.file)
            key = str(path.resolve())
            known = None if again else memo.get(key)
            try:
                stamp = _stamp(path)
                if known is None or {**stamp, "sha256": known.get("sha256")} != known:
                    known = {**stamp, "sha256": sha256_of(path)}
                    settled = time.time_ns() - max(stamp["mtime_ns"], stamp["ctime_ns"]) > _SETTLED_NS
                    hashed += 1
                    if settled and _stamp(path) == stamp:
                        facts[key] = known
            except OSError as error:
                raise refuse(f"{path} cannot be read ({error.strerror})") from None
            if known["sha256"] != entry.sha256:
                raise _differs(path, known["sha256"], entry.sha256)
            done += entry.bytes
            if progress is not None:
                progress(done, total)
    finally:
        memo.put(facts)
    return hashed


def _differs(path: Path, seen: str, wanted: str) -> BundleError:
    return refuse(f"{path} has sha256 {seen[:12]}…, the manifest wants {wanted[:12]}…", REMEDY)
