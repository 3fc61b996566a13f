"""Pictures in a folder."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from sayclip.errors import InputError

PICTURE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"),
    )
)


class FoundPictures(list[Path]):
    """Paths of pictures, sorted, and what could not be looked at."""

    def __init__(self, paths: list[Path], failed: list[tuple[str, str]]) -> None:
        super().__init__(paths)
        self.failed = failed
        """`(path, message)` of each folder that could not be read and each link that leads nowhere."""


def find_pictures(folder: str | os.PathLike[str]) -> FoundPictures:
    """Return the pictures in a folder and its subfolders, by suffix (of any case), sorted.

    Hidden files and folders are passed over. Links to folders are followed, each folder once, so a loop ends.
    A file given in place of a folder is returned as it is. Raises `InputError` if there is no such folder.
    """
    root = Path(folder)
    if root.is_file():
        return FoundPictures([root], [])
    if not root.is_dir():
        raise InputError(f"{root} does not exist", "give a picture, or a folder with pictures")
    paths: list[Path] = []
    failed: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    # Links wait until all plain folders are done, so that a picture reached both ways keeps its plain path.
    plain, linked = deque([root]), deque[Path]()
    while plain or linked:
        current = plain.popleft() if plain else linked.popleft()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        _sort_in(entry, paths, plain, linked, failed)
        except OSError as error:
            failed.append((printable(current), f"folder cannot be read ({error.strerror}): check its permissions"))
    return FoundPictures(sorted(paths), sorted(failed))


def _sort_in(
    entry: os.DirEntry[str],
    paths: list[Path],
    plain: deque[Path],
    linked: deque[Path],
    failed: list[tuple[str, str]],
) -> None:
    path = Path(entry.path)
    try:
        if entry.is_dir():
            (linked if entry.is_symlink() else plain).append(path)
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            if entry.is_file():
                paths.append(path)
            elif entry.is_symlink():
                failed.append((printable(path), "link leads nowhere: mend or remove it"))
    except OSError as error:
        failed.append(
            (printable(path), f"cannot be looked at ({error.strerror}): check where it leads and its permissions")
        )


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written anywhere, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
