"""What an image encoder wants to see."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sayclip.errors import PictureError

_RESAMPLE = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_RESIZE = ("shortest", "squash")
_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class PictureSettings:
    """What an encoder wants to see.

    size: side of the square input, in pixels. mean, std: per channel (R, G, B), for pixels in [0, 1]. resample: one
    of Pillow's filters by name. resize: ``"shortest"`` (shorter side to ``size``, then the centre) or ``"squash"``
    (both sides to ``size``).

    Raises PictureError for values that make no sense.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: str = "bicubic"
    resize: str = "shortest"

    def __post_init__(self) -> None:
        # A manifest gives lists; tuples can be hashed.
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not isinstance(self.size, int) or not 1 <= self.size <= _LARGEST_SIDE:
            raise PictureError(f"picture size is {self.size!r}", f"give whole pixels from 1 to {_LARGEST_SIDE}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise PictureError(f"picture {name} is {values}", "give three finite numbers, for R, G and B")
        if min(self.std) <= 0:
            raise PictureError(f"picture std is {self.std}", "give three numbers above 0")
        if self.resample not in _RESAMPLE:
            raise PictureError(f"picture resample is {self.resample!r}", f"give one of {', '.join(_RESAMPLE)}")
        if self.resize not in _RESIZE:
            raise PictureError(f"picture resize is {self.resize!r}", f"give one of {', '.join(_RESIZE)}")
