"""Pictures that are seen once, and those that cannot be seen: named, and kept as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sayclip.errors import PictureError
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip_training.heads.pictures import look

SMALL = PictureSettings(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Eye:
    """Sees a picture as its mean colour, and counts; ``refuses`` a name that can be read."""

    def __init__(self, refuses: str = "") -> None:
        self.seen: list[str] = []
        self.refuses = refuses

    def __call__(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        pixels = [read_picture(path, SMALL).mean((1, 2)) for path in paths]
        if any(path.name == self.refuses for path in paths):
            raise PictureError(f"{self.refuses} is not wanted", "leave it out")
        self.seen += [path.name for path in paths]
        return np.stack(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.new("RGB", (8, 8), (40 * number, 200, 90)).save(tmp_path / name)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    return tmp_path


def test_damaged_pictures_are_named_and_nothing_is_seen_twice(folder: Path) -> None:
    names, eye = ["a.png", "cut.png", "b.png", "text.png", "empty.png", "c.png"], Eye()
    first = look(folder, names, 3, "eye", eye, folder / "kept")
    assert first.names == ["a.png", "b.png", "c.png"]
    assert list(first.broken) == ["cut.png", "text.png", "empty.png"]
    assert all(name in why for name, why in first.broken.items())
    wanted = np.stack([read_picture(folder / name, SMALL).mean((1, 2)) for name in first.names])
    np.testing.assert_allclose(first.embeddings, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert eye.seen == first.names
    again = look(folder, names, 3, "eye", eye, folder / "kept")
    assert (again.names, again.broken, eye.seen) == (first.names, first.broken, first.names)
    assert (again.embeddings == first.embeddings).all()


def test_a_picture_that_is_mended_is_seen(folder: Path) -> None:
    eye = Eye()
    assert look(folder, ["a.png", "cut.png"], 3, "eye", eye, folder / "kept").names == ["a.png"]
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes())
    mended = look(folder, ["a.png", "cut.png"], 3, "eye", eye, folder / "kept")
    assert (mended.names, mended.broken) == (["a.png", "cut.png"], {})


def test_none_that_can_be_seen_and_none_at_all(folder: Path) -> None:
    eye = Eye()
    nothing = look(folder, ["cut.png", "text.png"], 3, "eye", eye, folder / "kept")
    assert (nothing.names, nothing.embeddings.shape, list(nothing.broken)) == ([], (0, 3), ["cut.png", "text.png"])
    assert look(folder, [], 3, "eye", eye, folder / "kept").names == []
    assert eye.seen == []


def test_what_an_encoder_refuses_though_it_can_be_read_is_an_error(folder: Path) -> None:
    with pytest.raises(PictureError, match=r"b\.png is not wanted"):
        look(folder, ["a.png", "b.png"], 3, "eye", Eye("b.png"), folder / "kept")
