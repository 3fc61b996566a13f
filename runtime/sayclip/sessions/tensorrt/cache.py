"""Engines in the user's cache: each a plan and a record beside it, which is read before TensorRT sees the plan.

The record names the plan's file, hash and size, and everything that the plan depends on. A plan is written first and
its record last, both by renaming, so a kill leaves the old engine or the new one. Engines come from this machine's own
builds only, never from a bundle.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import GraphEntry
from sayclip.bundle.files import sha256_of
from sayclip.bundle.memo import cache_folder
from sayclip.errors import BackendError
from sayclip.sessions.tensorrt.library import TITLES

FORMAT = 1
REMEDY = "run `sayclip build BUNDLE`"


@dataclass(frozen=True)
class Key:
    """What an engine depends on. ``graph`` is a hash of the graph and its weights, ``shapes`` one of the profiles."""

    graph: str
    plan: str
    library: str
    version: str
    gpu: str
    capability: str
    driver: str
    shapes: str
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The record's file name without its ending; those of one graph and plan begin alike."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.stem}{digest[:16]}"

    @property
    def stem(self) -> str:
        """What the names of all engines of this graph and plan begin with."""
        return f"{self.graph[:16]}-{self.plan}-"

    @classmethod
    def from_dict(cls, data: Any) -> Key | None:
        """The key that ``to_dict`` gave, or None."""
        kinds = {field.name: int if field.name == "format" else str for field in fields(cls)}
        if not isinstance(data, dict) or set(data) != set(kinds):
            return None
        return cls(**data) if all(type(data[name]) is kind for name, kind in kinds.items()) else None


@dataclass(frozen=True)
class Entry:
    """One engine in the cache; ``facts`` is what was found out when it was built."""

    record: Path
    key: Key
    file: str
    sha256: str
    bytes: int
    facts: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The plan's own file."""
        return self.record.parent / self.file


def graph_id(graph: GraphEntry) -> str:
    """A hash of a graph and of the weights beside it."""
    return hashlib.sha256("\n".join([graph.sha256, *(file.sha256 for file in graph.data)]).encode()).hexdigest()


def shapes_id(profiles: Sequence[Mapping[str, Any]]) -> str:
    """A hash of optimisation profiles."""
    return hashlib.sha256(json.dumps(profiles, sort_keys=True).encode()).hexdigest()


def folder() -> Path:
    """Where engines lie, not created. Raises BackendError without a home folder."""
    cache = cache_folder()
    if cache is None:
        raise BackendError("there is no home folder to keep engines in", "set XDG_CACHE_HOME")
    return cache / "engines"


def read_record(path: Path) -> Entry | None:
    """The engine whose record is ``path``, its plan unseen; None for a record that is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        plan, facts = data["plan"], data["facts"]
        file, sha256, size = plan["file"], plan["sha256"], plan["bytes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    key = Key.from_dict(data.get("key"))
    plain = isinstance(file, str) and file == os.path.basename(file) and file.endswith(".plan")
    if key is None or not plain or not isinstance(sha256, str) or type(size) is not int or not isinstance(facts, dict):
        return None
    return Entry(path, key, file, sha256, size, facts)


def entries() -> Iterator[Entry]:
    """Every engine in the cache that has a readable record."""
    for path in sorted(folder().glob("*/*.json")):
        if (entry := read_record(path)) is not None:
            yield entry


def candidates(library: str, graph: str, plan: str) -> list[Path]:
    """Records of engines of this graph and plan, for any machine, newest first."""
    found = []
    for path in (folder() / library).glob(f"{graph[:16]}-{plan}-*.json"):
        with suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def find(key: Key) -> Entry | None:
    """The engine for exactly ``key``, its plan unseen but for its size."""
    entry = read_record(folder() / key.library / f"{key.name}.json")
    if entry is None or entry.key != key:
        return None
    try:
        return entry if entry.path.stat().st_size == entry.bytes else None
    except OSError:
        return None


def explain(key: Key) -> str:
    """Why there is no engine for ``key``, in words."""
    own = folder() / key.library / f"{key.name}.json"
    entry = read_record(own)
    if entry is not None and entry.key == key:
        return damage(entry) or "is there"
    if own.exists() and entry is None:
        return f"is damaged ({own} is not a record of an engine)"
    for path in [own, *candidates(key.library, key.graph, key.plan)]:
        other = read_record(path)
        if other is not None and (said := differences(other.key, key)):
            return said
    return "is not built yet"


def differences(there: Key, here: Key) -> str:
    """What keeps an engine made for ``there`` from being used for ``here``, in words; empty when nothing does."""
    seen, wanted = [], []
    title = TITLES.get(here.library, here.library)
    for name, show in (
        ("capability", "{}"),
        ("gpu", "{}"),
        ("library", "{}"),
        ("version", f"{title} {{}}"),
        ("driver", "a driver of CUDA {}"),
        ("plan", "the {} plan"),
        ("shapes", "the shapes {:.12}…"),
        ("graph", "the graph {:.12}…"),
        ("format", "format {}"),
    ):
        if getattr(there, name) != getattr(here, name):
            seen.append(show.format(getattr(there, name)))
            wanted.append(show.format(getattr(here, name)))
    return f"was built for {', '.join(seen)}; here {', '.join(wanted)}" if seen else ""


def damage(entry: Entry) -> str:
    """What is wrong with a plan's file, in words; empty when it is as its record says. Reads all of it."""
    try:
        size = entry.path.stat().st_size
        if size != entry.bytes:
            return f"is damaged ({entry.file} has {size} bytes, its record says {entry.bytes})"
        seen = sha256_of(entry.path)
    except OSError as error:
        return f"cannot be read ({entry.path}: {error.strerror})"
    if seen != entry.sha256:
        return f"is damaged ({entry.file} has sha256 {seen[:12]}…, its record says {entry.sha256[:12]}…)"
    return ""


