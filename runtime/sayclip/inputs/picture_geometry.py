"""The geometry of pictures: how the camera was held, and the square that an encoder sees of one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image

    from sayclip.inputs.picture_files import Decoded
    from sayclip.inputs.picture_settings import PictureSettings

# Beyond this ratio of the sides a strip is cut before it is enlarged, else 1 x 10000 becomes 224 x 2240000.
_NARROW = 16
_REACH = 4  # source pixels that an enlarging filter sees on either side: 3 for Lanczos, and one for rounding
_ORIENTATION = 0x0112


def orientation(image: PIL.Image.Image) -> int:
    """EXIF's number for how the camera was held, 1 to 8; 1, upright, where there is none that makes sense."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # unreadable EXIF is no reason to refuse good pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(image: PIL.Image.Image, turn: int) -> PIL.Image.Image:
    """The picture as it was seen; ``turn`` is what ``orientation`` found."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turns[turn]) if turn in turns else image


def _turned(
    box: tuple[float, float, float, float], size: tuple[int, int], turn: int
) -> tuple[float, float, float, float]:
    """Where ``box`` (left, top, right, bottom) of a picture of ``size`` lies once ``upright`` has turned it."""
    left, top, right, bottom = box
    width, height = size
    if turn >= 5:
        left, top, right, bottom, width, height = top, left, bottom, right, height, width
    if turn in (2, 3, 6, 7):
        left, right = width - right, width - left
    if turn in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def square(image: PIL.Image.Image, settings: PictureSettings) -> NDArray[np.uint8]:
    """uint8 [size, size, 3] of an RGB picture."""
    from PIL import Image

    size = settings.size
    width, height = image.size
    resample = Image.Resampling[settings.resample.upper()]
    pixels: NDArray[np.uint8]
    if settings.resize == "squash":
        if height > max(size, _NARROW * width):  # down first; older Pillows would widen every row of it before
            image = image.resize((width, size), resample)
        pixels = np.asarray(image.resize((size, size), resample))
        return pixels
    short = min(width, height)
    new_width, new_height, left, top = _geometry(width, height, size)
    if short < size and max(width, height) > _NARROW * short:
        pixels = np.asarray(_cut_and_enlarge(image, size, left, top, resample))
        return pixels
    pixels = np.asarray(image.resize((new_width, new_height), resample))
    return pixels[top : top + size, left : left + size]


def _geometry(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Width and height to resize to, and left and top of the square that is kept of that."""
    short = min(width, height)
    new_width, new_height = size * width // short, size * height // short
    return new_width, new_height, round((new_width - size) / 2), round((new_height - size) / 2)


def square_of_shrunk(
    image: PIL.Image.Image, decoded: Decoded, turn: int, settings: PictureSettings
) -> NDArray[np.uint8]:
    """The same from ``image``, which is ``decoded`` turned upright, by the measures of the picture in the file."""
    from PIL import Image

    size = settings.size
    whole = (0.0, 0.0, decoded.size[0] / decoded.shrink, decoded.size[1] / decoded.shrink)
    box = _turned(whole, decoded.image.size, turn)
    width, height = decoded.size if turn < 5 else decoded.size[::-1]
    new_width, new_height, left, top = _geometry(width, height, size)
    if settings.resize == "squash":
        new_width, new_height, left, top = size, size, 0, 0
    resample = Image.Resampling[settings.resample.upper()]
    pixels: NDArray[np.uint8] = np.asarray(image.resize((new_width, new_height), resample, box=box))
    return pixels[top : top + size, left : left + size]


def _cut_and_enlarge(
    image: PIL.Image.Image, size: int, left: int, top: int, resample: PIL.Image.Resampling
) -> PIL.Image.Image:
    """The square at (left, top) of the enlarged picture, by way of the part of the picture that it is made of.

    Pillow keeps ``box`` in single precision, so the part is cut at whole pixels first, which keeps the numbers small.
    """
    short = min(image.size)
    cuts: list[tuple[int, int, float, float]] = []
    for side, offset in zip(image.size, (left, top), strict=True):
        step = side / (size * side // short)  # source pixels per output pixel, below 1
        first, last = offset * step, min((offset + size) * step, float(side))
        start, stop = max(0, math.floor(first) - _REACH), min(side, math.ceil(last) + _REACH)
        cuts.append((start, stop, first - start, last - start))
    (x0, x1, box_x0, box_x1), (y0, y1, box_y0, box_y1) = cuts
    part = image.crop((x0, y0, x1, y1))
    # Across first, as every Pillow enlarges the whole picture; Pillow 13 would go by the height of the part.
    across = part.resize((size, part.height), resample, box=(box_x0, 0, box_x1, part.height))
    return across.resize((size, size), resample, box=(0, box_y0, size, box_y1))
