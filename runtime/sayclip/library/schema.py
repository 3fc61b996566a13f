"""The SQLite file behind a library: making it, opening it, bringing it up to date, and saying what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sayclip.errors import LibraryError
from sayclip.library.finding import printable

APPLICATION_ID = 0x53617943  # "SayC", at byte 68 of the file: tells a library from any other SQLite file

# One entry a schema version, applied in order inside one transaction; entries are only ever appended.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE settings(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
        # AUTOINCREMENT: an id is never used twice, so what is cached by id never shows something else.
        """CREATE TABLE items(
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            source TEXT NOT NULL,
            start_s REAL,
            end_s REAL,
            sha256 TEXT NOT NULL,
            meta TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX items_source ON items(source, kind, ifnull(start_s, -1.0), ifnull(end_s, -1.0))",
        "CREATE INDEX items_sha256 ON items(sha256)",
        """CREATE TABLE vectors(
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
            encoder TEXT NOT NULL,
            space TEXT NOT NULL,
            graph_sha256 TEXT NOT NULL,
            vector BLOB NOT NULL)""",
        "CREATE INDEX vectors_item ON vectors(item_id)",
        # Caches follow new rows by id; this number tells them when rows went away.
        "INSERT INTO settings VALUES ('removals', 0)",
        """CREATE TRIGGER vectors_removed AFTER DELETE ON vectors BEGIN
            UPDATE settings SET value = value + 1 WHERE key = 'removals'; END""",
    ),
)

RESTORE = "restore it from a copy, or index the pictures again into a new library"


def create_database(path: Path, space: str, width: int) -> None:
    """Make an empty library for one embedding space; it appears under its name whole or not at all."""
    if os.path.lexists(path):
        raise LibraryError(f"{printable(path)} already exists", "open it, or choose another path")
    if not path.parent.is_dir():
        raise LibraryError(f"folder {printable(path.parent)} does not exist", "make it first, or choose another path")
    if not os.access(path.parent, os.W_OK):
        raise LibraryError(f"folder {printable(path.parent)} cannot be written", "choose another path")
    log = path.with_name(path.name + "-wal")
    if log.exists() and not path.exists():
        # SQLite would play another library's log into the new one.
        raise LibraryError(
            f"{printable(log)} is left over from a library that is gone", "put that back, or delete the file"
        )
    draft = path.parent / f".{path.name}.{os.urandom(16).hex()}.new"
    try:
        try:
            with closing(_connect(draft, "rwc", timeout=5.0)) as connection:
                connection.execute("PRAGMA synchronous = OFF")  # the whole file is synced once, before it gets its name
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                _migrate(connection)
                settings = [("space", space), ("width", width), ("id", os.urandom(16).hex())]
                connection.executemany("INSERT INTO settings VALUES (?, ?)", settings)
                connection.execute("PRAGMA journal_mode = WAL")
            _publish(draft, path)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
    except (sqlite3.Error, OSError) as error:
        raise explained(error, path, "created") from error


def open_database(path: Path, timeout: float) -> tuple[sqlite3.Connection, bool]:
    """Open a library and bring its schema up to date. Returns the connection and whether it can only be read.

    Raises `LibraryError` for a path that is no library, a damaged one, and one of a newer schema.
    """
    _check_header(path)
    readonly = not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    try:
        connection = _open_readonly(path, timeout) if readonly else _connect(path, "rw", timeout)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            # A commit is on the disk when it returns, so that a robot's power can be cut.
            connection.execute("PRAGMA synchronous = FULL")
            _check_version(connection, path, readonly)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(error, path, "opened") from error
    return connection, readonly


def explained(error: Exception, path: Path, doing: str) -> LibraryError:
    """Turn SQLite's or the system's error into one line that says what to do."""
    name, text = printable(path), str(error)
    # By text: Python has had SQLite's error codes only since 3.11.
    if "locked" in text or "busy" in text:
        return LibraryError(
            f"library {name} is being written by another process", "wait until that is done, or stop it"
        )
    if "disk is full" in text or "No space left" in text:
        return LibraryError(
            f"the disk is full, so library {name} could not be {doing}",
            "free some space and run it again; what was stored before is safe",
        )
    if "malformed" in text or "not a database" in text or "no such table" in text or "no such column" in text:
        return LibraryError(f"library {name} is damaged ({text})", RESTORE)
    if "readonly" in text:
        return LibraryError(f"library {name} can only be read", "make the file and its folder writable, or copy it")
    return LibraryError(f"library {name} could not be {doing} ({text})", "check the disk and the file's permissions")


def _connect(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _open_readonly(path: Path, timeout: float) -> sqlite3.Connection:
    connection = _connect(path, "ro", timeout)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        # Nobody has the library open and its folder takes no lock file: read the file as it lies.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
    return connection


def _check_header(path: Path) -> None:
    name = printable(path)
    if path.is_dir():
        raise LibraryError(f"{name} is a folder", "give the path of a library file")
    try:
        if path.exists() and not path.is_file():
            raise LibraryError(f"{name} is not a file", "give the path of a library file")
        with open(path, "rb") as stream:
            header = stream.read(100)
    except FileNotFoundError:
        raise LibraryError(f"library {name} does not exist", "check the path, or index pictures to make it") from None
    except OSError as error:
        raise LibraryError(f"library {name} cannot be read ({error.strerror})", "check its permissions") from None
    if not header:
        raise LibraryError(f"library {name} is empty (0 bytes)", f"it holds nothing: delete it, or {RESTORE}")
    if not header.startswith(b"SQLite format 3\0"):
        raise LibraryError(f"{name} is not a library (it is no SQLite file)", "give the path of a library file")
    if len(header) < 100:
        raise LibraryError(f"library {name} is damaged (cut off after {len(header)} bytes)", RESTORE)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise LibraryError(f"{name} is an SQLite file of another program", "give the path of a library file")


def _check_version(connection: sqlite3.Connection, path: Path, readonly: bool) -> None:
    version, newest = _version(connection), len(MIGRATIONS)
    if version > newest:
        raise LibraryError(
            f"library {printable(path)} has schema {version}, this sayclip reads up to {newest}", "update sayclip"
        )
    if version < newest:
        if readonly:
            raise LibraryError(
                f"library {printable(path)} has schema {version}, wanted {newest}, and can only be read",
                "make the file and its folder writable and open it once",
            )
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the lock: another process may have been first.
        for number, statements in enumerate(MIGRATIONS[_version(connection) :], start=_version(connection) + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _publish(draft: Path, path: Path) -> None:
    _sync(draft)
    try:
        os.link(draft, path)  # unlike a rename, never replaces what another process put there meanwhile
    except FileExistsError:
        raise LibraryError(f"{printable(path)} already exists", "open it, or choose another path") from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise LibraryError(f"{printable(path)} already exists", "open it, or choose another path") from None
        os.rename(draft, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
