"""What the demo asks: recorded speech, typed words, IPA, a picture, and speech fused with text."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageFilter

TYPED = ("fruit", "angry")
IPA = "ɹɛd æpəl"
IPA_IN_WORDS = "“red apple” in IPA"
SEEN_AGAIN = "rocket"
FUSED_TEXT = "angry"


@dataclass(frozen=True)
class Caption:
    """One row of ``captions.tsv``: a file beside it, the picture's name, and its keywords."""

    file: str
    name: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One query. ``ask`` are the arguments of ``Library.search``; ``wanted`` is the name of the right picture, or "".

    ``plain`` says the same as ``label`` in letters that every font has.
    """

    kind: str
    label: str
    ask: dict[str, Any]
    wanted: str = ""
    plain: str = ""
    audio: Path | None = None
    picture: Image.Image | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Found:
    """One hit as it is shown: cosine score, the picture's name and its file."""

    score: float
    name: str
    path: Path


@dataclass(frozen=True)
class Answer:
    """A question, its hits (best first), and the milliseconds spent in encoding it and in searching."""

    question: Question
    found: list[Found]
    encode_ms: float
    search_ms: float

    @property
    def right(self) -> bool:
        """Whether the first hit is the picture that was asked for; False where no single picture is right."""
        return bool(self.found) and self.found[0].name == self.question.wanted


def read_captions(pictures: Path) -> list[Caption]:
    """The rows of ``captions.tsv`` (tab-separated, with a header) in their order."""
    with (pictures / "captions.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Caption(r["file"], r["name"], tuple(filter(None, r["keywords"].split("|")))) for r in rows]


def read_recordings(queries: Path) -> list[tuple[Path, str]]:
    """The rows of ``queries.tsv`` (tab-separated, first line ``file said``): recording and the words said in it."""
    with (queries / "queries.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(queries / row[0], row[1]) for row in rows if row and row[0] != "file"]


def degrade(picture: Image.Image) -> Image.Image:
    """The same picture as a camera might see it again: under orange light, turned by 12 degrees, out of focus."""
    light = (255, 196, 120)
    lit = ImageChops.multiply(picture.convert("RGB"), Image.new("RGB", picture.size, light))
    turned = lit.rotate(12, resample=Image.Resampling.BICUBIC, fillcolor=light)
    return turned.filter(ImageFilter.GaussianBlur(1.2))


def questions(captions: list[Caption], pictures: Path, recordings: list[tuple[Path, str]]) -> list[Question]:
    """Everything the demo asks, in the order of the contact sheet."""
    names = {caption.name: caption.file for caption in captions}
    asked = [
        Question("spoken", f"“{said}”", {"speech": path}, wanted=said if said in names else "", audio=path)
        for path, said in recordings
    ]
    asked += [Question("typed", word, {"text": word}) for word in TYPED]
    asked.append(Question("IPA", IPA, {"ipa": IPA}, wanted="red apple", plain=IPA_IN_WORDS))
    with Image.open(pictures / names[SEEN_AGAIN]) as picture:
        seen = degrade(picture)
    label = f"{SEEN_AGAIN}, turned and out of focus"
    asked.append(Question("picture", label, {"image": seen}, wanted=SEEN_AGAIN, picture=seen))
    path, said = recordings[0]
    ask = {"speech": path, "text": FUSED_TEXT, "weights": {"speech": 0.5, "text": 0.5}}
    asked.append(Question("fused", f"“{said}” + {FUSED_TEXT}", ask, audio=path))
    return asked
