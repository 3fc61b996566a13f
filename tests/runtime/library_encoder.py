"""A little encoder for the library's tests: real arithmetic, no graphs, a millisecond to make."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import PictureError
from sayclip.inputs.pictures import PictureSettings, read_picture

SIDE = 8
SETTINGS = PictureSettings(SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def numbered(number: int) -> NDArray[np.uint8]:
    """A picture of its own for each number, uint8 `[8, 8, 3]`.

    Without numpy's generators: they are Cython, which lets an interrupt that comes inside them vanish.
    """
    digest = hashlib.sha256(str(number).encode()).digest()
    return np.frombuffer(digest * 6, np.uint8).reshape(SIDE, SIDE, 3)


class ProjectionEncoder:
    """Pictures by a random projection of their pixels, texts and phonemes by that of their letters, speech by that
    of its spectrum; `encoded` counts the pictures that went through."""

    def __init__(
        self,
        width: int = 16,
        space: str = "projection-1",
        names: Sequence[str] = ("image", "text", "pronunciation", "speech"),
    ) -> None:
        self.width = width
        self.space = space
        self.names = tuple(names)
        self.encoded = 0
        rng = np.random.default_rng(width)
        self._pixels = rng.normal(size=(3 * SIDE * SIDE, width))
        self._letters = rng.normal(size=(256, width))
        self._spectrum = rng.normal(size=(33, width))

    def image(self, pictures: Any) -> NDArray[np.float32]:
        sources = pictures if isinstance(pictures, (list, tuple)) else [pictures]
        return self.image_prepared(np.stack([self.prepare_image(source) for source in sources]))

    def prepare_image(self, source: Any) -> NDArray[np.float32]:
        return read_picture(source, SETTINGS)

    def image_prepared(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.encoded += len(batch)
        return unit(batch.reshape(len(batch), -1) @ self._pixels)

    def text(self, texts: Any) -> NDArray[np.float32]:
        rows = [[self._letters[byte] for byte in text.encode()] for text in listed(texts)]
        return unit(np.stack([np.mean(row, axis=0) for row in rows]))

    def pronunciation(
        self, ipa: Any = None, *, words: Any = None, language: str | None = None, nearest: bool = False
    ) -> NDArray[np.float32]:
        return self.text(ipa if words is None else [f"/{language or ''}{word}/" for word in listed(words)])

    def speech(self, waves: Any, *, sample_rate: int | None = None) -> NDArray[np.float32]:
        rows = []
        for wave in listed(waves):
            samples = np.asarray(wave, np.float64).ravel()[: (sample_rate or 64)]
            rows.append(np.abs(np.fft.rfft(samples, 64)) @ self._spectrum)
        return unit(np.stack(rows))

    def graph_sha256(self, name: str) -> str:
        return hashlib.sha256(f"{self.space} {name}".encode()).hexdigest()


class VectorEncoder(ProjectionEncoder):
    """Arrays are embedded as what they hold, so that a test can put any vectors into a library."""

    def prepare_image(self, source: Any) -> NDArray[np.float32]:
        if isinstance(source, (str, os.PathLike)):
            raise PictureError("this encoder takes arrays only", "give an array")
        return np.asarray(source, np.float32)

    def image_prepared(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.encoded += len(batch)
        return batch.reshape(len(batch), -1)


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
