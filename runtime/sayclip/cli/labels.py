"""Labels along a line in a picture: cut or turned where they are long, moved aside so that none covers another."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sayclip.cli.output import one_line
from sayclip.errors import MissingDependencyError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_CUT = "..."  # Pillow's own font has no ellipsis


@dataclass(frozen=True)
class Label:
    """``text`` in a box of ``width`` pixels from ``left`` on; ``turned``: read from top to bottom.

    ``item``: the place of what it labels among all that were to be labelled.
    """

    text: str
    left: float
    width: float
    turned: bool
    item: int

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def font_of(size: int) -> FreeTypeFont:
    """Pillow's own font, ``size`` pixels high. Raises MissingDependencyError for a Pillow that cannot scale it."""
    from PIL import ImageFont

    try:
        found = ImageFont.load_default(size=size)
    except ImportError as error:
        raise MissingDependencyError(
            f"this Pillow cannot draw letters ({error})", "install one with FreeType: pip install -U pillow"
        ) from None
    assert isinstance(found, ImageFont.FreeTypeFont)  # a size is never answered by the bitmap font
    return found


def line_height(font: FreeTypeFont) -> int:
    """Pixels from the top of the highest to the bottom of the lowest letter."""
    ascent, descent = font.getmetrics()
    return int(ascent + descent)


def drawable(text: str, font: FreeTypeFont) -> str:
    """``text`` in one line of what ``font`` has: accents are taken off, other characters written as escapes."""
    absent = bytes(font.getmask("\U0010fffe"))

    def known(character: str) -> bool:
        return character.isascii() or bytes(font.getmask(character)) != absent

    parts = []
    for character in one_line(text):
        plain = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
        if known(character):
            parts.append(character)
        elif plain and all(map(known, plain)):
            parts += plain
        else:
            parts.append(character.encode("ascii", "backslashreplace").decode())
    return "".join(parts)


def cut(text: str, font: FreeTypeFont, room: float) -> str:
    """``text``, or as much of its beginning as fits ``room`` pixels with dots behind; empty where nothing does."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + _CUT) > room:
        text = text[:-1]
    return text.rstrip() + _CUT if text else ""


def along(
    texts: Sequence[str],
    spans: Sequence[tuple[float, float]],
    scores: Sequence[float],
    line: tuple[float, float],
    font: FreeTypeFont,
    longest: float,
) -> list[Label]:
    """A label for each of ``texts``, near the middle of its span of the ``line``, from left to right, all in pixels.

    What is wider than its span is turned, and cut where it is longer than ``longest`` pixels. Where more is to be said
    than the line has room for, what has the lowest of the ``scores`` is left out.
    """
    height = line_height(font)
    gap = height // 5
    room = line[1] - line[0]
    shown = [drawable(text, font) for text in texts]
    widths = [font.getlength(text) for text in shown]
    turned = [width > max(end - start - gap, height) for width, (start, end) in zip(widths, spans, strict=True)]
    boxes = [height if turn else width for width, turn in zip(widths, turned, strict=True)]
    kept = sorted(range(len(shown)), key=lambda item: -scores[item])
    while kept and sum(boxes[item] for item in kept) + gap * (len(kept) - 1) > room:
        upright = [item for item in kept if boxes[item] > height]
        if upright:
            widest = max(upright, key=lambda item: boxes[item])
            boxes[widest], turned[widest] = height, True
        else:
            kept.pop()
    kept.sort()
    middles = [sum(spans[item]) / 2 for item in kept]
    lefts = _side_by_side([boxes[item] for item in kept], middles, line, gap)
    return [
        Label(cut(shown[item], font, longest) if turned[item] else shown[item], left, boxes[item], turned[item], item)
        for item, left in zip(kept, lefts, strict=True)
    ]


def _side_by_side(
    widths: Sequence[float], middles: Sequence[float], line: tuple[float, float], gap: float
) -> list[float]:
    """Left edges of boxes that the line has room for, in their order, near their middles, ``gap`` apart."""
    lefts: list[float] = []
    free = line[0]
    for width, middle in zip(widths, middles, strict=True):
        lefts.append(max(middle - width / 2, free))
        free = lefts[-1] + width + gap
    free = line[1]
    for place in reversed(range(len(lefts))):
        lefts[place] = min(lefts[place], free - widths[place])
        free = lefts[place] - gap
    return lefts
