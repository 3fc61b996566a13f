"""Pictures: from a path, an array or a Pillow image to the normalised pixels that an image encoder takes."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import PictureError
from sayclip.inputs.files import checked_file, shown
from sayclip.inputs.picture_files import Decoded, check_size, decode, load
from sayclip.inputs.picture_geometry import orientation, square, square_of_shrunk, upright
from sayclip.inputs.picture_settings import PictureSettings

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["PictureSettings", "read_picture"]

_HARD = ("nearest", "box")  # filters whose hard edges show which pixels there were
_HALF_STEP = 0.5 / 255
_SPARE = 2.0
"""Of a picture decoded at a part of its size, each side keeps at least so many times the pixels it is resized to."""


def read_picture(
    source: str | bytes | os.PathLike[str] | PIL.Image.Image | NDArray[Any],
    settings: PictureSettings,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Read a picture and bring it to the encoder's size and range.

    source: a path (JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000, PPM; ``~`` is expanded; the first frame of an
    animation), an open Pillow image (its current frame; left as it is), or an array [H, W], [H, W, 1], [H, W, 3] (R, G,
    B) or [H, W, 4] (with alpha): uint8, uint16 (full scale 65535) or floating point in [0, 1].
    out: float32 [3, size, size] to write into, such as a row of a batch; untouched when an error is raised.

    Returns float32 [3, size, size], ``out`` where it was given.

    The steps are those of OpenAI's CLIP, in the order that also suits palettes and transparency: EXIF orientation ->
    8 bits -> alpha on white -> RGB -> resize with Pillow's 8-bit resampler, shorter side to ``size``, the longer to
    floor(size * long / short) -> centre crop at round((side - size) / 2), halves to even -> / 255 -> (x - mean) / std.
    On RGB and grey pictures the result equals that of OpenAI's pipeline on the same Pillow bit by bit. Two exceptions:
    pictures of more than 16 : 1 that are to be enlarged are first cut to the part that is used, with the filter's
    reach, which changes a pixel by one 8-bit step, rarely two (the filters box and nearest have hard edges and may take
    the neighbouring source pixel); and JPEG files of at least four times ``size`` are decoded at a half, a quarter or
    an eighth of their size, whichever leaves at least twice ``size`` in every colour, which changes the pixels of
    photographs by less than one 8-bit step on average (not with the filters box and nearest; Pillow images and arrays
    are resized from all of their pixels). Values of 16 bits are divided by 257 and rounded. Pillow's modes I and F do
    not say their full scale: it is the smallest of 1 (F only), 255 and 65535 that holds them (F: or is exceeded by less
    than half).

    Raises PictureError, naming the picture, for whatever cannot be read.
    """
    out = _checked_out(out, settings.size)
    if isinstance(source, np.ndarray):
        name = "the picture"
        array = _from_array(source, name)
        decoded = Decoded(array, array.size)
    elif isinstance(source, (str, bytes, os.PathLike)):
        file = checked_file(source, PictureError, "picture")
        name = file.name
        decoded = decode(file, math.inf if settings.resample in _HARD else _SPARE * settings.size)
    else:
        from PIL import Image

        if not isinstance(source, Image.Image):
            raise PictureError(
                f"a picture was given as {type(source).__name__} ({shown(source)[:60]})",
                "give a path, a numpy array or a Pillow image",
            )
        name = "the picture"
        check_size(source.size, name)
        load(source, name)
        decoded = Decoded(source, source.size)
    turn = orientation(decoded.image)
    image = _rgb(upright(decoded.image, turn), name)
    pixels = square(image, settings) if decoded.shrink == 1 else square_of_shrunk(image, decoded, turn, settings)
    levels = _levels(settings.mean, settings.std)
    for channel in range(3):
        np.take(levels[channel], pixels[:, :, channel], out=out[channel], mode="clip")
    return out


def _checked_out(out: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    if out is None:
        return np.empty((3, size, size), np.float32)
    if out.shape != (3, size, size) or out.dtype != np.float32 or not out.flags.writeable:
        seen = f"{out.dtype} {list(out.shape)}" + ("" if out.flags.writeable else ", read-only")
        raise PictureError(f"out is {seen}", f"give a writeable float32 array of [3, {size}, {size}]")
    return out


def _from_array(array: NDArray[Any], name: str) -> PIL.Image.Image:
    from PIL import Image

    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        swapped = array.ndim == 3 and shape[0] in (1, 3, 4)
        remedy = "move the channels last, to [height, width, channels]" if swapped else "give [H, W], [H, W, 3 or 4]"
        raise PictureError(f"{name} has the shape {list(shape)}", remedy)
    check_size((shape[1], shape[0]), name)
    if array.dtype.name == "uint16":
        array = _scaled(array, 65535)
    elif array.dtype.kind == "f":
        low, high = _range(array, name)
        if low < -_HALF_STEP or high > 1 + _HALF_STEP:
            raise PictureError(
                f"{name} has floating-point pixels from {low:.4g} to {high:.4g}, wanted is 0 to 1",
                "divide by full scale, or convert to uint8",
            )
        array = _scaled(array, 1)
    elif array.dtype != np.uint8:
        raise PictureError(
            f"{name} has pixels of type {array.dtype}", "give uint8, uint16, or floating point from 0 to 1"
        )
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """RGB of 8 bits, with transparent parts on white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_grey_8_bits(np.asarray(image), name))
    try:
        if not image.has_transparency_data:
            return image if image.mode == "RGB" else image.convert("RGB")
        # La, grey with premultiplied alpha, converts to LA only.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if image.getchannel("A").getextrema() == (255, 255):
            return image.convert("RGB")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image)
    except (ValueError, OSError, KeyError) as reason:
        raise PictureError(
            f"{name} of mode {image.mode} does not convert to RGB ({reason})", "save it as an RGB picture"
        ) from None
    return canvas


def _grey_8_bits(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """uint8 of the values of Pillow's modes I;16 (uint16), I (int32) and F (float32)."""
    if values.dtype.kind == "u":
        return _scaled(values, 65535)
    low, high = _range(values, name)
    # Resampled floating-point pictures swing over both ends of their scale: those parts are cut off.
    scales, slack = ((1, 255, 65535), 0.5) if values.dtype.kind == "f" else ((255, 65535), 0.0)
    scale = next((scale for scale in scales if high <= scale * (1 + slack)), None)
    if scale is None or low < -slack * scale:
        raise PictureError(
            f"{name} has grey values from {low:.6g} to {high:.6g}, wanted are 0 to 255 or 65535",
            "scale it to 8 or 16 bits",
        )
    return _scaled(values, scale)


def _range(values: NDArray[Any], name: str) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PictureError(f"{name} has NaN or infinite pixels", "give finite pixels only")
    return low, high


def _scaled(values: NDArray[Any], full_scale: int) -> NDArray[np.uint8]:
    """Bring [0, full_scale] to [0, 255], rounded."""
    scaled = np.clip(values.astype(np.float32) * np.float32(255 / full_scale), 0, 255)
    rounded: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded


@lru_cache(maxsize=16)
def _levels(mean: tuple[float, float, float], std: tuple[float, float, float]) -> NDArray[np.float32]:
    """float32 [3, 256]: every 8-bit value after / 255 and normalising, in float32 as torchvision computes it."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    levels: NDArray[np.float32] = (unit - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    levels.flags.writeable = False
    return levels
