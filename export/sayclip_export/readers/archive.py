"""Zip archives of checkpoints, checked before anything in them is read.

``torch.load`` trusts a zip: it skips CRCs, so a flipped bit becomes a wrong weight, and unpacks whatever is packed.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from sayclip_export.readers.errors import CheckpointError, refuse

MAGIC = b"PK\x03\x04"
_CHUNK = 1 << 20
_MEMBERS = 100_000  # ViT-H/14 has fewer than 1,000
_CODE = "code"  # TorchScript's generated source, packed and never read
_ENCRYPTED = 0x1
# What zipfile raises for archives that are not whole.
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error, zlib.error)


@contextlib.contextmanager
def open_archive(path: Path, remedy: str, *, content: bool = True) -> Iterator[zipfile.ZipFile]:
    """The archive at ``path``, as ``torch.save`` and ``torch.jit.save`` write them: one folder, tensors unpacked.

    Raises CheckpointError, ending in ``remedy``, where it is cut short, a member's CRC-32 differs (unless ``content``
    is False), a name leaves the folder or stands twice, or members claim more bytes than the file has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path, remedy)
            if content:
                _check_content(archive, path, remedy)
            yield archive
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror or error})", remedy) from None
    except _DAMAGE as error:
        raise damaged(path, str(error) or type(error).__name__, remedy) from None


def check_archive(path: Path, remedy: str) -> None:
    """Refuse what ``open_archive`` refuses."""
    with open_archive(path, remedy):
        pass


def damaged(path: Path, reason: str, remedy: str) -> CheckpointError:
    """The error for a file that is not whole, or holds what is not taken; nothing in it was run."""
    return refuse(f"{path} is damaged or cut short ({' '.join(reason.split())[:160]}) and was not run", remedy)


def _check_members(archive: zipfile.ZipFile, path: Path, remedy: str) -> None:
    members = archive.infolist()
    if len(members) > _MEMBERS:
        raise refuse(f"{path} has {len(members)} members, wanted at most {_MEMBERS}", remedy)
    names: set[str] = set()
    roots: set[str] = set()
    total = 0
    for member in members:
        name = member.orig_filename
        parts = name.split("/")
        shown = repr(name[:80])
        leaves = any(part in ("", ".", "..") for part in parts) or any(mark in name for mark in "\\:\0")
        if leaves or stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise refuse(f"{path} has the member {shown}, wanted plain files that stay in one folder", remedy)
        if name in names:
            raise refuse(f"{path} has the member {shown} twice, wanted it once", remedy)
        names.add(name)
        roots.add(parts[0])
        if member.flag_bits & _ENCRYPTED:
            raise refuse(f"{path} has the encrypted member {shown}, wanted plain files", remedy)
        packed = member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
        if packed and parts[1:2] != [_CODE]:
            raise refuse(
                f"{path} has the member {shown} of {member.file_size} bytes packed into {member.compress_size}, wanted "
                "it unpacked, as torch stores tensors",
                remedy,
            )
        total += member.compress_size
    size = path.stat().st_size
    if total > size:
        raise refuse(f"{path} has members of {total} bytes together, the file has {size}", remedy)
    if len(roots) != 1:
        raise refuse(f"{path} has members in {len(roots)} folders, wanted one", remedy)


def _check_content(archive: zipfile.ZipFile, path: Path, remedy: str) -> None:
    """Read every member that is stored once, which compares its CRC-32."""
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            continue
        count = 0
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK):
                count += len(chunk)
        if count != member.file_size:
            raise damaged(path, f"{member.filename} ends after {count} of {member.file_size} bytes", remedy)
