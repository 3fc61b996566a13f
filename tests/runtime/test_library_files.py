"""The library's file: making, opening, refusing, migrating."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from library_encoder import ProjectionEncoder

from sayclip.errors import LibraryError, SpaceMismatchError
from sayclip.library import Library, schema


@pytest.fixture
def path(tmp_path, encoder, picture):
    """A closed library of three pictures."""
    path = tmp_path / "library.sayclip"
    with Library.create(path, encoder) as library:
        library.add_many([picture(number) for number in range(3)])
    return path


def refused(path: Path, words: str, encoder: ProjectionEncoder | None = None) -> str:
    """Every way of opening refuses the path, in one line, and leaves it as it was."""
    before = path.read_bytes() if path.is_file() else None
    for opening in (Library.open, *([Library.open_or_create] if path.exists() else [])):
        with pytest.raises(LibraryError, match=words) as caught:
            opening(path, encoder or ProjectionEncoder())
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    return str(caught.value)


def test_a_library_opens_again_with_all_it_held(path, encoder, picture):
    with Library.open(path, encoder) as library:
        assert (len(library), library.space, library.width, library.readonly) == (3, "projection-1", 16, False)
        assert library.search(image=picture(2), k=1)[0].item_id == 3
    with Library.open_or_create(str(path), encoder) as library:
        assert len(library) == 3


def test_a_closed_library_leaves_one_file(path):
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith((path.name, "."))] == [path.name]


def test_the_file_is_what_the_design_says(path):
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert raw.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        columns = {
            table: [row[1] for row in raw.execute(f"PRAGMA table_info({table})")] for table in ("items", "vectors")
        }
        assert columns["items"] == ["id", "kind", "source", "start_s", "end_s", "sha256", "meta"]
        assert columns["vectors"] == ["id", "item_id", "encoder", "space", "graph_sha256", "vector"]
        row = raw.execute("SELECT encoder, space, length(vector) FROM vectors").fetchone()
        assert row == ("image", "projection-1", 2 * 16)


def test_writes_are_on_the_disk_when_they_return(path, encoder):
    with Library.open(path, encoder) as library:
        assert library._store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert library._store._db.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_create_takes_only_a_free_path(path, encoder):
    for taken in (path, path.parent):
        with pytest.raises(LibraryError, match="already exists"):
            Library.create(taken, encoder)
    dangling = path.with_name("dangling")
    dangling.symlink_to("nowhere")
    with pytest.raises(LibraryError, match="already exists"):
        Library.create(dangling, encoder)
    with pytest.raises(LibraryError, match=r"folder .*nowhere does not exist"):
        Library.create(path.parent / "nowhere" / "library", encoder)
    with pytest.raises(LibraryError, match=r"folder .*nowhere does not exist"):
        Library.open_or_create(path.parent / "nowhere" / "library", encoder)


def test_a_log_without_its_library_is_not_played_into_a_new_one(path, encoder):
    log = path.with_name("new-wal")
    log.write_bytes(b"something")
    with pytest.raises(LibraryError, match="left over"):
        Library.open_or_create(path.with_name("new"), encoder)
    assert log.read_bytes() == b"something"


def test_paths_with_odd_characters(tmp_path, encoder, picture):
    for name in ("a b?mode=ro#x%20.db", "ü♥", os.fsdecode(b"\xff")):
        with Library.create(tmp_path / name, encoder) as library:
            library.add(picture(1))
        with Library.open(tmp_path / name, encoder) as library:
            assert len(library) == 1
        assert (tmp_path / name).is_file()


def test_missing(tmp_path):
    assert "index pictures" in refused(tmp_path / "nothing", "does not exist")
    assert "index pictures" in refused(tmp_path / "no" / "folder", "does not exist")


def test_a_folder(tmp_path):
    refused(tmp_path, "is a folder")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is not a file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\xff\xd8\xff\xe0 a JPEG" * 100, "is no SQLite file"),
        (b"SQLite format 3\0" + b"\0" * 40, "cut off after 56 bytes"),
        (b"SQLite format 3\0" + b"\0" * 5000, "another program"),
    ],
)
def test_no_library(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", words)


def test_an_sqlite_file_of_another_program(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mail.db")) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE items(id)")
    refused(tmp_path / "mail.db", "SQLite file of another program")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_library(path, part):
    os.truncate(path, int(path.stat().st_size * part) // 4096 * 4096 or 4096)
    assert "restore it from a copy" in refused(path, "is damaged")


def test_a_library_overwritten_in_the_middle(path, picture):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    assert "restore it from a copy" in refused(path, "is damaged")


def test_damage_that_only_shows_later_is_one_line_too(path, encoder, picture):
    with closing(sqlite3.connect(path)) as raw:
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'vectors'").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with Library.open(path, encoder) as library:
        assert len(library) == 3
        with pytest.raises(LibraryError, match=r"is damaged .*malformed.*restore it from a copy"):
            library.search("x")
        with pytest.raises(LibraryError, match="is damaged"):
            library.add(picture(9))
    assert path.read_bytes()[:100] == bytes(content[:100])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE vectors SET vector = x'00' WHERE item_id = 2", "vector of item 2"),
        ("UPDATE vectors SET vector = 'text' WHERE item_id = 2", "vector of item 2"),
        (f"UPDATE vectors SET vector = x'{'00' * 32}' WHERE item_id = 2", "vector of item 2"),
        (f"UPDATE vectors SET vector = x'{'007e' * 16}' WHERE item_id = 2", "vector of item 2"),
        ("UPDATE items SET meta = '{' WHERE id = 2", "metadata of item 2"),
        ("UPDATE items SET meta = '[]' WHERE id = 2", "metadata of item 2"),
    ],
)
def test_one_damaged_row_is_named_and_can_be_removed(path, encoder, change, words):
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(change)
    with Library.open(path, encoder) as library:
        with pytest.raises(LibraryError, match=words + ".*: remove item 2"):
            library.search("x")
        library.remove(2)
        assert len(library.search("x")) == 2


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE settings",
        "DELETE FROM settings WHERE key = 'width'",
        "DELETE FROM settings WHERE key = 'space'",
        "UPDATE settings SET value = 'x' WHERE key = 'width'",
    ],
)
def test_missing_parts(path, change):
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(change)
    refused(path, "is damaged")


def test_another_space_is_refused(path):
    for other, words in (
        (ProjectionEncoder(space="projection-2"), r"space projection-1 \(width 16\), .* projection-2 \(width 16\)"),
        (ProjectionEncoder(width=24), r"\(width 16\), .* \(width 24\)"),
    ):
        for opening in (Library.open, Library.open_or_create):
            with pytest.raises(SpaceMismatchError, match=words) as caught:
                opening(path, other)
            assert "load a bundle of space projection-1, or index the pictures into another one" in str(caught.value)


def test_without_an_encoder_vectors_find_and_items_change(path, encoder, picture):
    with Library.open(path) as library:
        assert library.search_vector(encoder.image(picture(1))[0], 1)[0].item_id == 2
        library.update(2, caption="two")
        library.remove(1)
        assert [item.caption for item in library.items()] == ["two", None]
        with pytest.raises(LibraryError, match="without an encoder, so it cannot take text"):
            library.search("x")


def test_a_newer_schema_is_refused(path):
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 6}")
    message = refused(
        path, f"has schema {len(schema.MIGRATIONS) + 6}, this sayclip reads up to {len(schema.MIGRATIONS)}"
    )
    assert message.endswith("update sayclip")


def test_an_older_schema_is_brought_up_to_date(path, encoder, monkeypatch):
    step = (
        "ALTER TABLE items ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'",
        "CREATE INDEX items_colour ON items(colour)",
    )
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    with Library.open(path, encoder) as library:
        assert len(library.search("x")) == 3
        assert library._store._db.execute("SELECT DISTINCT colour FROM items").fetchall() == [("grey",)]
        assert library._store._db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    with Library.create(path.with_name("new"), encoder) as library:
        assert library._store._db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_a_migration_that_fails_changes_nothing(path, encoder, monkeypatch):
    content = path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE extra(x)", "CREATE TABLE extra(x)")))
    with pytest.raises(LibraryError, match="extra already exists"):
        Library.open(path, encoder)
    monkeypatch.undo()
    with Library.open(path, encoder) as library:
        assert len(library) == 3
        assert library._store._db.execute("SELECT name FROM sqlite_master WHERE name = 'extra'").fetchall() == []
    assert struct.unpack(">I", path.read_bytes()[60:64]) == struct.unpack(">I", content[60:64])


def test_an_interrupted_create_leaves_nothing_under_the_name(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", (("CREATE TABLE x(y)", "nonsense"),))
    with pytest.raises(LibraryError, match="could not be created"):
        Library.create(tmp_path / "library", encoder)
    assert list(tmp_path.iterdir()) == []


def test_two_that_create_at_once_never_replace_each_other(tmp_path, encoder, monkeypatch):
    path = tmp_path / "library"
    sync = schema._sync

    def meanwhile(synced):
        path.write_bytes(b"of the other one")
        sync(synced)

    monkeypatch.setattr(schema, "_sync", meanwhile)
    with pytest.raises(LibraryError, match="already exists"):
        Library.create(path, encoder)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"of the other one"]


def test_a_closed_library_says_so(path, encoder, picture):
    library = Library.open(path, encoder)
    library.close()
    library.close()
    for use in (
        lambda: library.add(picture(1)),
        lambda: library.search("x"),
        lambda: len(library),
        lambda: [*library.items()],
    ):
        with pytest.raises(LibraryError, match="is closed"):
            use()


READ_ONLY = """
import os, sys
from sayclip.errors import LibraryError
from sayclip.library import Library
from library_encoder import ProjectionEncoder
import numpy as np
folder, path = sys.argv[1:]
encoder = ProjectionEncoder()
if os.getuid() == 0:
    # All that is needed is imported while everything may be read.
    encoder.image(np.zeros((4, 4, 3), np.uint8) + 7)
    import sayclip.library.ingest
    os.setuid(65534)
