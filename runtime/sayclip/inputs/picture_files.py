"""Pictures on disk: recognised by their first bytes, sized by their header, and only then decoded by Pillow."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sayclip.errors import PictureError
from sayclip.inputs.files import InputFile

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = 178_956_970
"""Pictures of more pixels are refused by their header (Pillow's own limit for an error; about 700 MB decoded)."""
_SUPPORTED = "JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000 or PPM"
# First bytes, Pillow's name of the format, Pillow's module. Only these are opened: the list keeps out plug-ins that
# run other programs (EPS) and the search through forty of them for a file that is no picture.
_READABLE = (
    (b"\xff\xd8\xff", "JPEG", "JpegImagePlugin"),
    (b"\x89PNG\r\n\x1a\n", "PNG", "PngImagePlugin"),
    (b"GIF87a", "GIF", "GifImagePlugin"),
    (b"GIF89a", "GIF", "GifImagePlugin"),
    (b"BM", "BMP", "BmpImagePlugin"),
    (b"II*\0", "TIFF", "TiffImagePlugin"),
    (b"MM\0*", "TIFF", "TiffImagePlugin"),
    (b"II+\0", "TIFF", "TiffImagePlugin"),
    (b"MM\0+", "TIFF", "TiffImagePlugin"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000", "Jpeg2KImagePlugin"),
    (b"\xff\x4f\xff\x51", "JPEG2000", "Jpeg2KImagePlugin"),
)
_UNREADABLE = (
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska film"),
    (8, b"AVI ", "an AVI film"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
)
_SHRINKS = (8, 4, 2)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True)
class Decoded:
    """A picture in memory. The file has ``size`` (width, height) pixels, ``image`` one for ``shrink`` times ``shrink``
    of them; where that does not divide, its last column and row reach beyond the picture."""

    image: PIL.Image.Image
    size: tuple[int, int]
    shrink: int = 1


def decode(file: InputFile, least: float = math.inf) -> Decoded:
    """Decode the first frame of ``file``; the picture is in memory and the file closed when this returns.

    ``least``: how many pixels of the shorter side the caller can do with, in every colour. A JPEG in RGB or grey that
    has twice, four or eight times as many is decoded at that part of its size, which its format allows at a part of
    the cost.

    Raises PictureError for what is not a picture, not in a supported format, larger than ``MAX_PIXELS`` (before
    anything is decoded), cut short or damaged.
    """
    form, plugin = _recognise(file)
    from PIL import Image

    try:
        importlib.import_module(f"PIL.{plugin}")
    except ImportError:
        raise PictureError(
            f"{file.name} is {form}, which this Pillow cannot read", "upgrade it with: pip install -U pillow"
        ) from None
    try:
        stream = open(file.path, "rb")  # noqa: SIM115 - closed below
    except OSError as reason:  # it went away after it was checked
        raise PictureError(f"{file.name} cannot be read ({reason.strerror})", "give it again if it is back") from None
    with stream:
        try:
            # Not Image.open: it warns on stderr from half our limit on, and that can only be switched off globally.
            image = Image.OPEN[form][0](stream, "")
        except Exception as reason:  # Pillow's plug-ins raise whatever their parsing runs into
            raise _damaged(file.name, reason) from None
        size = image.size
        check_size(size, file.name)
        shrink = _shrunk(image, least) if form == "JPEG" else 1
        load(image, file.name)
    return Decoded(image, size, shrink)


def _shrunk(image: Any, least: float) -> int:
    """Have an opened JPEG decoded at a half, a quarter or an eighth of its size; the divisor, 1 where it is whole."""
    short = min(image.size) / _coarser_colours(image)
    wanted = next((factor for factor in _SHRINKS if short >= factor * least), 1)
    if wanted == 1 or image.mode not in ("RGB", "L"):
        return 1
    width, height = image.size
    drafted = image.draft(None, (width // wanted, height // wanted))
    return 1 if drafted is None else round(width / drafted[1][2])


def _coarser_colours(image: Any) -> float:
    """How much more a shrunk JPEG loses of its colours than of its brightness: 1, or 2 where colours have half of the
    columns, but all of the rows (4:2:2). Colours that have half of both are decoded at twice the size.
    """
    layers = getattr(image, "layer", [])  # of each component its number and sampling across and down
    sampling = [[max(1, int(part[place])) for part in layers] for place in (1, 2)]  # 0 in a damaged header
    across, down = (max(numbers, default=1) / min(numbers, default=1) for numbers in sampling)
    return max(across, down) / min(across, down)


def load(image: PIL.Image.Image, name: str) -> None:
    """Decode the pixels of an opened picture; PictureError where they are damaged."""
    try:
        image.load()
    except Exception as reason:
        raise _damaged(name, reason) from None


def check_size(size: tuple[int, ...], name: str) -> None:
    """Refuse a picture of (width, height) without pixels, or with more than ``MAX_PIXELS``."""
    width, height = size
    if width < 1 or height < 1:
        raise PictureError(f"{name} is {width} x {height} pixels", "give a picture of at least one pixel")
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{name} is {width} x {height} pixels ({width * height / 1e6:.0f} million), "
            f"the limit is {MAX_PIXELS / 1e6:.0f} million",
            "scale it down or cut it into tiles first",
        )


def _recognise(file: InputFile) -> tuple[str, str]:
    head = file.head
    for magic, form, plugin in _READABLE:
        if head.startswith(magic):
            return form, plugin
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP", "WebPImagePlugin"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#":
        return "PPM", "PpmImagePlugin"
    what = next((words for offset, magic, words in _UNREADABLE if head.startswith(magic, offset)), None)
    if head[4:8] == b"ftyp":
        brands = head[8 : min(len(head), int.from_bytes(head[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF", "AvifImagePlugin"
        what = "a HEIC picture" if any(brand in brands for brand in _HEIF_BRANDS) else "an MP4 or QuickTime film"
    if b"<svg" in head or b"<!DOCTYPE svg" in head:
        what = "an SVG drawing"
    if what is not None:
        raise PictureError(
            f"{file.name} is {what}, a format that is not supported", f"convert it; wanted is {_SUPPORTED}"
        )
    raise PictureError(f"{file.name} is not a picture, or its header is damaged", f"wanted is {_SUPPORTED}")


def _damaged(name: str, reason: Exception) -> PictureError:
    words = str(reason).strip().rstrip(".") or type(reason).__name__
    return PictureError(f"{name} is damaged or cut short ({words})", "copy or save it again, or leave it out")
