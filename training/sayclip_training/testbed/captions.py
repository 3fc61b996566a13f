"""``captions.tsv``: which caption belongs to which picture, and to which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sayclip_training.demo_data.names import Emoji
from sayclip_training.testbed import splits
from sayclip_training.testbed.scenes import Scene

HEADER = ("file", "caption", "kind", "split")
SCENES = "scenes"  # folder
NAME, KEYWORD, SCENE = KINDS = ("name", "keyword", "scene")


@dataclass(frozen=True)
class Caption:
    """One row: ``file`` is relative to the test bed's folder."""

    file: str
    text: str
    kind: str
    split: str


def picture_file(emoji: Emoji) -> str:
    return f"pictures/{emoji.stem}.webp"


def scene_file(number: int) -> str:
    return f"{SCENES}/{number:04d}.webp"


def captions(emoji: Sequence[Emoji], nouns: Mapping[str, int], scenes: Sequence[Scene], seed: int) -> list[Caption]:
    """Names, then keywords, then scenes; a keyword that is the picture's name is no second row."""
    of_pictures = [
        (picture_file(item), text, kind)
        for kind in (NAME, KEYWORD)
        for item in emoji
        for text in ([item.name] if kind == NAME else item.keywords)
        if kind == NAME or text.casefold() != item.name.casefold()
    ]
    held_out = splits.held_out_words([text for _, text, _ in of_pictures], nouns, seed)
    # A scene kept out for its combination is made of trained words only if its nouns are trained by themselves.
    needed = {emoji[number].name.casefold() for number in nouns.values()} | {noun.casefold() for noun in nouns}
    rows = [
        Caption(file, text, kind, splits.split_of(text, held_out, seed, always=text.casefold() in needed))
        for file, text, kind in of_pictures
    ]
    rows += [
        Caption(scene_file(number), scene.caption, SCENE, splits.split_of(scene.caption, held_out, seed, scene.bonds))
        for number, scene in enumerate(scenes)
    ]
    return rows


def table(rows: Sequence[Caption]) -> str:
    """The rows as they stand in the file."""
    lines = ["\t".join(HEADER)] + ["\t".join((row.file, row.text, row.kind, row.split)) for row in rows]
    return "\n".join(lines) + "\n"
