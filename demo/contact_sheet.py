"""Draws the demo's answers as one PNG: a row for each query, its five best pictures beside it."""

from __future__ import annotations

import unicodedata
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from questions import Answer

PAPER, CARD, INK, SOFT, LINE = "#f4f5f7", "#ffffff", "#1c2026", "#667085", "#d9dde3"
KIND_COLOURS = {"spoken": "#2563eb", "typed": "#7c3aed", "IPA": "#b45309", "picture": "#047857", "fused": "#be185d"}
RIGHT = "#16a34a"
MARGIN, ASKED, CELL, ROW, HEAD = 32, 330, 158, 170, 112
SIDE = 96

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def envelope(recording: Path, bars: int) -> list[float]:
    """Loudness of a 16-bit PCM WAV file in ``bars`` equal spans: peaks in [0, 1], scaled so that the loudest is 1."""
    with wave.open(str(recording), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32)
    spans = np.array_split(np.abs(samples), bars)
    peaks = np.array([span.max(initial=0.0) for span in spans])
    return [float(peak) for peak in peaks / max(float(peaks.max(initial=0.0)), 1.0)]


class Letters:
    """Fonts by size. Pillow's own font lacks IPA, so DejaVu Sans is taken where the system has it."""

    def __init__(self) -> None:
        self._fonts: dict[int, _Font] = {}
        self._named = "DejaVuSans.ttf"
        try:
            ImageFont.truetype(self._named, 12)
        except OSError:
            self._named = ""

    def font(self, size: int) -> _Font:
        """The font at ``size`` pixels."""
        if size not in self._fonts:
            self._fonts[size] = (
                ImageFont.truetype(self._named, size) if self._named else ImageFont.load_default(size=size)
            )
        return self._fonts[size]

    def can_draw(self, text: str) -> bool:
        """Whether the font has a glyph of its own for every character of ``text``."""
        font = self.font(16)
        absent = bytes(font.getmask("\U0010fffe"))
        return all(character.isspace() or bytes(font.getmask(character)) != absent for character in text)

    def drawable(self, text: str) -> str:
        """``text`` with accents and typographic marks taken off where the font lacks them."""
        if self.can_draw(text):
            return text
        plain = unicodedata.normalize("NFKD", text.translate({0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-"}))
        return "".join(c for c in plain if not unicodedata.combining(c) and (c.isascii() or self.can_draw(c)))

    def wrap(self, text: str, size: int, width: int, lines: int) -> list[str]:
        """``text`` broken at spaces into at most ``lines`` lines of ``width`` pixels, the last cut if need be."""
        font, rows = self.font(size), [""]
        for word in self.drawable(text).split():
            longer = f"{rows[-1]} {word}".strip()
            if font.getlength(longer) <= width or not rows[-1]:
                rows[-1] = longer
            else:
                rows.append(word)
        if len(rows) > lines:
            rows = [*rows[: lines - 1], " ".join(rows[lines - 1 :])]
        return [self._cut(row, font, width) for row in rows]

    @staticmethod
    def _cut(row: str, font: _Font, width: int) -> str:
        if font.getlength(row) <= width:
            return row
        while row and font.getlength(row + "…") > width:
            row = row[:-1]
        return row.rstrip() + "…"


def draw(answers: Sequence[Answer], title: str, subtitle: str) -> Image.Image:
    """The sheet, RGB, each answer a row of 170 pixels."""
    letters = Letters()
    columns = max(len(answer.found) for answer in answers)
    width = 2 * MARGIN + ASKED + columns * CELL
    sheet = Image.new("RGB", (width, HEAD + len(answers) * ROW + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 30), letters.drawable(title), font=letters.font(28), fill=INK)
    pen.text((MARGIN, 70), letters.drawable(subtitle), font=letters.font(14), fill=SOFT)
    for row, answer in enumerate(answers):
        top = HEAD + row * ROW
        pen.rounded_rectangle((MARGIN, top, width - MARGIN, top + ROW - 10), 12, fill=CARD, outline=LINE)
        _draw_question(sheet, pen, answer, (MARGIN + 16, top + 14), letters)
        for rank, found in enumerate(answer.found):
            left = MARGIN + ASKED + rank * CELL + (CELL - SIDE) // 2
            with Image.open(found.path) as picture:
                sheet.paste(picture.convert("RGB").resize((SIDE, SIDE)), (left, top + 8))
            if answer.question.wanted and found.name == answer.question.wanted:
                pen.rounded_rectangle(
                    (left - 3, top + 5, left + SIDE + 2, top + 8 + SIDE + 2), 8, outline=RIGHT, width=3
                )
            middle = left + SIDE // 2
            score = f"{found.score:.3f}"
            pen.text((middle, top + 108), score, font=letters.font(12), fill=SOFT, anchor="ma")
            for line, words in enumerate(letters.wrap(found.name, 11, CELL - 12, 2)):
                pen.text((middle, top + 124 + 13 * line), words, font=letters.font(11), fill=INK, anchor="ma")
    return sheet


def _draw_question(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, answer: Answer, corner: tuple[int, int], letters: Letters
) -> None:
    question, (left, top) = answer.question, corner
    colour = KIND_COLOURS[question.kind]
    small = letters.font(12)
    pen.rounded_rectangle((left, top, left + small.getlength(question.kind) + 18, top + 21), 10, fill=colour)
    pen.text((left + 9, top + 10), question.kind, font=small, fill="white", anchor="lm")
    label = question.label if letters.can_draw(question.label) or not question.plain else question.plain
    room = ASKED - 40 - (SIDE if question.picture else 0)
    for line, words in enumerate(letters.wrap(label, 18, room, 2)):
        pen.text((left, top + 30 + 22 * line), words, font=letters.font(18), fill=INK)
    times = f"{answer.encode_ms:.1f} ms encoding, {answer.search_ms:.2f} ms searching"
    pen.text((left, top + ROW - 42), times, font=small, fill=SOFT)
    if question.audio is not None:
        middle, step = top + 102, (ASKED - 48) / 96
        for bar, peak in enumerate(envelope(question.audio, 96)):
            x, reach = left + bar * step, 1 + 14 * peak
            pen.line((x, middle - reach, x, middle + reach), fill=colour, width=2)
    if question.picture is not None:
        sheet.paste(question.picture.resize((SIDE, SIDE)), (left + ASKED - 40 - SIDE, top + 4))
