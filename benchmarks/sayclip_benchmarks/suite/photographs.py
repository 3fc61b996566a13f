"""What decoding large JPEGs at a part of their size changes, on a folder of real photographs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError, PictureError, SayclipError
from sayclip.inputs import PictureSettings, read_picture
from sayclip.inputs.files import checked_file
from sayclip.inputs.picture_files import decode

ENDINGS = (".jpg", ".jpeg")
IMAGE = "image"


def jpegs(folder: str | os.PathLike[str]) -> list[Path]:
    """Every JPEG below ``folder``, by name. Raises InputError where there is none."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise InputError(f"{folder} holds no JPEG", "name a folder of photographs (.jpg or .jpeg)")
    return files


def chosen(bundles: Sequence[Path]) -> Path:
    """The first bundle that has an image encoder. Raises InputError where none has, and BundleError."""
    found = next((bundle for bundle in bundles if IMAGE in Manifest.read(bundle).encoders), None)
    if found is None:
        raise InputError(
            "no bundle here has an image encoder", "leave --photographs out, or name a bundle that has one"
        )
    return found


def section(folder: str | os.PathLike[str], bundle: Path) -> dict[str, Any]:
    """``photographs`` as results have it: what ``compare`` finds, or why there is nothing."""
    try:
        return {"status": "ok", "why": "", "bundle": Manifest.read(bundle).name, **compare(folder, bundle)}
    except SayclipError as error:
        return {"status": "failed", "why": str(error)}


def compare(
    folder: str | os.PathLike[str],
    bundle: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Every JPEG below ``folder`` as sayclip reads it, against the same one resized from all of its pixels.

    ``bundle``'s image encoder (default: the demo's) gives the preprocessing and the embeddings; with ``size`` pictures
    are compared at that many pixels a side instead, and there are no embeddings.

    Returns ``pictures`` (how many), ``shrunk`` (how many were decoded smaller, which alone are judged), ``megapixels``
    (their median), ``mean_difference`` and ``worst_difference`` (of all, and of the worst picture; mean absolute
    difference of pixels before normalisation, in steps of 1/255), ``cosine`` and ``worst_cosine`` (mean and least; null
    with ``size``), and ``unreadable``: names of what sayclip refuses. Raises InputError where nothing is to be judged.
    """
    files = jpegs(folder)
    with sayclip.load(bundle, precision=precision) as encoder:
        how = encoder.manifest.entry(IMAGE).preprocessing
        assert isinstance(how, PicturePreprocessing)
        raw = PictureSettings(size or how.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), how.resample, how.resize)
        differences, cosines, megapixels = [], [], []
        unreadable = []
        for path in files:
            try:
                pixels = _both(path, raw)
            except PictureError:
                unreadable.append(path.name)
                continue
            if pixels is None:
                continue
            differences.append(255.0 * float(np.abs(pixels[0] - pixels[1]).mean()))
            megapixels.append(pixels[2])
            if size is None:
                one, two = encoder.image([path, whole(path)])
                cosines.append(float(one @ two))
    if not differences:
        raise InputError(
            f"none of the {len(files)} JPEGs in {folder} is large enough to be decoded smaller",
            f"give photographs of at least {4 * raw.size} pixels on their shorter side",
        )
    return {
        "pictures": len(files),
        "shrunk": len(differences),
        "size": raw.size,
        "megapixels": float(np.median(megapixels)),
        "mean_difference": float(np.mean(differences)),
        "worst_difference": max(differences),
        "cosine": float(np.mean(cosines)) if cosines else None,
        "worst_cosine": min(cosines, default=None),
        "unreadable": unreadable,
    }


def whole(path: Path) -> Any:
    """The picture with all of its pixels, as a Pillow image, which sayclip never shrinks. Raises PictureError."""
    return decode(checked_file(path, PictureError, "picture")).image


def _both(path: Path, raw: PictureSettings) -> tuple[NDArray[np.float32], NDArray[np.float32], float] | None:
    """Pixels as sayclip reads them and those of the whole picture, and its megapixels; None where they are the same."""
    image = whole(path)
    seen, wanted = read_picture(path, raw), read_picture(image, raw)
    return None if np.array_equal(seen, wanted) else (seen, wanted, image.width * image.height / 1e6)
