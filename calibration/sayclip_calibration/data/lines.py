"""Captions and IPA from a text file: one a line, or ``file<TAB>caption`` where it is known what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sayclip.errors import InputError

_MOST_BYTES = 256 << 20


def read_lines(path: Path) -> Mapping[str, frozenset[str]]:
    """The texts of a UTF-8 file, each once, in their order, with the stems of the files that they belong to.

    Blank lines are passed over. Where a line has tabs, its first field names a file (of whatever folder and suffix) and
    its second is the text; more fields do not matter, nor does a first line that begins with ``file<TAB>``. Raises
    InputError for a file that cannot be read, is not UTF-8, too large, or holds no text.
    """
    remedy = "give a text file with one text a line, or file<TAB>text"
    try:
        count = path.stat().st_size
        if count > _MOST_BYTES:
            raise InputError(f"{path} has {count} bytes, wanted at most {_MOST_BYTES}", remedy)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", remedy) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(text.split("\n")):
        file, tab, said = line.rstrip("\r").partition("\t")
        if not tab:
            file, said = "", file
        elif number == 0 and file.strip().lower() == "file":
            continue
        said = said.split("\t")[0].strip()
        if said:
            found[said] = found.get(said, frozenset()) | ({stem_of(file)} if file.strip() else frozenset())
    if not found:
        raise InputError(f"{path} holds no text", remedy)
    return found


def stem_of(file: str) -> str:
    """What ``file`` and the files that belong to it have in common: the name without folder and suffix."""
    return PurePosixPath(file.strip()).stem
