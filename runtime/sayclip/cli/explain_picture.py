"""The picture of ``--explain-picture``: a recording's waveform, the units heard in it, their words and the seconds."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sayclip.cli import labels
from sayclip.text.heard_words import HeardWord, heard_words
from sayclip.text.keywords import Keyword

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

WIDTH, MARGIN = 1200, 50
"""Pixels of the whole picture from left to right, and of what stays empty on either side."""
LEFT, RIGHT = MARGIN, WIDTH - MARGIN
TOP, WAVE, LEADERS, LONGEST = 64, 220, 18, 150
"""Pixels: where the waveform begins, its height, that of the lines to the words, and the longest turned word."""
PAPER, BAND, INK, SOFT, SOUND, EDGE = "#ffffff", "#eef2f7", "#1c2026", "#667085", "#2563eb", "#c2410c"
_SIZES, _READABLE = (22, 18, 15, 12, 10), 15
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_MOST_STEPS = 12

Span = tuple[float, float]


def picture(wave: NDArray[np.float32], rate: int, units: Sequence[Keyword], title: str) -> bytes:
    """A PNG, 1,200 pixels wide, of ``wave`` float32 [S] at ``rate`` Hz and of the ``units`` heard in it.

    The waveform is scaled to its own peak. Units without times are written in their order, evenly spaced.
    Raises MissingDependencyError for a Pillow without FreeType.
    """
    from PIL import Image, ImageDraw

    large, small = labels.font_of(22), labels.font_of(16)
    seconds = len(wave) / rate
    words = heard_words(units)
    timed = all(word.start_s is not None and word.end_s is not None for word in words)
    spans = [_span(word, seconds) for word in words] if timed else _even(len(words))
    found, font = _labelled(words, spans)
    heights = [math.ceil(font.getlength(label.text)) for label in found if label.turned]
    names = TOP + WAVE + LEADERS
    axis = names + max([labels.line_height(font), *heights]) + 14
    sheet = Image.new("RGB", (WIDTH, axis + 52), PAPER)
    pen = ImageDraw.Draw(sheet)
    note = _note(len(words), len(found), timed)
    room = RIGHT - LEFT - small.getlength(note) - 24
    pen.text((LEFT, 44), labels.cut(labels.drawable(title, large), large, room), font=large, fill=INK, anchor="ls")
    pen.text((RIGHT, 44), note, font=small, fill=SOFT, anchor="rs")
    if timed:
        for start, end in spans[::2]:
            pen.rectangle((start, TOP, end, TOP + WAVE), fill=BAND)
    _draw_wave(pen, wave)
    if timed:
        outer = {edge for span in spans for edge in span}
        for edge in sorted({_x(time, seconds) for unit in units for time in (unit.start_s, unit.end_s)}):
            pen.line((edge, TOP, edge, TOP + WAVE), fill=EDGE, width=2 if edge in outer else 1)
    for label in found:
        start, end = spans[label.item]
        if timed:
            pen.line(((start + end) / 2, TOP + WAVE + 3, label.middle, names - 3), fill=SOFT)
        _draw_label(pen, label, names, font)
    _draw_seconds(pen, axis, seconds, small)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def envelope(wave: NDArray[np.float32], columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest and the highest sample of each of ``columns`` equal parts of ``wave`` [S], float32 [columns] each."""
    starts = np.arange(columns) * len(wave) // columns
    return np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)


def _note(words: int, shown: int, timed: bool) -> str:
    """What the picture cannot show, for its corner; empty where it shows all."""
    if not words:
        return "nothing heard"
    if shown < words:
        return f"{words - shown} of {words} words have no room"
    return "" if timed else "words in their order; this encoder does not tell when"


def _x(time: float | None, seconds: float) -> float:
    share = min(max((time or 0.0) / seconds, 0.0), 1.0)
    return LEFT + share * (RIGHT - LEFT)


def _span(word: HeardWord, seconds: float) -> Span:
    start = _x(word.start_s, seconds)
    return start, max(start, _x(word.end_s, seconds))


def _even(count: int) -> list[Span]:
    step = (RIGHT - LEFT) / max(count, 1)
    return [(LEFT + step * place, LEFT + step * (place + 1)) for place in range(count)]


def _labelled(words: Sequence[HeardWord], spans: Sequence[Span]) -> tuple[list[labels.Label], FreeTypeFont]:
    """The words' labels and their font: large, smaller where that spares turning them, or leaving some out."""
    texts, scores = [word.word for word in words], [word.score for word in words]
    tried = []
    for size in _SIZES:
        font = labels.font_of(size)
        tried.append((labels.along(texts, spans, scores, (LEFT, RIGHT), font, LONGEST), font))
    whole = [one for one in tried if len(one[0]) == len(words)]
    upright = [one for one in whole if not any(label.turned for label in one[0])]
    return next(iter([one for one in upright if one[1].size >= _READABLE] + whole + tried[-1:]))


def _draw_wave(pen: ImageDraw, wave: NDArray[np.float32]) -> None:
    low, high = envelope(wave, RIGHT - LEFT)
    peak = max(float(np.abs(wave).max()), 1e-9)
    middle, reach = TOP + WAVE / 2, WAVE / 2 - 6
    for column, (lowest, highest) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        x = LEFT + column
        pen.line((x, middle - reach * highest / peak, x, middle - reach * lowest / peak), fill=SOUND)


def _draw_label(pen: ImageDraw, label: labels.Label, top: int, font: FreeTypeFont) -> None:
    if not label.turned:
        pen.text((label.left, top), label.text, font=font, fill=INK)
        return
    from PIL import Image, ImageDraw

    size = (max(1, math.ceil(font.getlength(label.text))), labels.line_height(font))
    letters = Image.new("L", size, 0)
    ImageDraw.Draw(letters).text((0, 0), label.text, font=font, fill=255)
    pen.bitmap((round(label.left), top), letters.transpose(Image.Transpose.ROTATE_270), fill=INK)


def _draw_seconds(pen: ImageDraw, top: int, seconds: float, font: FreeTypeFont) -> None:
    step = next((step for step in _STEPS if seconds / step <= _MOST_STEPS), _STEPS[-1])
    pen.line((LEFT, top, RIGHT, top), fill=SOFT)
    for number in range(math.floor(seconds / step + 1e-9) + 1):
        x = _x(number * step, seconds)
        pen.line((x, top, x, top + 6), fill=SOFT)
        pen.text((x, top + 10), f"{number * step:g} s", font=font, fill=SOFT, anchor="ma")
