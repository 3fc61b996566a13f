"""What goes into a library and what comes out of it, as plain values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sayclip.library.store import Row

    Picture: TypeAlias = str | os.PathLike[str] | NDArray[np.uint8] | Image


@dataclass(frozen=True, eq=False)
class Item:
    """A picture to add, with what should come back when it is found."""

    picture: Picture
    """Path, uint8 array `[H, W]`, `[H, W, 3]` or `[H, W, 4]`, or Pillow image."""
    source: str | None = None
    """Name of the picture in the library. Default: its absolute path; of an array, ``array:<sha256[:16]>``,
    followed by ``@<stamp>`` where a stamp is given, because the same view at another time is another sighting."""
    caption: str | None = None
    stamp: float | None = None
    """Time of the picture in seconds, of any clock."""
    pose: Sequence[float] | None = None
    """3 to 16 finite numbers: a position, position and quaternion, or a 4 by 4 matrix row by row."""
    frame_id: str | None = None
    meta: Mapping[str, Any] | None = None
    """Anything else that JSON can hold."""


@dataclass(frozen=True)
class StoredItem:
    """One item of a library."""

    item_id: int
    kind: str
    source: str
    sha256: str
    """Of the file's bytes, or of an array's type, shape and bytes."""
    caption: str | None = None
    stamp: float | None = None
    pose: tuple[float, ...] | None = None
    frame_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The item as JSON can hold it."""
        return _plain(self)


@dataclass(frozen=True)
class Hit:
    """An item that a search found, with its cosine to the query."""

    item_id: int
    score: float
    """Cosine in [-1, 1]."""
    source: str
    kind: str
    caption: str | None = None
    stamp: float | None = None
    pose: tuple[float, ...] | None = None
    frame_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON can hold it."""
        return _plain(self)


class SearchResult(list[Hit]):
    """Hits, best first, with the time that each step took."""

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        encode_ms: float = 0.0,
        search_ms: float = 0.0,
        queries: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(hits)
        self.encode_ms = encode_ms
        self.search_ms = search_ms
        self.queries = [dict(query) for query in queries]
        """What was asked: `modality`, `query` (as text) and `weight` of each."""

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "queries": self.queries,
            "encode_ms": self.encode_ms,
            "search_ms": self.search_ms,
            "hits": [hit.to_dict() for hit in self],
        }


@dataclass
class AddReport:
    """What became of the pictures that were given to `Library.add_many`."""

    added: int = 0
    unchanged: int = 0
    updated: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """`(source, message)` of each picture that could not be added."""

    @property
    def done(self) -> int:
        """How many pictures were dealt with, well or badly."""
        return self.added + self.unchanged + self.updated + len(self.failed)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        failed = [{"source": source, "message": message} for source, message in self.failed]
        return {"added": self.added, "unchanged": self.unchanged, "updated": self.updated, "failed": failed}


def stored(row: Row) -> StoredItem:
    """The item of a row."""
    return StoredItem(sha256=row.sha256, **_shared(row))


def hit(row: Row, score: float) -> Hit:
    """The hit on a row."""
    return Hit(score=score, **_shared(row))


def _shared(row: Row) -> dict[str, Any]:
    pose = row.meta.get("pose")
    return {
        "item_id": row.id,
        "source": row.source,
        "kind": row.kind,
        "caption": row.meta.get("caption"),
        "stamp": row.meta.get("stamp"),
        "pose": None if pose is None else tuple(pose),
        "frame_id": row.meta.get("frame_id"),
        "start_s": row.start_s,
        "end_s": row.end_s,
        "meta": row.meta.get("extra", {}),
    }


def _plain(record: StoredItem | Hit) -> dict[str, Any]:
    values = dict(vars(record))
    if record.pose is not None:
        values["pose"] = list(record.pose)
    return values
