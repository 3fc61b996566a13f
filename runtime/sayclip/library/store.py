"""Rows of a library: the one place that speaks SQL to it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import LibraryError
from sayclip.library.finding import printable
from sayclip.library.schema import RESTORE, explained, open_database

BLOCK_ROWS = 4096
_COLUMNS = "id, kind, source, start_s, end_s, sha256, meta"
_ASKED_AT_ONCE = 500  # SQLite before 3.32 takes at most 999 parameters


class Row(NamedTuple):
    """One row of `items`; `meta` holds caption, stamp, pose, frame_id, extra (free) and file (path, size, times)."""

    id: int
    kind: str
    source: str
    start_s: float | None
    end_s: float | None
    sha256: str
    meta: dict[str, Any]


class VectorBlock(NamedTuple):
    """Some rows of `vectors`: ids and item ids int64 `[n]`, vectors float16 `[n, width]`."""

    ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    vectors: NDArray[np.float16]


class Store:
    """One connection to a library, shared by threads through a lock; every SQLite error leaves as `LibraryError`."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._lock = threading.RLock()
        self._own_writes = 0
        connection, self.readonly = open_database(path, timeout)
        self._connection: sqlite3.Connection | None = connection
        try:
            space, width = self.setting("space"), self.setting("width")
            if not isinstance(space, str) or not isinstance(width, int) or width < 1:
                problem = f"library {printable(path)} is damaged (its space is {space!r}, its width {width!r})"
                raise LibraryError(problem, RESTORE)
            self.space, self.width = space, width
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            if self._connection is not None:
                # Closing moves the log into the file where it can; on a full disk the log stays and is as good.
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All reads inside see the library at one moment."""
        with self._lock, self._explained("read"):
            nested = self._db.in_transaction
            if not nested:
                self._db.execute("BEGIN")
            try:
                yield
            finally:
                if not nested and self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All writes inside are on the disk when the block ends, or none is."""
        with self._lock, self._explained("written"):
            if self.readonly:
                raise sqlite3.OperationalError("attempt to write a readonly database")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._own_writes += 1  # before the commit: an interrupt right after it must not hide the change
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, int]:
        """A value that differs after any write, by this connection or another one."""
        return (int(self._one("PRAGMA data_version")[0]), self._own_writes)

    def setting(self, key: str) -> Any:
        """Value of a setting; None if it has none."""
        row = self._rows("SELECT value FROM settings WHERE key = ?", (key,))
        return row[0][0] if row else None

    def set_setting(self, key: str, value: object) -> None:
        """Set a setting, inside `writing`."""
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def find(self, source: str, kind: str) -> Row | None:
        """The whole (not a span) of a source."""
        where = "source = ? AND kind = ? AND ifnull(start_s, -1.0) = -1.0 AND ifnull(end_s, -1.0) = -1.0"
        rows = self._rows(f"SELECT {_COLUMNS} FROM items WHERE {where}", (source, kind))
        return self._row(rows[0]) if rows else None

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """The items of those ids that exist."""
        found: dict[int, Row] = {}
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            asked = ids[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(asked))
            for row in self._rows(f"SELECT {_COLUMNS} FROM items WHERE id IN ({marks})", asked):
                found[row[0]] = self._row(row)
        return found

    def by_source(self, source: str) -> list[int]:
        """Ids of every item of a source."""
        return [row[0] for row in self._rows("SELECT id FROM items WHERE source = ? ORDER BY id", (source,))]

    def count_items(self) -> int:
        """How many items there are."""
        return int(self._one("SELECT count(*) FROM items")[0])

    def all_items(self) -> Iterator[Row]:
        """Every item by id, read in blocks, so that nothing stays locked between them."""
        last = 0
        while True:
            rows = self._rows(f"SELECT {_COLUMNS} FROM items WHERE id > ? ORDER BY id LIMIT {BLOCK_ROWS}", (last,))
            if not rows:
                return
            yield from (self._row(row) for row in rows)
            last = rows[-1][0]

    def insert_item(self, kind: str, source: str, sha256: str, meta: dict[str, Any]) -> int:
        """Insert an item, inside `writing`; returns its id."""
        values = (kind, source, sha256, _json(meta))
        cursor = self._db.execute("INSERT INTO items(kind, source, sha256, meta) VALUES (?, ?, ?, ?)", values)
        assert cursor.lastrowid is not None  # always set after an insert
        return cursor.lastrowid

    def update_item(self, item_id: int, sha256: str, meta: dict[str, Any]) -> None:
        """Replace an item's hash and metadata, inside `writing`."""
        self._db.execute("UPDATE items SET sha256 = ?, meta = ? WHERE id = ?", (sha256, _json(meta), item_id))

    def delete_items(self, ids: Sequence[int]) -> int:
        """Remove items and their vectors, inside `writing`; returns how many there were."""
        return self._db.executemany("DELETE FROM items WHERE id = ?", [(item_id,) for item_id in ids]).rowcount

    def replace_vector(self, item_id: int, encoder: str, graph_sha256: str, vector: bytes) -> None:
        """Set the vector (little-endian float16) that an encoder made of an item, inside `writing`."""
        self._db.execute("DELETE FROM vectors WHERE item_id = ? AND encoder = ?", (item_id, encoder))
        self._db.execute(
            "INSERT INTO vectors(item_id, encoder, space, graph_sha256, vector) VALUES (?, ?, ?, ?, ?)",
            (item_id, encoder, self.space, graph_sha256, vector),
        )

    def vector_of_content(self, sha256: str, encoder: str) -> tuple[str, bytes] | None:
        """Graph and vector of any item with the same content."""
        rows = self._rows(
            "SELECT graph_sha256, vector FROM vectors JOIN items ON items.id = item_id"
            " WHERE sha256 = ? AND encoder = ? AND space = ? LIMIT 1",
            (sha256, encoder, self.space),
        )
        return (rows[0][0], rows[0][1]) if rows and len(rows[0][1]) == 2 * self.width else None

    def count_vectors(self, after: int = 0) -> int:
        """How many vectors there are with an id beyond `after`."""
        if not after:  # without a condition SQLite counts a small index and not the wide table
            return int(self._one("SELECT count(*) FROM vectors")[0])
        return int(self._one("SELECT count(*) FROM vectors WHERE id > ?", (after,))[0])

    def last_vector(self) -> int:
        """The highest id in use; 0 without vectors."""
        return int(self._one("SELECT ifnull(max(id), 0) FROM vectors")[0])

    def vector_ids(self) -> NDArray[np.int64]:
        """Ids of all vectors, int64 `[n]`, in no order."""
        rows = self._rows("SELECT id FROM vectors INDEXED BY vectors_item")
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def vector_blocks(self, after: int = 0, until: int | None = None) -> Iterator[VectorBlock]:
        """Vectors with `after < id <= until`, by id, in blocks."""
        until = self.last_vector() if until is None else until
        while after < until:
            rows = self._rows(
                f"SELECT id, item_id, vector FROM vectors WHERE id > ? AND id <= ? ORDER BY id LIMIT {BLOCK_ROWS}",
                (after, until),
            )
            if not rows:
                return
            yield self._block(rows)
            after = rows[-1][0]

    def vectors_by_id(self, ids: Sequence[int]) -> VectorBlock:
        """The vectors of those ids that exist."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(ids), _ASKED_AT_ONCE):
            asked = ids[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(asked))
            rows += self._rows(f"SELECT id, item_id, vector FROM vectors WHERE id IN ({marks})", asked)
        return self._block(rows)

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LibraryError(f"library {printable(self.path)} is closed", "open it again")
        return self._connection

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._explained("read"):
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        return self._rows(sql, values)[0]

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explained(error, self.path, doing) from error

    def _row(self, values: tuple[Any, ...]) -> Row:
        try:
            meta = json.loads(values[6])
            if not isinstance(meta, dict):
                raise ValueError("not a mapping")
        except (TypeError, ValueError) as error:
            problem = f"library {printable(self.path)} is damaged (metadata of item {values[0]}: {error})"
            raise LibraryError(problem, f"remove item {values[0]} and add its picture again") from None
        return Row(values[0], values[1], values[2], values[3], values[4], values[5], meta)

    def _block(self, rows: list[tuple[Any, ...]]) -> VectorBlock:
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        item_ids = np.fromiter((row[1] for row in rows), np.int64, len(rows))
        wanted = 2 * self.width
        for row in rows:
            if not isinstance(row[2], bytes) or len(row[2]) != wanted:
                self._refuse_vector(row[1])
        vectors = np.frombuffer(b"".join(row[2] for row in rows), "<f2").reshape(len(rows), self.width)
        good = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        if not good.all():
            self._refuse_vector(int(item_ids[~good][0]))
        return VectorBlock(ids, item_ids, vectors.astype(np.float16, copy=False))

    def _refuse_vector(self, item_id: int) -> None:
        problem = f"library {printable(self.path)} is damaged (vector of item {item_id})"
        raise LibraryError(problem, f"remove item {item_id} and add its picture again")


def _json(meta: dict[str, Any]) -> str:
    return json.dumps(meta, ensure_ascii=False, separators=(",", ":"))
