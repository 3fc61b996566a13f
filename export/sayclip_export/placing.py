"""Where an exported bundle goes: a new folder, or one that is a bundle already and gains encoders.

The bundle is made in a folder beside its place and changes places with what was there once all of it is verified, so
that a full disk or a refusal leaves the old bundle as it was. So does a kill, except between the two renames of the
change: then it lies whole in a hidden folder beside its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sayclip.bundle.entries import EncoderEntry
from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import FILE, Manifest
from sayclip.errors import BundleError
from sayclip_export.readers.errors import CheckpointError


def require_place(out: Path) -> Manifest | None:
    """The manifest of the bundle at ``out``, None where nothing is there.

    Raises CheckpointError for anything else that is there, BundleError for a bundle that is damaged.
    """
    if not os.path.lexists(out):
        return None
    if out.is_symlink() or not (out / FILE).is_file():
        raise CheckpointError(
            f"{out} exists already and is no bundle", "name a folder that is not there, or a bundle to add to"
        )
    manifest = Manifest.read(out)
    verify_files(manifest)
    return manifest


def keep(
    before: Manifest | None, space: str, width: int, replaced: Sequence[str], fresh: Path
) -> dict[str, EncoderEntry]:
    """Entries of ``before`` whose names are not ``replaced``, their files copied to ``fresh``.

    Raises BundleError where they are of another space or width than ``space`` and ``width``: vectors of two spaces
    never mix.
    """
    if before is None:
        return {}
    kept = {name: entry for name, entry in before.encoders.items() if name not in replaced}
    if kept and (before.space, before.width) != (space, width):
        raise BundleError(
            f"{before.folder} holds {', '.join(kept)} of space {before.space!r} with width {before.width}, "
            f"the checkpoint gives {space!r} with width {width}",
            "name a folder that is not there",
        )
    for entry in kept.values():
        for file in entry.files():
            target = fresh / file.file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before.path(file.file), target)
    return kept


@contextlib.contextmanager
def place(out: Path) -> Iterator[tuple[Path, Manifest | None]]:
    """A folder beside ``out`` that becomes ``out`` when the block ends well, and vanishes otherwise.

    With it comes the manifest of the bundle that ``out`` was, None where nothing was there. Raises as
    ``require_place``, and CheckpointError where ``out`` cannot be written.
    """
    before = require_place(out)
    out = out.absolute()  # "." has no name to build on
    parents = [parent for parent in (out.parent, *out.parent.parents) if not parent.exists()]
    fresh: Path | None = None
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            yield fresh, before
            fresh.chmod(0o755)  # mkdtemp lets nobody else read
            swap(fresh, out)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointError(f"{out} cannot be written ({reason})", "name a writable place with room") from error
    except BaseException:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def swap(fresh: Path, out: Path) -> None:
    """Put ``fresh`` where ``out`` is, if anything is; what was there goes only when the new one stands.

    Raises OSError, and what was there is back in its place then.
    """
    if not out.exists():
        fresh.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        try:
            fresh.rename(out)
        except OSError:
            (old / out.name).rename(out)
            raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
