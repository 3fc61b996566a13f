"""A folder put where another one is, in one step: for those who write bundles.

A bundle is made in a folder beside its place and changes places with what was there once it is whole, so that a full
disk, a refusal or a kill leaves the old bundle as it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # from linux/fcntl.h and linux/fs.h


@contextlib.contextmanager
def made_beside(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes the place of ``out`` when the block ends well, and vanishes otherwise.

    It is on the same disk as ``out``. Folders above ``out`` are made where they lack. Raises OSError.
    """
    out = out.absolute()  # "." has no name to build on
    parents = [parent for parent in (out.parent, *out.parent.parents) if not parent.exists()]
    fresh: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield fresh
        fresh.chmod(0o755)  # mkdtemp lets nobody else read
        swap(fresh, out)
    except BaseException:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def swap(fresh: Path, out: Path) -> None:
    """Put the folder ``fresh`` where ``out`` is, if anything is; what was there goes only when the new one stands.

    At no moment is ``out`` missing on Linux with a file system that lets two folders change places (ext4, XFS, Btrfs,
    tmpfs). Elsewhere there are two renames, and a kill between them leaves the old folder whole in a hidden one beside
    its place. Raises OSError, and what was there is back in its place then.
    """
    if not out.exists():
        fresh.rename(out)
        return
    if _exchange(fresh, out):
        shutil.rmtree(fresh, ignore_errors=True)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        try:
            fresh.rename(out)
        except OSError:
            (old / out.name).rename(out)
            raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, two: Path) -> bool:
    """Let two folders change places in one step; False where that cannot be done, and nothing has changed then."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):  # not Linux, or a C library from before 2018
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE) == 0)
