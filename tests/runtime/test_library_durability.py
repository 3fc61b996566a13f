"""What was reported as added stays, whatever happens: kills, interrupts, full disks, other processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from library_encoder import ProjectionEncoder, VectorEncoder, numbered

from sayclip.errors import LibraryError
from sayclip.library import Item, Library

COUNT = 400

# Adds COUNT arrays under their numbers and prints what is reported, one line a commit.
ADD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
from sayclip.errors import SayclipError
from sayclip.library import Item, Library
from library_encoder import ProjectionEncoder, numbered
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def pictures():
    for number in range(first, first + count):
        yield Item(numbered(number), source=str(number))
try:
    with Library.open_or_create(path, ProjectionEncoder(), busy_timeout=20) as library:
        report = library.add_many(pictures(), batch_size=8, progress=lambda done, total: os.write(1, b"%d\\n" % done))
except SayclipError as error:
    sys.exit(str(error))
os.write(1, b"added %d unchanged %d\\n" % (report.added, report.unchanged))
"""


def adding(path: Path, first: int = 0, count: int = COUNT) -> subprocess.Popen[str]:
    roots = [str(Path(__file__).parent), *sys.path]
    return subprocess.Popen(
        [sys.executable, "-c", ADD, str(path), str(first), str(count)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def whole(path: Path) -> list[int]:
    """Numbers of the stored pictures, each of which has its vector, in a sound file."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = raw.execute(
            "SELECT source, length(vector) FROM items LEFT JOIN vectors ON item_id = items.id"
        ).fetchall()
    assert all(length == 32 for _, length in rows)
    return sorted(int(source) for source, _ in rows)


def test_a_killed_process_loses_nothing_that_it_reported(tmp_path):
    path = tmp_path / "library"
    stored = 0
    # Killed at once after a report and a little later, which falls into encoding, writing or syncing.
    for wait in (0.0, 0.002, 0.005, 0.01):
        process = adding(path)
        assert process.stdout is not None
        reported = 0
        for line in process.stdout:
            reported = int(line)
            if reported >= stored + 40:
                break
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        reported = max([reported, *(int(line) for line in rest.split())])
        numbers = whole(path)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= reported
        stored = len(numbers)
    out, errors = adding(path).communicate(timeout=60)
    assert out.splitlines()[-1] == f"added {COUNT - stored} unchanged {stored}", errors
    assert whole(path) == list(range(COUNT))
    with Library.open(path, ProjectionEncoder()) as library:
        assert library.search(image=numbered(stored), k=1)[0].source == str(stored)


def test_an_interrupt_ends_the_run_and_keeps_what_was_reported(tmp_path):
    path = tmp_path / "library"
    process = adding(path, count=100_000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    reported = [int(line) for line in [*lines, *rest.splitlines()]][-1]
    numbers = whole(path)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) in (reported, reported + 8)  # the last commit may not have been reported


# Interrupts the main thread whenever it has just taken a lock that Python code gives back: the moment in which a
# KeyboardInterrupt would leave the lock taken.
LOCKED = """
import threading
enter = threading.Condition.__enter__
def interrupted(self):
    entered = enter(self)
    if reports and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
    return entered
threading.Condition.__enter__ = interrupted
"""


def test_an_interrupt_with_a_lock_just_taken_ends_the_run(tmp_path):
    script = ADD.replace("try:\n", "reports = []\n" + LOCKED + "try:\n", 1)
    script = script.replace("progress=lambda done, total:", "progress=lambda done, total: reports.append(done) or")
    assert "reports.append" in script
    roots = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "library"), "0", "1000"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "KeyboardInterrupt" in done.stderr
    assert whole(tmp_path / "library") == list(range(int(done.stdout.split()[-1])))


@pytest.mark.parametrize("place", ["progress", "pictures", "encoder"])
def test_an_exception_anywhere_leaves_whole_batches(tmp_path, encoder, picture, place, monkeypatch):
    class Stop(Exception):
        pass

    def pictures():
        for number in range(100):
            if place == "pictures" and number == 70:
                raise Stop
            yield Item(picture(number), str(number))

    def progress(done: int, total: int | None) -> None:
        if place == "progress" and done >= 30:
            raise Stop

    encode = encoder.image_prepared

    def failing(batch):
        if place == "encoder" and encoder.encoded >= 30:
            raise Stop
        return encode(batch)

    monkeypatch.setattr(encoder, "image_prepared", failing)
    before = threading.active_count()
    with Library.create(tmp_path / "library", encoder) as library:
        with pytest.raises(Stop):
            library.add_many(pictures(), batch_size=10, progress=progress)
        assert threading.active_count() == before
        assert 30 <= len(library) < 70
        stored = len(library)
        monkeypatch.undo()
        place = ""
        report = library.add_many(pictures())
        assert (report.added, report.unchanged) == (100 - stored, stored)
    assert whole(tmp_path / "library") == list(range(100))


def vectors(count: int, width: int) -> list[Item]:
    rows = np.random.default_rng(1).normal(size=(count, 1, 1, width)).astype(np.float32)
    return [Item(row, str(number)) for number, row in enumerate(rows)]


def test_a_file_that_may_not_grow(tmp_path):
    encoder = VectorEncoder(256)
    with Library.create(tmp_path / "library", encoder) as library:
        library._store._db.execute("PRAGMA max_page_count = 100")
        reported: list[int] = []
        with pytest.raises(LibraryError, match="disk is full") as caught:
            library.add_many(vectors(1000, 256), progress=lambda done, total: reported.append(done))
        assert "free some space and run it again" in str(caught.value)
        assert len(library) == reported[-1] > 0
        assert len(library.search_vector(np.ones(256), 1000)) == reported[-1]
        library._store._db.execute("PRAGMA max_page_count = 1000000")
        assert library.add_many(vectors(1000, 256)).added == 1000 - reported[-1]
    with Library.open(tmp_path / "library", encoder) as library:
        assert len(library) == 1000


@contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path):
    encoder = VectorEncoder(256)
    with small_disk(tmp_path / "disk", "2m") as disk:
        path = disk / "library"
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 500_000)
        reported = [0]
        with Library.create(path, encoder) as library:
            with pytest.raises(LibraryError, match="disk is full") as caught:
                library.add_many(vectors(3000, 256), progress=lambda done, total: reported.append(done))
            assert "\n" not in str(caught.value)
            assert len(library) == reported[-1] > 100
            with pytest.raises(LibraryError, match="disk is full"):
                library.add_many(vectors(3000, 256))
            assert len(library.search_vector(np.ones(256))) == 10
            with pytest.raises(LibraryError, match="disk is full"):
                Library.create(disk / "second", encoder)
        assert not (disk / "second").exists()
        with Library.open(path, encoder) as library:  # the disk is as full as before
            assert len(library) == reported[-1]
            assert len(library.search_vector(np.ones(256))) == 10
        ballast.unlink()
        with Library.open(path, encoder) as library:
            assert len(library) == reported[-1]
            assert library.add_many(vectors(reported[-1] + 50, 256)).added == 50
        with closing(sqlite3.connect(path)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_second_writer_is_told_and_readers_go_on(tmp_path, encoder, picture):
    path = tmp_path / "library"
    with Library.create(path, encoder, busy_timeout=0.2) as library, closing(sqlite3.connect(path)) as other:
        item_id = library.add(picture(1))
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: library.add(picture(2)),
            lambda: library.add_many([picture(2)]),
            lambda: library.update(item_id, caption="x"),
            lambda: library.remove(item_id),
        ):
            start = time.monotonic()
            with pytest.raises(LibraryError, match="is being written by another process: wait"):
                write()
            assert 0.1 < time.monotonic() - start < 5
        assert library.search(image=picture(1))[0].item_id == item_id
        with Library.open(path, encoder) as reader:
            assert len(reader) == len([*reader.items()]) == 1
        other.execute("ROLLBACK")
        library.add(picture(2))
        assert len(library) == 2


def test_processes_that_add_to_one_library_at_once(tmp_path):
    path = tmp_path / "library"
    # Two share their pictures, all make the library together.
    processes = [adding(path, first, 120) for first in (0, 0, 120)]
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    added = sum(int(out.splitlines()[-1].split()[1]) for out, _ in ends)
    assert added == 240
    assert whole(path) == list(range(240))


def test_threads_share_a_library(tmp_path, encoder, picture):
    failures: list[BaseException] = []

    def work(library: Library, number: int) -> None:
        try:
            for step in range(10):
                library.add(picture(100 * number + step), stamp=step)
                assert library.search(image=picture(100 * number), k=1)[0].score > 0.99
        except BaseException as error:
            failures.append(error)

    with Library.create(tmp_path / "library", encoder) as library:
        threads = [threading.Thread(target=work, args=(library, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(library) == len(library.search("x", k=100)) == 40


def test_a_picture_changed_by_another_process_meanwhile(tmp_path, encoder, picture, monkeypatch):
    """What was found unchanged, but is no longer when the batch is written, is reported and left as it is."""
    path = tmp_path / "library"
    read = threading.Semaphore(0)
    prepare = encoder.prepare_image

    def counted(source):
        read.release()
        return prepare(source)

    with Library.create(path, encoder) as library, Library.open(path, encoder) as other:
        library.add(picture(1), source="door")
        monkeypatch.setattr(encoder, "prepare_image", counted)

        def meanwhile():
            yield Item(picture(1), "door", caption="mine")
            for number in range(2, 30):
                yield Item(picture(number), str(number))
            for _ in range(28):
                read.acquire()
            other.add(picture(99), source="door", caption="theirs")

        report = library.add_many(meanwhile(), batch_size=64)
        assert [source for source, _ in report.failed] == ["door"]
        assert "changed by another process" in report.failed[0][1]
        assert (report.added, library.get("door").caption) == (28, "theirs")
        assert library.search(image=picture(99), k=1)[0].source == "door"


@pytest.mark.parametrize("size", [8])
def test_the_librarys_own_share_of_the_time_is_small(tmp_path, encoder, picture, size):
    pictures = [picture(number)[:size, :size] for number in range(1000)]
    with Library.create(tmp_path / "library", encoder) as library:
        start = time.process_time()
        assert library.add_many(pictures).added == 1000
        assert time.process_time() - start < 1.0  # below 1 ms a picture, reading and encoding included
