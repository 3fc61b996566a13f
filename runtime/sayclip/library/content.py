"""What a picture is called and what identifies its content."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sayclip.errors import PictureError
from sayclip.inputs.files import checked_file, shown
from sayclip.library.finding import printable

if TYPE_CHECKING:
    from sayclip.library.records import Picture

# A file written this recently could change again without its time stamp showing it (2 s on FAT).
_SETTLED_NS = 2_000_000_000
_ORIENTATION = 0x0112


class FileState(NamedTuple):
    """What tells, without reading it, that a file has not changed since it was hashed."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    settled: bool

    @property
    def seen(self) -> list[int]:
        """The part that is stored."""
        return [self.size, self.mtime_ns, self.ctime_ns]


def absolute(path: str | os.PathLike[str]) -> str:
    """Absolute form of a path, the same from every folder; ``~`` is the home unless a file has that name."""
    name = os.fsdecode(path)
    return os.path.abspath(name if os.path.lexists(name) else os.path.expanduser(name))


def file_state(picture: Picture) -> FileState | None:
    """State of the file at a path, None for an array or an image. Raises `PictureError` for what is no file."""
    if not isinstance(picture, (str, bytes, os.PathLike)):
        return None
    try:
        path = absolute(picture)
        status = os.stat(path)
        path.encode()
    except UnicodeEncodeError:
        raise PictureError(f"the file name {printable(picture)} is not UTF-8", "rename the file") from None
    except (OSError, ValueError):  # ValueError: a null character
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        checked_file(picture, PictureError, "picture")  # says what it is instead
        raise PictureError(f"picture {shown(picture)} changed while it was being read", "add it again")
    settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
    return FileState(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, settled)


def content_sha256(picture: Picture) -> str:
    """sha256 (hex) of a file's bytes, or of an array's or image's type, shape and bytes. Raises `PictureError`."""
    digest = hashlib.sha256()
    if isinstance(picture, (str, bytes, os.PathLike)):
        try:
            with open(picture, "rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise PictureError(f"{shown(picture)} cannot be read ({error.strerror})", "check the file") from None
    elif isinstance(picture, np.ndarray):
        if picture.dtype.hasobject:
            raise PictureError("a picture was given as an array of objects", "give a uint8 array")
        digest.update(f"{picture.dtype.str} {picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    else:
        from PIL import Image

        from sayclip.inputs.picture_files import check_size, load

        if not isinstance(picture, Image.Image):
            raise PictureError(
                f"a picture was given as {type(picture).__name__}", "give a path, a numpy array or a Pillow image"
            )
        check_size(picture.size, "the picture")  # before its pixels are laid out in memory
        load(picture, "the picture")
        looks = (picture.getpalette(), picture.info.get("transparency"), picture.getexif().get(_ORIENTATION))
        digest.update(f"{picture.mode} {picture.size} {looks}".encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


def default_source(sha256: str, details: dict[str, Any]) -> str:
    """Name of a picture that has no path. The same view at another time is another sighting."""
    stamp = details.get("stamp")
    return f"array:{sha256[:16]}" + (f"@{stamp!r}" if stamp is not None else "")
