"""Fixtures of the runtime's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from library_encoder import ProjectionEncoder, VectorEncoder

# Helpers beside the tests; pytest's importlib mode leaves the path alone.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def encoder() -> ProjectionEncoder:
    from library_encoder import ProjectionEncoder

    return ProjectionEncoder()


@pytest.fixture
def vector_encoder() -> VectorEncoder:
    from library_encoder import VectorEncoder

    return VectorEncoder()


@pytest.fixture
def picture() -> Callable[[int], np.ndarray]:
    """`picture(seed)`: a uint8 picture [12, 10, 3], different for every seed."""

    def make(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)

    return make


@pytest.fixture
def picture_folder(tmp_path: Path, picture: Callable[[int], np.ndarray]) -> Callable[..., Path]:
    """`picture_folder(count)`: a folder with pictures 000.png, 001.png and so on, old enough to be trusted."""

    def make(count: int, name: str = "pictures") -> Path:
        import os

        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            path = folder / f"{number:03}.png"
            Image.fromarray(picture(number)).save(path)
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        return folder

    return make