def read_plan(entry: Entry) -> mmap.mmap:
    """The plan's bytes, mapped, after their hash was checked. Raises BackendError for a damaged one."""
    if problem := damage(entry):
        raise BackendError(f"the engine {problem}", f"{REMEDY} --force")
    try:
        with open(entry.path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise BackendError(f"the engine {entry.path} cannot be read ({error})", f"{REMEDY} --force") from None


def store(key: Key, plan: Path, facts: Mapping[str, Any]) -> Entry:
    """Move the file ``plan``, which lies in the cache's file system, into the cache. Raises BackendError."""
    return store_in(folder() / key.library, key, plan, facts)


def store_in(place: Path, key: Key, plan: Path, facts: Mapping[str, Any]) -> Entry:
    """As ``store``, into the folder ``place``."""
    record = place / f"{key.name}.json"
    before = read_record(record)
    try:
        place.mkdir(parents=True, exist_ok=True)
        digest, size = sha256_of(plan), plan.stat().st_size
        file = f"{key.name}.{digest[:16]}.plan"
        _flush(plan)
        os.replace(plan, place / file)
        document = {"key": asdict(key), "plan": {"file": file, "sha256": digest, "bytes": size}, "facts": dict(facts)}
        temporary = plan.with_suffix(".record")
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        _flush(temporary)
        os.replace(temporary, record)
    except OSError as error:
        raise BackendError(
            f"the engine cannot be kept in {place} ({error.strerror})", "make room there, or set XDG_CACHE_HOME"
        ) from None
    if before is not None and before.file != file:
        before.path.unlink(missing_ok=True)
    return Entry(record, key, file, digest, size, facts)


@contextmanager
def workshop() -> Iterator[Path]:
    """An empty folder inside the cache to build in, removed at the end.

    Only one process at a time builds: measurements of two would disturb each other. What a killed build left is cleared
    away. Raises BackendError when another build runs, or where nothing can be written.
    """
    import fcntl

    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        remedy = "set XDG_CACHE_HOME to a folder that can"
        raise BackendError(f"{root} cannot be written ({error.strerror})", remedy) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackendError(f"another build is running ({root} is locked)", "wait for its end") from None
        for left in root.glob(".building-*"):
            shutil.rmtree(left, ignore_errors=True)
        _clear_orphans(root)
        with temporary_folder(root) as made:
            yield made
    finally:
        os.close(lock)


@contextmanager
def temporary_folder(root: Path) -> Iterator[Path]:
    """An empty folder inside ``root``, which is made if it is not there; removed at the end. Raises BackendError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
    except OSError as error:
        raise BackendError(f"{root} cannot be written ({error.strerror})", "name another folder") from None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _clear_orphans(root: Path) -> None:
    """Remove plans that no record names: a kill came between the two."""
    for place in (path for path in root.iterdir() if path.is_dir() and path.name in TITLES):
        named = {entry.file for path in place.glob("*.json") if (entry := read_record(path)) is not None}
        for plan in place.glob("*.plan"):
            if plan.name not in named:
                plan.unlink(missing_ok=True)


def timing_cache(library: str, version: str, capability: str) -> Path:
    """Where TensorRT's measurements of kernels are kept between builds."""
    return folder() / library / f"timing-{version}-{capability}.cache"


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