with Library.open(path, encoder) as library:
    assert library.readonly
    assert len(library) == 3 and len(library.search("x")) == 3, len(library)
    for change in (
        lambda: library.add(np.ones((4, 4, 3), np.uint8)),
        lambda: library.add_many([np.ones((4, 4, 3), np.uint8)]),
        lambda: library.remove(1),
        lambda: library.update(1, caption="x"),
    ):
        try:
            change()
        except LibraryError as error:
            assert "can only be read: make the file and its folder writable" in str(error), error
        else:
            raise AssertionError("written")
for target in (os.path.join(folder, "new"), ):
    try:
        Library.create(target, encoder)
    except LibraryError as error:
        assert "cannot be written" in str(error), error
    else:
        raise AssertionError("created")
print("ok")
"""


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_library_that_can_only_be_read(path, where):
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        inner = folder / "inner"
        inner.mkdir()
        copy = Path(shutil.copy(path, inner))
        copy.chmod(0o444 if where == "file" else 0o666)
        inner.chmod(0o555)
        folder.chmod(0o755)
        roots = [str(Path(__file__).parent), *sys.path]
        ran = subprocess.run(
            [sys.executable, "-c", READ_ONLY, inner, copy],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.stdout == "ok\n", ran.stderr
        inner.chmod(0o755)
        assert sorted(inner.iterdir()) == [copy]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_library_while_another_process_writes_can_be_read_without_the_right_to_write(
    path, encoder, picture, monkeypatch
):
    with Library.open(path, encoder) as writer:
        writer.add(picture(7))  # lies in the log only
        monkeypatch.setattr(os, "access", lambda *args: False)
        with Library.open(path, encoder) as reader:
            assert reader.readonly
            assert len(reader) == 4
            monkeypatch.undo()
            writer.add(picture(8))
            assert len(reader.search(image=picture(8))) == 5


def test_vectors_are_little_endian_float16(path, encoder, picture):
    with closing(sqlite3.connect(path)) as raw:
        blob = raw.execute("SELECT vector FROM vectors WHERE item_id = 1").fetchone()[0]
    assert np.frombuffer(blob, "<f2") == pytest.approx(encoder.image(picture(0))[0], abs=1e-3)
