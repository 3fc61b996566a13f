"""Finding pictures in folders."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sayclip.errors import InputError
from sayclip.library import find_pictures


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_pictures_of_any_case_sorted_without_hidden_ones(tmp_path):
    put(
        tmp_path,
        "b.PNG",
        "a.jpg",
        "sub/c.JpEg",
        "sub/deep/d.webp",
        "note.txt",
        "png",
        ".hidden.png",
        ".cache/e.png",
        "film.mp4",
    )
    found = find_pictures(str(tmp_path))
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.jpg", "b.PNG", "sub/c.JpEg", "sub/deep/d.webp"]
    assert found.failed == []


def test_loops_end_and_nothing_comes_twice(tmp_path):
    put(tmp_path, "z/real.png", "other/x.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "linked.png").symlink_to(tmp_path / "other" / "x.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    found = find_pictures(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["linked.png", "other/x.png", "z/real.png"]
    assert [(Path(path).name, message) for path, message in found.failed] == [
        ("dangling.png", "link leads nowhere: mend or remove it"),
        ("self", "cannot be looked at (Too many levels of symbolic links): check where it leads and its permissions"),
    ]


def test_a_linked_folder_outside_is_followed(tmp_path):
    put(tmp_path, "outside/x.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert find_pictures(tmp_path / "root") == [tmp_path / "root" / "link" / "x.png"]


def test_a_file_is_itself(tmp_path):
    put(tmp_path, "picture.unknown")
    assert find_pictures(tmp_path / "picture.unknown") == [tmp_path / "picture.unknown"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist: give a picture, or a folder"):
        find_pictures(tmp_path / "nowhere")


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(name).write_bytes(b"")
    assert find_pictures(tmp_path) == [Path(name)]


CLOSED = """
import os, sys
from sayclip.library import find_pictures
if os.getuid() == 0:
    os.setuid(65534)
found = find_pictures(sys.argv[1])
print([path.name for path in found], found.failed)
"""


def test_a_closed_folder_is_reported(tmp_path):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        put(root, "a.png", "closed/b.png")
        (root / "closed").chmod(0)
        command = [sys.executable, "-c", CLOSED, name]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        (root / "closed").chmod(0o755)
    assert ran.stdout.startswith("['a.png'] [("), ran.stderr
    assert "closed" in ran.stdout
    assert "folder cannot be read (Permission denied): check its permissions" in ran.stdout
