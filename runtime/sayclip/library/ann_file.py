"""The file of a usearch index: written whole or not at all, and checked before a byte of it is trusted.

usearch maps what it is given and follows its pointers, so a damaged file could end the process. Behind the index
stands a footer: JSON (`token`, `max_id`, `count`, `width`, `bytes`, `sha256`, `usearch`), its length, a magic word.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.errors import MissingDependencyError
from sayclip.library.log import warning
from sayclip.sessions.onnxruntime import import_onnxruntime

if TYPE_CHECKING:
    from usearch.index import Index

MAGIC = b"sayclip-usearch1"
_TAIL = struct.Struct("<Q16s")
_STALE_DRAFT_SECONDS = 3600.0
_EXPANSION = 128  # how widely the graph is searched; 0.998 of the ten nearest at 100,000 are found with half of it


@dataclass(frozen=True)
class IndexFile:
    """A checked index and what its footer says."""

    index: Index
    token: str
    """Ties the file to one state of one library: the library holds the same word."""
    max_id: int
    """The highest vector id that was there when the index was made."""
    count: int
    mapping: memoryview
    """What the index reads from; must live as long."""


def import_usearch() -> Any:
    """The usearch.index module. Raises ImportError.

    ONNX Runtime goes first where it is installed: versions 1.31 and 1.32 end the process when they are loaded after
    usearch 2.26, whose own C++ library then stands in for the system's.
    """
    if "usearch" not in sys.modules and importlib.util.find_spec("usearch") is not None:
        with suppress(MissingDependencyError):
            import_onnxruntime()
    import usearch.index  # a look at its files alone would not show a broken installation

    return usearch.index


@functools.cache
def usearch_installed() -> bool:
    """Whether the `[index]` extra is there and can be used."""
    try:
        import_usearch()
    except ModuleNotFoundError as error:
        if error.name != "usearch":
            warning(__name__, "usearch is not used, it cannot be imported: %s", error)
        return False
    except ImportError as error:
        warning(__name__, "usearch is not used, it cannot be imported: %s", error)
        return False
    return True


def index_path(library: Path) -> Path:
    """Where the index of a library lies."""
    return library.with_name(library.name + ".usearch")


def new_index(width: int) -> Index:
    """An empty HNSW index: float16, cosine. usearch's int8 loses 12 points of recall."""
    index: Index = import_usearch().Index(
        ndim=width, metric="cos", dtype="f16", connectivity=16, expansion_add=_EXPANSION, expansion_search=_EXPANSION
    )
    return index


def read_index(path: Path, token: str, width: int, *, mapped: bool = True) -> IndexFile | None:
    """Map (or load, to add to it) an index; None, with a line in the log, for one that is missing or of no use."""
    try:
        with open(path, "rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: an empty file
        return _refuse(path, str(error))
    footer = _footer(content)
    if footer is None:
        return _refuse(path, "no footer")
    if footer["token"] != token:
        return _refuse(path, "it belongs to another state of the library")
    if footer["width"] != width or footer["usearch"] != _usearch_major():
        return _refuse(path, "it was made for another width or by another usearch")
    body = memoryview(content)[: footer["bytes"]]
    if hashlib.sha256(body).hexdigest() != footer["sha256"]:
        return _refuse(path, "its checksum differs")
    index = new_index(width)
    try:
        if mapped:
            index.view(body)
        else:
            index.load(body)
        for setting in ("expansion_add", "expansion_search"):  # some versions forget these on loading
            setattr(index, setting, _EXPANSION)
    except (RuntimeError, TypeError, ValueError) as error:
        return _refuse(path, str(error))
    if len(index) != footer["count"]:
        return _refuse(path, f"it holds {len(index)} vectors, its footer says {footer['count']}")
    return IndexFile(index, token, footer["max_id"], footer["count"], body)


@contextmanager
def drafted(path: Path, index: Index, token: str, max_id: int) -> Iterator[Path]:
    """Write an index with its footer beside `path`, to be renamed to it within the context; raises `OSError`."""
    _remove_stale_drafts(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        try:
            index.save(os.fspath(draft))
        except RuntimeError as error:  # usearch has no other error for a full disk
            raise OSError(str(error)) from error
        digest = hashlib.sha256()
        with open(draft, "r+b") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
            footer = {
                "token": token,
                "max_id": max_id,
                "count": len(index),
                "width": index.ndim,
                "bytes": stream.tell(),
                "sha256": digest.hexdigest(),
                "usearch": _usearch_major(),
            }
            text = json.dumps(footer).encode()
            stream.write(text + _TAIL.pack(len(text), MAGIC))
            stream.flush()
            os.fsync(stream.fileno())
        yield draft
    finally:
        with suppress(OSError):
            draft.unlink()


def _footer(content: mmap.mmap) -> dict[str, Any] | None:
    kinds = {"token": str, "max_id": int, "count": int, "width": int, "bytes": int, "sha256": str, "usearch": str}
    if len(content) < _TAIL.size:
        return None
    length, magic = _TAIL.unpack(content[-_TAIL.size :])
    start = len(content) - _TAIL.size - length
    if magic != MAGIC or start < 0:
        return None
    try:
        footer = json.loads(content[start : len(content) - _TAIL.size])
    except ValueError:
        return None
    if not isinstance(footer, dict) or any(not isinstance(footer.get(key), kind) for key, kind in kinds.items()):
        return None
    return footer if footer["bytes"] == start else None


def _usearch_major() -> str:
    import_usearch()
    import usearch

    return str(usearch.__version__).split(".")[0]


def _remove_stale_drafts(path: Path) -> None:
    for draft in path.parent.glob(f"{path.name}.*.draft"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _STALE_DRAFT_SECONDS:
                draft.unlink()


def _refuse(path: Path, reason: str) -> IndexFile | None:
    warning(__name__, "index %s is not used, %s; it is built again from the library", path, reason)
    return None
