"""Large JPEGs, decoded at a part of their size: what changes is less than a step of 8 bits, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import sayclip
from sayclip.bundle.find import demo_folder
from sayclip.errors import PictureError
from sayclip.inputs import PictureSettings, read_picture
from sayclip.inputs.files import checked_file
from sayclip.inputs.picture_files import decode

RAW = PictureSettings(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COARSE = PictureSettings(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """What photographs have: energy that falls with frequency as 1 / f (Field 1987), sharp edges, colours, grain."""
    random = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(width), np.fft.fftfreq(height)
    frequency = np.maximum(np.hypot(down[:, None], across), 1 / max(width, height))
    layers = []
    for _ in range(3):
        noise = np.fft.rfft2(random.standard_normal((height, width))) / frequency
        layer = np.fft.irfft2(noise, (height, width))
        layers.append(layer / layer.std())
    shared, *own = layers
    pixels = np.stack([shared, shared + 0.3 * own[0], shared + 0.3 * own[1]], axis=2) * 40 + 120
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    for _ in range(12):
        angle, place = random.uniform(0, np.pi), random.uniform(0.2, 0.8)
        side = (x - place * width) * np.cos(angle) + (y - place * height) * np.sin(angle) > 0
        near = np.hypot(x - random.uniform(0, width), y - random.uniform(0, height)) < random.uniform(0.1, 0.4) * height
        pixels[side & near] += random.uniform(-60, 60, 3)
    pixels += random.normal(0, 3, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def whole(path: Path, wanted: PictureSettings = RAW) -> np.ndarray:
    """From all pixels: Pillow images are never decoded again."""
    with Image.open(path) as image:
        return read_picture(image, wanted)


def shrink(path: Path, least: float) -> int:
    return decode(checked_file(path, PictureError, "picture"), least).shrink


def steps(path: Path, wanted: PictureSettings = RAW) -> tuple[float, float]:
    """Mean and largest difference to the whole picture, in steps of 8 bits."""
    difference = np.abs(read_picture(path, wanted) - whole(path, wanted)) * 255
    return float(difference.mean()), float(difference.max())


@pytest.mark.parametrize(("width", "height"), [(512, 384), (640, 427), (300, 601), (1024, 771)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [60, 92])
def test_photographs_change_by_less_than_a_step(
    width: int, height: int, subsampling: int, quality: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    image = photograph(width, height, seed=width + quality)
    image.save(path, quality=quality, subsampling=subsampling, progressive=quality < 90)
    assert shrink(path, 64) > 1
    mean, _ = steps(path)
    assert 0 < mean <= 1.0


def test_grey_photographs_too(tmp_path: Path) -> None:
    photograph(640, 427).convert("L").save(tmp_path / "a.jpg", quality=90)
    assert shrink(tmp_path / "a.jpg", 64) > 1
    assert 0 < steps(tmp_path / "a.jpg")[0] <= 1.0


def test_embeddings_stay(tmp_path: Path) -> None:
    demo = demo_folder()
    if demo is None:
        pytest.skip("the demo is not installed")
    with sayclip.load(demo / "bundle", backend="onnxruntime", precision="fp32") as encoder:
        size = encoder.manifest.entry("image").to_dict()["preprocessing"]["size"]
        for seed in range(4):
            path = tmp_path / f"{seed}.jpg"
            photograph(14 * size, 11 * size, seed).save(path, quality=90)
            assert shrink(path, 2 * size) == 4
            with Image.open(path) as image:
                one, two = encoder.image([path, image])
            assert one @ two >= 0.999


@pytest.mark.parametrize(
    ("short", "least", "factor"),
    [(800, 100, 8), (799, 100, 4), (400, 100, 4), (399, 100, 2), (200, 100, 2), (199, 100, 1), (90, 100, 1)],
)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("tall", [False, True])
def test_enough_pixels_are_left(
    short: int, least: int, factor: int, tall: bool, subsampling: str, tmp_path: Path
) -> None:
    if subsampling == "4:2:2":  # its colours are short of columns already
        factor = max(1, factor // 2)
    size = (short, short + 33) if tall else (short + 33, short)
    Image.new("RGB", size, "teal").save(tmp_path / "a.jpg", subsampling=subsampling)
    decoded = decode(checked_file(tmp_path / "a.jpg", PictureError, "picture"), least)
    assert (decoded.shrink, decoded.size) == (factor, size)
    assert decoded.image.size == tuple(-(-side // factor) for side in size)
    assert shrink(tmp_path / "a.jpg", float("inf")) == 1


@given(
    st.integers(129, 160),
    st.integers(129, 300),
    st.integers(1, 8),
    st.sampled_from(["shortest", "squash"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_shifted(
    tmp_path_factory: pytest.TempPathFactory, short: int, long: int, turn: int, resize: str, tall: bool
) -> None:
    """On slopes of up to 32 steps a pixel, however the camera was held, and where an eighth of the size is no whole
    number."""
    width, height = (short, long) if tall else (long, short)
    x, y = np.linspace(0, 255, width), np.linspace(0, 255, height)
    slopes = np.stack(np.broadcast_arrays(x, y[:, None], (x + y[:, None]) / 2), axis=2)
    path = tmp_path_factory.getbasetemp() / "slopes.jpg"
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(slopes.round().astype(np.uint8)).save(path, quality=98, subsampling=0, exif=exif)
    wanted = PictureSettings(8, COARSE.mean, COARSE.std, "bicubic", resize)
    assert shrink(path, 16) == 8
    mean, most = steps(path, wanted)
    assert mean <= 1.0
    assert most <= 4.0
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == turn
        upright = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(whole(path, wanted), read_picture(np.asarray(upright), wanted))


@pytest.mark.parametrize("resample", ["bilinear", "hamming", "bicubic", "lanczos"])
def test_other_filters(resample: str, tmp_path: Path) -> None:
    photograph(640, 480).save(tmp_path / "a.jpg", quality=90)
    wanted = PictureSettings(32, RAW.mean, RAW.std, resample)
    assert 0 < steps(tmp_path / "a.jpg", wanted)[0] <= 1.0


def test_what_is_not_shrunk(tmp_path: Path) -> None:
    image = photograph(640, 480)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.jpg", quality=90)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=90)
    image.resize((126, 100)).save(tmp_path / "small.jpg")
    nearest, box = (PictureSettings(32, RAW.mean, RAW.std, resample) for resample in ("nearest", "box"))
    for name, wanted in (("a.png", RAW), ("cmyk.jpg", RAW), ("small.jpg", RAW), ("a.jpg", nearest), ("a.jpg", box)):
        np.testing.assert_array_equal(read_picture(tmp_path / name, wanted), whole(tmp_path / name, wanted))
    with Image.open(tmp_path / "a.jpg") as opened:
        pixels = np.asarray(opened)
        np.testing.assert_array_equal(read_picture(pixels, RAW), read_picture(opened, RAW))
        assert opened.size == (640, 480)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("progressive", [False, True])
def test_damage_is_told_in_the_same_words(part: float, progressive: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photograph(640, 480).save(path, quality=90, progressive=progressive)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    told = []
    for least in (float("inf"), 50):
        with pytest.raises(PictureError) as caught:
            decode(checked_file(path, PictureError, "picture"), least)
        told.append(str(caught.value))
    assert told[0] == told[1]
    with pytest.raises(PictureError, match=r"a\.jpg is damaged or cut short"):
        read_picture(path, RAW)


def test_memory_is_that_of_the_smaller_picture(tmp_path: Path) -> None:
    photograph(1200, 900).save(tmp_path / "a.jpg", quality=85)
    decoded = decode(checked_file(tmp_path / "a.jpg", PictureError, "picture"), 2 * RAW.size)
    assert decoded.image.size == (150, 113)
    assert len(decoded.image.tobytes()) == 150 * 113 * 3
