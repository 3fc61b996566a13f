"""Draws the demo's pictures from Noto Color Emoji (Debian ``fonts-noto-color-emoji``, SIL OFL 1.1)."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from sayclip.errors import MissingDependencyError
from sayclip_training.demo_data.names import Emoji

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIDE = 96
_STRIKE = 109  # the only bitmap size in the font
_CELL = (136, 128)


def emoji_font(path: Path = FONT) -> ImageFont.FreeTypeFont:
    """Noto Color Emoji at the one size it has; MissingDependencyError where it, or Pillow's Raqm layout, is missing."""
    if not path.exists():
        raise MissingDependencyError(f"{path} is missing", "apt-get install fonts-noto-color-emoji")
    if not features.check("raqm"):
        raise MissingDependencyError(
            "this Pillow has no Raqm layout, which joins emoji sequences", "install Pillow's wheel from PyPI"
        )
    return ImageFont.truetype(str(path), _STRIKE, layout_engine=ImageFont.Layout.RAQM)


def draw(emoji: Emoji, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One picture, RGB, 96 x 96, on white. Sequences joined by ZWJ are one glyph, which needs Pillow's Raqm layout."""
    cell = Image.new("RGB", (_CELL[0], _CELL[0]), "white")
    ImageDraw.Draw(cell).text((0, (_CELL[0] - _CELL[1]) // 2), emoji.text, font=font, embedded_color=True)
    return cell.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def write_pictures(emoji: list[Emoji], folder: Path, font: Path = FONT) -> None:
    """Write ``<stem>.webp`` for each emoji and ``captions.tsv`` (file, name, keywords joined by ``|``)."""
    folder.mkdir(parents=True, exist_ok=True)
    face = emoji_font(font)
    rows = ["file\tname\tkeywords"]
    for item in emoji:
        draw(item, face).save(folder / f"{item.stem}.webp", quality=82, method=6)
        rows.append(f"{item.stem}.webp\t{item.name}\t{'|'.join(item.keywords)}")
    (folder / "captions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
