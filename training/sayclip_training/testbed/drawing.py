"""Scenes as pictures: things cut out of Noto Color Emoji, tinted, sized and placed as the caption says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sayclip_training.demo_data.names import Emoji
from sayclip_training.testbed.scenes import Scene, Thing

SIDE = 224
_CELL = 136
_ALONE, _BOTH = 150, 96  # pixels across, of one thing and of two
_SIZES = {"small": 0.6, "big": 1.15}
_SHAKE = 8  # pixels

# Dark, middle and light shade of every colour: a tinted thing keeps its light and dark.
TINTS = {
    "red": ("#4a0000", "#dd1c1a", "#ffd0cc"),
    "orange": ("#5a2500", "#f58a07", "#ffe6c4"),
    "yellow": ("#5c4b00", "#f2d30b", "#fffbd0"),
    "green": ("#00330d", "#23a03a", "#d2f5d6"),
    "blue": ("#000f4d", "#1f52d6", "#cfe0ff"),
    "purple": ("#26003d", "#8a2bb8", "#ecd2fa"),
    "pink": ("#5e0a33", "#f769ac", "#ffe0ef"),
    "brown": ("#1e0f04", "#80491c", "#dcbd9f"),
    "black": ("#000000", "#202020", "#6a6a6a"),
    "grey": ("#303030", "#8c8c8c", "#e0e0e0"),
}

# Centres of the first and the second thing, in shares of the side.
_PLACES = {
    "above": ((0.5, 0.27), (0.5, 0.74)),
    "below": ((0.5, 0.74), (0.5, 0.27)),
    "left of": ((0.26, 0.5), (0.74, 0.5)),
    "right of": ((0.74, 0.5), (0.26, 0.5)),
    "behind": ((0.42, 0.40), (0.57, 0.62)),
}
_ASIDE = ("left of", "right of")  # where "beside" and "and" do not say which


def cut_out(emoji: Emoji, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The picture as the font has it, RGBA, 136 x 136, on nothing."""
    cell = Image.new("RGBA", (_CELL, _CELL), (255, 255, 255, 0))
    ImageDraw.Draw(cell).text((0, 4), emoji.text, font=font, embedded_color=True)
    return cell


def tinted(picture: Image.Image, colour: str) -> Image.Image:
    """``picture`` in the shades of ``colour``, of which the middle one falls on its middling grey."""
    dark, middle, light = TINTS[colour]
    solid = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
    grey = ImageOps.autocontrast(picture.convert("L"), mask=solid)
    mean = float(np.asarray(grey, np.float64)[np.asarray(solid) > 0].mean()) / 255
    power = np.log(0.5) / np.log(min(max(mean, 0.05), 0.95))
    even = grey.point([round(255 * (value / 255) ** power) for value in range(256)])
    shades = ImageOps.colorize(even, dark, light, middle)
    shades.putalpha(picture.getchannel("A"))
    return shades


def draw_scene(
    scene: Scene,
    nouns: Mapping[str, int],
    emoji: Sequence[Emoji],
    font: ImageFont.FreeTypeFont,
    seed: Sequence[int],
) -> Image.Image:
    """RGB, 224 x 224, on white; ``seed`` shakes the places and chooses the sides where the caption does not."""
    rng = np.random.default_rng(seed)
    relation = scene.relation if scene.relation in _PLACES else str(rng.choice(_ASIDE))
    alone = len(scene.things) == 1
    places = [(0.5, 0.5)] if alone else list(_PLACES[relation])
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    for thing, (across, down) in zip(scene.things, places, strict=True):
        picture = _drawn(thing, emoji[nouns[thing.noun]], font, _ALONE if alone else _BOTH)
        shake = rng.integers(-_SHAKE, _SHAKE + 1, 2)
        corner = [
            round(share * SIDE) - size // 2 + int(by)
            for share, size, by in zip((across, down), picture.size, shake, strict=True)
        ]
        canvas.paste(picture, (corner[0], corner[1]), picture)  # "behind": the second one is pasted over the first
    return canvas


def _drawn(thing: Thing, emoji: Emoji, font: ImageFont.FreeTypeFont, across: int) -> Image.Image:
    picture = cut_out(emoji, font)
    if thing.adjective in TINTS:
        picture = tinted(picture, thing.adjective)
    size = round(across * _SIZES.get(thing.adjective, 1.0))
    return picture.resize((size, size), Image.Resampling.LANCZOS)
