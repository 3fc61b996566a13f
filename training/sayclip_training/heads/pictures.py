"""What the frozen image encoder sees in every picture, kept on the disk, and which pictures cannot be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.files import sha256_of
from sayclip.errors import PictureError
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip_training.distillation import cache
from sayclip_training.distillation.evaluation import unit
from sayclip_training.distillation.teacher import See

_ANY = PictureSettings(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # whether a file can be read hangs on none of it


@dataclass(frozen=True)
class Seen:
    """The pictures ``names`` and their embeddings f32 [P,D] of length 1; ``broken``: others by name, and why."""

    names: list[str]
    embeddings: NDArray[np.float32]
    broken: dict[str, str]


def look(
    folder: Path,
    names: Sequence[str],
    width: int,
    identity: str,
    see: See,
    kept: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Seen:
    """Embeddings of the pictures ``names`` in ``folder``, read from ``kept`` as far as they are there.

    ``see``: f32 [N,width] of pictures, not 0; ``identity``: of the encoder that sees. A picture that is damaged is kept
    as a row of zeros, so that nothing is seen twice on its account.
    """
    paths = [folder / name for name in names]
    keys = [sha256_of(path) for path in paths]
    rows = cache.rows(
        kept, "pictures", identity, keys, width, lambda start, stop: _see(paths[start:stop], width, see), progress
    )
    good: NDArray[np.bool_] = np.any(rows, axis=1)
    broken = {name: _why(path) for name, path, fine in zip(names, paths, good, strict=True) if not fine}
    return Seen([name for name in names if name not in broken], unit(rows[good]), broken)


def _see(paths: Sequence[Path], width: int, see: See) -> NDArray[np.float32]:
    """What ``see`` gives, with zeros for what cannot be read. Only where something cannot is every picture tried."""
    try:
        return see(paths)
    except PictureError:
        good = np.array([not _why(path) for path in paths])
        if good.all():
            raise
    rows = np.zeros((len(paths), width), np.float32)
    if good.any():
        rows[good] = see([path for path, fine in zip(paths, good, strict=True) if fine])
    return rows


def _why(path: Path) -> str:
    """Why the picture cannot be read, or ""."""
    try:
        read_picture(path, _ANY)
    except PictureError as error:
        return error.problem
    return ""
