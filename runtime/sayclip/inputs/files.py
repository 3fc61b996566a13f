"""Paths that name an input: resolved and checked before any decoder sees them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from sayclip.errors import InputError

HEAD_BYTES = 512
_LONGEST_NAME = 160
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class InputFile:
    """A readable, non-empty regular file: absolute path, printable name, first ``HEAD_BYTES`` bytes."""

    path: str
    name: str
    head: bytes


def shown(source: object) -> str:
    """``source`` as it appears in a message: printable, one line, at most 160 characters, the end kept."""
    text = os.fsdecode(source) if isinstance(source, (str, bytes, os.PathLike)) else str(source)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    text = text or "''"
    return text if len(text) <= _LONGEST_NAME else "…" + text[1 - _LONGEST_NAME :]


def checked_file(source: str | bytes | os.PathLike[str], error: type[InputError], noun: str) -> InputFile:
    """Resolve ``source``, check that it is a file with something in it, and read its head.

    ``~`` is the home folder unless a file of that very name exists. Links are followed. Whatever is not a regular
    file (a folder, a pipe, a device) is refused without being opened, so nothing here can block.

    Raises ``error``, whose message calls the wanted thing ``noun``.
    """
    path = os.fsdecode(source)
    name = shown(path)
    remedy = f"give the path of a {noun}"
    try:
        if not os.path.lexists(path):
            path = os.path.expanduser(path)
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{name} does not exist", f"check the path, and {remedy}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{name} cannot be opened ({_words(reason)})", remedy) from None
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{name} is a folder, not a {noun}", f"give the path of one {noun}")
    if not stat.S_ISREG(status.st_mode):
        kind = next((words for test, words in _KINDS if test(status.st_mode)), "no regular file")
        raise error(f"{name} is {kind}, not a {noun}", f"save its content to a file and {remedy}")
    # Absolute, because libsndfile takes the path "-" for standard input.
    path = os.path.abspath(path)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as reason:
        raise error(f"{name} cannot be read ({_words(reason)})", "make it readable for this user") from None
    if not head:
        raise error(f"{name} is empty (0 bytes)", f"save it again, or give another {noun}")
    return InputFile(path, name, head)


def _words(reason: OSError | ValueError) -> str:
    return (reason.strerror or type(reason).__name__) if isinstance(reason, OSError) else str(reason)
