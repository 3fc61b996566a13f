"""Where an exported bundle goes: a new folder, or one that is a bundle already and gains encoders.

How it gets there in one step: ``sayclip.bundle.placing``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sayclip.bundle.entries import EncoderEntry
from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import FILE, Manifest
from sayclip.bundle.placing import made_beside
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
    out = out.absolute()
    try:
        with made_beside(out) as fresh:
            yield fresh, before
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{out} cannot be written ({reason})", "name a writable place with room") from error
