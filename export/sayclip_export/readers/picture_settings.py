"""What a Hugging Face image processor does to a picture, as the bundle's preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import PicturePreprocessing
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.settings import Settings, read_json

FILES = ("processor_config.json", "preprocessor_config.json")  # the newer one wins where it holds the values
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own
STD = (0.26862954, 0.26130258, 0.27577711)
# Pillow's numbers of its filters.
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_REMEDY = "name a model that sees square pictures, resized, cropped, scaled to [0, 1] and normalised, as CLIP does"


@dataclass(frozen=True)
class Processor:
    """A class of the library's image processors: its names and defaults; ``resize``: what a plain ``size`` means."""

    kinds: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int
    resize: str


_HALF = (0.5, 0.5, 0.5)
CLIP = Processor(
    ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"),
    *(MEAN, STD, 3, "shortest"),
)
VIT = Processor(
    ("ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor"),
    *(_HALF, _HALF, 2, "squash"),
)


def picture_settings(folder: Path, image_size: int, like: Processor = CLIP) -> tuple[PicturePreprocessing, str]:
    """The preprocessing of the model in ``folder``, which sees ``image_size`` pixels, and the name of its file.

    ``like``: the class that reads it. Raises CheckpointError for what the runtime does not do. One difference remains:
    of sides that do not halve evenly the runtime crops as OpenAI's CLIP does, one pixel beside the library's crop.
    """
    settings, name = _find(folder)
    kind = settings.data.get("image_processor_type") or settings.data.get("feature_extractor_type") or like.kinds[0]
    if kind not in like.kinds:
        known = ", ".join(like.kinds)
        raise refuse(f"{settings.where}: the image processor is {kind!r}, wanted one of {known}", _REMEDY)
    for key, wanted in (("do_resize", True), ("do_rescale", True), ("do_pad", False)):
        if settings.flag(key, wanted) is not wanted:
            raise settings.wrong(key, str(wanted).lower())
    if abs(settings.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise settings.wrong("rescale_factor", "1/255")
    size, resize = _size(settings, like)
    if settings.flag("do_center_crop", like.resize == "shortest"):
        crop = settings.data.get("crop_size")
        if _square(settings, "crop_size", 224 if crop is None else crop) != size:
            raise settings.wrong("crop_size", f"that of size, {size} pixels")
    elif resize == "shortest":
        raise settings.wrong("do_center_crop", "true where size is the shortest edge")
    if size != image_size:
        raise settings.wrong("size", f"the image_size of the model, {image_size} pixels")
    mean, std = settings.triple("image_mean", like.mean), settings.triple("image_std", like.std)
    if min(std) <= 0:
        raise settings.wrong("image_std", "three numbers above 0")
    if not settings.flag("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    number = settings.data.get("resample")
    number = like.resample if number is None else number
    resample = RESAMPLE.get(number) if type(number) is int else None
    if resample is None:
        raise settings.wrong("resample", f"a number from 0 to {max(RESAMPLE)}")
    return PicturePreprocessing(size, mean, std, resample, resize), name


def _find(folder: Path) -> tuple[Settings, str]:
    """The image processor's values: nested in a processor's file, or a file of their own."""
    newer, older = (folder / name for name in FILES)
    if newer.is_file():
        nested = Settings(read_json(newer), str(newer)).section("image_processor")
        if nested is not None:
            return nested, newer.name
    if older.is_file():
        return Settings(read_json(older), str(older)), older.name
    raise refuse(f"{folder} holds neither {older.name} nor a {newer.name} with image_processor, wanted one of them")


def _size(settings: Settings, like: Processor) -> tuple[int, str]:
    """Pixels, and how they are reached."""
    value = settings.data.get("size")
    if isinstance(value, dict) and "shortest_edge" not in value:
        return _square(settings, "size", value), "squash"
    resize = like.resize
    if isinstance(value, dict):
        if value.get("longest_edge") is not None:
            raise settings.wrong("size", "a shortest_edge alone")
        value, resize = value["shortest_edge"], "shortest"
    return _square(settings, "size", 224 if value is None else value), resize


def _square(settings: Settings, key: str, value: Any) -> int:
    if isinstance(value, dict):
        value = value.get("height") if value.get("height") == value.get("width") else None
    if type(value) is not int or not 1 <= value <= 4096:
        raise settings.wrong(key, "whole pixels, the same for height and width")
    return value
