"""Pictures: every mode and format, the geometry against a plain reference, and every way a picture can be wrong."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sayclip.errors import PictureError
from sayclip.inputs import PictureSettings, read_picture
from sayclip.inputs.files import checked_file
from sayclip.inputs.picture_files import decode

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = PictureSettings(224, MEAN, STD)
SMALL = PictureSettings(32, MEAN, STD)
RAW = PictureSettings(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SMOOTH = ("bilinear", "hamming", "bicubic", "lanczos")
RESAMPLE = ("nearest", "box", *SMOOTH)


def scene(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture with some noise, uint8 [height, width, channels]."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, channels), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + random.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def reference(image: Image.Image, wanted: PictureSettings) -> np.ndarray:
    """OpenAI's pipeline for an upright RGB picture, written down plainly."""
    filter_ = Image.Resampling[wanted.resample.upper()]
    size = wanted.size
    if wanted.resize == "squash":
        image = image.resize((size, size), filter_)
    else:
        width, height = image.size
        new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
        image = image.resize(new, filter_)
        left, top = int(round((new[0] - size) / 2.0)), int(round((new[1] - size) / 2.0))  # noqa: RUF046
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image).astype(np.float32) / np.float32(255)
    pixels = (pixels - np.float32(wanted.mean)) / np.float32(wanted.std)
    return pixels.transpose(2, 0, 1)


def on_white(rgba: np.ndarray) -> Image.Image:
    alpha = rgba[:, :, 3:].astype(np.float64) / 255
    return Image.fromarray(np.floor(rgba[:, :, :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8))


def steps(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two results of ``RAW``, in steps of 8 bits."""
    return float(np.abs(a - b).max() * 255)


def refused(source: object, words: str, wanted: PictureSettings = SMALL, **options: Any) -> str:
    """The one-line message of the refusal, which must hold every one of ``words`` (separated by ``|``)."""
    with pytest.raises(PictureError) as caught:
        read_picture(source, wanted, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    for word in words.split("|"):
        assert word in message, message
    return message


# Geometry and arithmetic


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 64),
    st.sampled_from(RESAMPLE),
    st.sampled_from(["shortest", "squash"]),
)
@settings(max_examples=150, deadline=None)
def test_equals_the_reference(width: int, height: int, size: int, resample: str, resize: str) -> None:
    wanted = PictureSettings(size, MEAN, STD, resample, resize)
    image = Image.fromarray(scene(width, height))
    got, expected = read_picture(image, wanted), reference(image, wanted)
    assert got.shape == (3, size, size)
    assert got.dtype == np.float32
    short = min(width, height)
    if max(width, height) <= 16 * short or short >= size or resize == "squash":
        np.testing.assert_array_equal(got, expected)
    elif resample in SMOOTH:
        assert np.abs((got - expected) * np.float32(STD)[:, None, None]).max() * 255 <= 2.001


@pytest.mark.parametrize(
    ("width", "height"), [(640, 427), (427, 640), (481, 321), (227, 224), (224, 225), (500, 375), (224, 224), (60, 40)]
)
def test_equals_the_reference_at_common_sizes(width: int, height: int) -> None:
    image = Image.fromarray(scene(width, height))
    np.testing.assert_array_equal(read_picture(image, CLIP), reference(image, CLIP))


@pytest.mark.parametrize(("excess", "offset"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (9, 4)])
def test_crop_offset_is_rounded_half_to_even(excess: int, offset: int) -> None:
    columns = np.arange(32 + excess, dtype=np.uint8)
    wide = np.repeat(columns[None], 32, axis=0)
    np.testing.assert_allclose(read_picture(wide, RAW)[0, 0] * 255, np.arange(offset, offset + 32), atol=1e-4)
    np.testing.assert_allclose(read_picture(wide.T, RAW)[0, :, 0] * 255, np.arange(offset, offset + 32), atol=1e-4)


@given(st.integers(17, 300), st.integers(1, 12), st.booleans(), st.sampled_from(SMOOTH), st.integers(4, 40))
@settings(max_examples=80, deadline=None)
def test_enlarged_strips_equal_resize_then_crop(ratio: int, short: int, tall: bool, resample: str, size: int) -> None:
    wanted = PictureSettings(max(size, short + 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resample)
    long = ratio * short + ratio % short
    # Black and white: a bicubic filter's swings are cut off between its two passes, so their order shows.
    pixels = np.random.default_rng(ratio).integers(0, 2, (short, long, 3), dtype=np.uint8) * 255
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 0, 2)) if tall else pixels)
    assert steps(read_picture(image, wanted), reference(image, wanted)) <= 2.001


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_extreme_strips_stay_small() -> None:
    # Resized whole, 1 x 10000 would take 2 GB. The middle is white: that is what must be seen.
    code = """
import resource
import numpy as np
from sayclip.inputs import PictureSettings, read_picture
from sayclip.inputs.files import checked_file
from sayclip.inputs.picture_files import decode
settings = PictureSettings(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
read_picture(np.zeros((9, 9), np.uint8), settings)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
squash = PictureSettings(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize="squash")
for long in (10_000, 1_000_001):
    for short in (1, 3):
        strip = np.zeros((short, long), np.uint8)
        strip[:, long // 2 - 2 * short : long // 2 + 2 * short + 1] = 255
        for picture in (strip, strip.T):
            assert read_picture(picture, settings).min() > 0.9
            assert read_picture(picture, squash).max() < 0.9
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, "MiB"


def test_squash_shows_the_whole_picture() -> None:
    pixels = np.zeros((64, 256, 3), np.uint8)
    pixels[:, 128:] = 255
    squashed = read_picture(pixels, PictureSettings(32, (0.0,) * 3, (1.0,) * 3, resize="squash"))  # type: ignore[arg-type]
    assert squashed[:, :, :14].max() == 0
    assert squashed[:, :, 18:].min() == 1


def test_out_is_written_and_returned() -> None:
    image = Image.fromarray(scene(50, 40))
    batch = np.full((3, 3, 32, 32), np.nan, np.float32)
    returned = read_picture(image, SMALL, batch[1])
    assert np.shares_memory(returned, batch)
    np.testing.assert_array_equal(batch[1], read_picture(image, SMALL))
    assert np.isnan(batch[[0, 2]]).all()
    # Any strides do, such as a view of channels last.
    last = np.empty((32, 32, 3), np.float32)
    read_picture(image, SMALL, last.transpose(2, 0, 1))
    np.testing.assert_array_equal(last.transpose(2, 0, 1), batch[1])


def test_out_is_untouched_by_a_refusal(tmp_path: Path) -> None:
    out = np.full((3, 32, 32), 7, np.float32)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    refused(tmp_path / "a.png", "a.png", out=out)
    refused(tmp_path / "no.png", "no.png", out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty((3, 33, 32), np.float32), "float32 [3, 33, 32]|[3, 32, 32]"),
        (np.empty((32, 32, 3), np.float32), "[32, 32, 3]"),
        (np.empty((3, 32, 32), np.float64), "float64"),
        (np.broadcast_to(np.float32(0), (3, 32, 32)), "read-only"),
    ],
)
def test_out_of_another_kind(out: np.ndarray, words: str) -> None:
    refused(Image.new("RGB", (9, 9)), f"out is|writeable float32|{words}", out=out)


# Modes


def in_mode(mode: str) -> Image.Image:
    source = Image.fromarray(scene(60, 45))
    return source.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else source.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes_are_seen_as_rgb(mode: str) -> None:
    image = in_mode(mode)
    before = image.tobytes()
    np.testing.assert_array_equal(read_picture(image, SMALL), reference(image.convert("RGB"), SMALL))
    assert image.mode == mode
    assert image.tobytes() == before


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "a.png"),
        ("1", "a.tif"),
        ("L", "a.jpg"),
        ("P", "a.png"),
        ("P", "a.gif"),
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tif"),
        ("YCbCr", "a.jpg"),
        ("LAB", "a.tif"),
    ],
)
def test_files_of_opaque_modes(mode: str, name: str, tmp_path: Path) -> None:
    in_mode(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as again:
        assert again.mode == (mode if mode != "YCbCr" else "RGB")
        expected = reference(again.convert("RGB"), SMALL)
    np.testing.assert_array_equal(read_picture(tmp_path / name, SMALL), expected)


def test_palette_is_resized_in_colour() -> None:
    # OpenAI's order would resize the palette's indices with nearest neighbour.
    image = Image.fromarray(scene(300, 300)).quantize(64)
    expected = reference(image.convert("RGB"), SMALL)
    np.testing.assert_array_equal(read_picture(image, SMALL), expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_transparency_is_on_white(seed: int, width: int, height: int) -> None:
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    expected = reference(on_white(rgba), SMALL)
    np.testing.assert_array_equal(read_picture(rgba, SMALL), expected)
    np.testing.assert_array_equal(read_picture(Image.fromarray(rgba), SMALL), expected)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparent_files(tmp_path: Path, name: str) -> None:
    rgba = scene(60, 45, 4)
    rgba[:9, :9, 3] = 0
    rgba[:9, :9, :3] = (255, 0, 0)  # the hidden red must not show
    Image.fromarray(rgba).save(tmp_path / name, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
    np.testing.assert_array_equal(read_picture(tmp_path / name, SMALL), reference(on_white(rgba), SMALL))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa"])
def test_other_modes_with_alpha(mode: str) -> None:
    grey = scene(60, 45, 2)
    image = Image.fromarray(grey, "LA") if mode in ("LA", "La") else Image.fromarray(scene(60, 45, 4))
    rgba = image.convert("RGBA")
    if mode == "PA":
        image = rgba.convert("P").convert("PA")
        image.putalpha(rgba.getchannel("A"))
        assert image.mode == "PA"
        rgba = image.convert("RGBA")
    elif mode != "LA":
        image = image.convert(mode)
        rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
    assert image.mode == mode
    assert steps(read_picture(image, RAW), reference(on_white(np.asarray(rgba)), RAW)) < 1e-3


def test_palette_and_colour_key_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 20, 40))
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name, transparency=0)
        got = read_picture(tmp_path / name, RAW)
        np.testing.assert_allclose(got[:, 16, 4], [1, 1, 1], atol=1e-6)  # red, but transparent: white
        np.testing.assert_allclose(got[:, 16, 28], [0, 0, 1], atol=1e-6)
        image.save(tmp_path / name)
        np.testing.assert_allclose(read_picture(tmp_path / name, RAW)[:, 16, 4], [1, 0, 0], atol=1e-6)
    image.convert("RGB").save(tmp_path / "key.png", transparency=(255, 0, 0))
    np.testing.assert_allclose(read_picture(tmp_path / "key.png", RAW)[:, 16, 4], [1, 1, 1], atol=1e-6)
    image.save(tmp_path / "bytes.png", transparency=bytes([128, 255]))
    np.testing.assert_allclose(
        read_picture(tmp_path / "bytes.png", RAW)[:, 16, 4], [1, 127 / 255, 127 / 255], atol=1e-6
    )


def grey16(width: int = 60, height: int = 45) -> np.ndarray:
    return (scene(width, height)[:, :, 0].astype(np.uint16) << 8) + np.random.default_rng(1).integers(
        0, 256, (height, width), dtype=np.uint16
    )


def as_rgb(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_16_bit_grey_keeps_its_tones(mode: str) -> None:
    values = grey16()
    image = Image.frombytes(mode, (60, 45), values.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
    np.testing.assert_array_equal(read_picture(image, SMALL), reference(as_rgb(values / 257), SMALL))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_files(tmp_path: Path, name: str) -> None:
    values = grey16()
    # Older Pillows write this format from mode I only.
    Image.fromarray(values.astype(np.int32) if name == "a.pgm" else values).save(tmp_path / name)
    np.testing.assert_array_equal(read_picture(tmp_path / name, SMALL), reference(as_rgb(values / 257), SMALL))


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    colour = scene(20, 10).astype(">u2") * 257
    lines = b"".join(b"\0" + row.tobytes() for row in colour)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 10, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(png + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", SMALL), read_picture(scene(20, 10), SMALL))


def test_modes_without_a_scale_of_their_own() -> None:
    values = grey16()
    wide = Image.fromarray(values.astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_array_equal(read_picture(wide, SMALL), reference(as_rgb(values / 257), SMALL))
    grey = scene(60, 45)[:, :, 0]
    expected = reference(as_rgb(grey), SMALL)
    for same in (
        Image.fromarray(grey).convert("I"),
        Image.fromarray(grey).convert("F"),
        Image.fromarray(grey.astype(np.float32) / 255),
        Image.fromarray(grey.astype(np.float32) * 257),
    ):
        np.testing.assert_array_equal(read_picture(same, SMALL), expected)
    swings = Image.fromarray(
        np.where(np.arange(60) % 2, 262.0, -7.0).astype(np.float32) + np.zeros((45, 1), np.float32)
    )
    assert read_picture(swings, RAW).max() <= 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((5, 5), 70_000, np.int32), "70000|8 or 16 bits"),
        (np.full((5, 5), -1, np.int32), "-1|8 or 16 bits"),
        (np.full((5, 5), -1000.0, np.float32), "-1000|8 or 16 bits"),
        (np.full((5, 5), 1e9, np.float32), "1e+09|8 or 16 bits"),
        (np.full((5, 5), np.nan, np.float32), "NaN"),
        (np.full((5, 5), np.inf, np.float32), "infinite"),
    ],
)
def test_grey_values_without_sense(values: np.ndarray, words: str) -> None:
    refused(Image.fromarray(values), words)


# Files


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif", "a.gif", "a.jpg", "a.webp", "a.jp2", "a.avif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_are_known_by_their_content(tmp_path: Path, name: str, mode: str) -> None:
    if name == "a.avif" and not AVIF:
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(scene(60, 45)).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = reference(image.convert("RGB"), SMALL)
    (tmp_path / name).rename(tmp_path / "picture.dat")
    np.testing.assert_array_equal(read_picture(tmp_path / "picture.dat", SMALL), expected)


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(tmp_path: Path, kind: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "naïve ☂ file.png"
    Image.fromarray(scene(60, 45)).save(path)
    expected = read_picture(scene(60, 45), SMALL)
    np.testing.assert_array_equal(read_picture(kind(str(path)), SMALL), expected)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(read_picture(kind("~/naïve ☂ file.png"), SMALL), expected)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)  # type: ignore[arg-type]
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == 3
        image.seek(2)
        np.testing.assert_allclose(read_picture(image, RAW)[:, 5, 5], [0, 0, 1], atol=1e-6)  # as it was left
        assert image.tell() == 2
    np.testing.assert_allclose(read_picture(tmp_path / name, RAW)[:, 5, 5], [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_orientation(tmp_path: Path, name: str, orientation: int) -> None:
    image = Image.fromarray(scene(60, 45))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    with Image.open(tmp_path / name) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
        expected = reference(upright, SMALL)
        if name != "a.tif":  # Pillow turns TIFFs itself
            assert upright.size == ((45, 60) if orientation > 4 else (60, 45))
        size = opened.size
        np.testing.assert_array_equal(read_picture(opened, SMALL), expected)
        assert opened.size == size
    np.testing.assert_array_equal(read_picture(tmp_path / name, SMALL), expected)


@pytest.mark.parametrize("damage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_unreadable_exif_is_no_reason_to_refuse(tmp_path: Path, damage: bytes) -> None:
    Image.fromarray(scene(60, 45)).save(tmp_path / "a.jpg", exif=damage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_picture(tmp_path / "a.jpg", SMALL).shape == (3, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_one_pixel(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (1, 1)).save(tmp_path / "a.png")
    got = read_picture(tmp_path / "a.png", RAW)
    assert np.unique(got).tolist() == [1.0 if mode in ("LA", "RGBA") else 0.0]


# Damage


AVIF = hasattr(Image, "core") and "AVIF" in Image.registered_extensions().values()
SAVED = ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tif", "a.ppm", "a.jp2", "a.avif"]


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.1, 0.5, 0.9])
def test_pictures_cut_short(tmp_path: Path, name: str, part: float) -> None:
    if name == "a.avif" and not AVIF:
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / name
    Image.fromarray(scene(200, 150)).save(path)
    os.truncate(path, max(3, int(part * path.stat().st_size)))
    refused(path, name)


@given(st.sampled_from(SAVED[:7]), st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_damage_never_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int) -> None:
    base = tmp_path_factory.getbasetemp()
    whole = base / f"whole-{name}"
    if not whole.exists():
        Image.fromarray(scene(40, 30)).save(whole)
    random = np.random.default_rng(seed)
    data = np.frombuffer(whole.read_bytes(), np.uint8).copy()
    for _ in range(int(random.integers(1, 6))):
        data[random.integers(0, min(len(data), 200))] = random.integers(0, 256)
    path = base / f"damaged-{name}"
    path.write_bytes(data.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            good = bool(np.isfinite(read_picture(path, SMALL)).all())
        except PictureError as error:
            good = name in str(error)
    assert good


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some words", "not a picture|JPEG, PNG"),
        (bytes(1_000), "not a picture"),
        (b"P", "not a picture"),
        (b"Pelican", "not a picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not a picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing|convert it"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg/>', "an SVG drawing|convert it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(9), "a HEIC picture|convert it|JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(9), "a HEIC picture|convert it"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(9), "film|convert it"),
        (b"%PDF-1.7\n", "a PDF|convert it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript file|convert it"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop file|convert it"),
        (b"\xff\x0a" + bytes(30), "a JPEG XL picture|convert it"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    for name in ("a.png", "a.jpg", "a.eps"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, f"{name}|{words}")


def test_missing_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no.png", "no.png does not exist|check the path")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty.png is empty (0 bytes)|save it again")
    refused(tmp_path, "is a folder, not a picture|one picture")
    refused("", "does not exist")
    refused("a\0b.png", "null|give the path")
    refused("/dev/zero", "a device|to a file")


def test_file_that_goes_away_between_check_and_decoding(tmp_path: Path) -> None:
    Image.fromarray(scene(60, 45)).save(tmp_path / "a.png")
    file = checked_file(tmp_path / "a.png", PictureError, "picture")
    (tmp_path / "a.png").unlink()
    with pytest.raises(PictureError, match=r"a\.png cannot be read \(No such file"):
        decode(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "a named pipe|to a file")


# The guard against pictures that are too large


def huge_png(width: int, height: int) -> bytes:
    """A small file that promises width x height black pixels, and keeps its promise a long way."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (178_956_971, 1), (2**31 - 1, 2**31 - 1)])
def test_huge_png_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(huge_png(width, height))
    tracemalloc.start()
    refused(path, f"huge.png is {width} x {height} pixels|million|limit is 179 million|scale it down")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_huge_pictures_of_other_formats(tmp_path: Path) -> None:
    small = Image.new("RGB", (8, 8))
    patches: dict[str, tuple[bytes, bytes]] = {
        "a.bmp": (struct.pack("<ii", 8, 8), struct.pack("<ii", 20_000, 20_000)),
        "a.ppm": (b"8 8", b"20000 20000"),
        "a.jpg": (struct.pack(">HH", 8, 8), struct.pack(">HH", 20_000, 20_000)),
        "a.gif": (struct.pack("<HH", 8, 8), struct.pack("<HH", 20_000, 20_000)),
    }
    for name, (old, new) in patches.items():
        small.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        assert old in data
        (tmp_path / name).write_bytes(data.replace(old, new, 1))
        refused(tmp_path / name, f"{name} is 20000 x 20000 pixels (400 million)|scale it down")


def test_large_pictures_pass_in_silence(tmp_path: Path) -> None:
    # Pillow warns from 89 million pixels on; here that is an ordinary picture.
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 9_000), 1).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(path, RAW).min() == 1.0
    assert limit == Image.MAX_IMAGE_PIXELS


def test_huge_arrays_and_images() -> None:
    refused(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "20000 x 20000|scale it down")

    class Huge(Image.Image):
        @property
        def size(self) -> tuple[int, int]:
            return 20_000, 20_000

    refused(Huge(), "20000 x 20000|scale it down")


# Arrays


def test_arrays_equal_files(tmp_path: Path) -> None:
    colour = scene(60, 45)
    Image.fromarray(colour).save(tmp_path / "a.png")
    expected = read_picture(tmp_path / "a.png", SMALL)
    for same in (
        colour,
        np.asfortranarray(colour),
        np.repeat(colour, 2, axis=1)[:, ::2],
        colour.astype(np.uint16) * 257,
        colour.astype(np.float32) / 255,
        colour.astype(np.float64) / 255,
        (colour.astype(np.uint16) * 257).astype(">u2"),
        np.concatenate([colour, np.full((45, 60, 1), 255, np.uint8)], axis=2),
    ):
        np.testing.assert_array_equal(read_picture(same, SMALL), expected)
    grey = colour[:, :, 0]
    expected = read_picture(np.repeat(grey[:, :, None], 3, axis=2), SMALL)
    for same in (grey, grey[:, :, None], grey / 255, grey.astype(np.uint16) * 257):
        np.testing.assert_array_equal(read_picture(same, SMALL), expected)


@given(st.integers(0, 65535))
def test_16_bits_are_rounded(value: int) -> None:
    got = read_picture(np.full((4, 4), value, np.uint16), RAW)
    assert round(float(got[0, 0, 0]) * 255) == round(value / 257)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 5, 3), np.int64), "type int64|uint8"),
        (np.zeros((5, 5, 3), bool), "type bool|uint8"),
        (np.zeros((5, 5, 3), object), "type object|uint8"),
        (np.zeros((5, 5, 3), complex), "type complex128|uint8"),
        (np.full((5, 5, 3), 200.0), "200|wanted is 0 to 1|uint8"),
        (np.full((5, 5, 3), -1.5, np.float32), "-1.5|wanted is 0 to 1"),
        (np.full((5, 5, 3), np.nan), "NaN or infinite"),
        (np.full((5, 5), np.inf, np.float16), "NaN or infinite"),
        (np.zeros((0, 5, 3), np.uint8), "5 x 0 pixels"),
        (np.zeros((5, 0), np.uint8), "0 x 5 pixels"),
        (np.zeros((3, 50, 50), np.uint8), "[3, 50, 50]|channels last"),
        (np.zeros((5, 5, 2), np.uint8), "[5, 5, 2]|[H, W]"),
        (np.zeros((2, 5, 5, 3), np.uint8), "[2, 5, 5, 3]|[H, W]"),
        (np.zeros(5, np.uint8), "[5]|[H, W]"),
        (np.zeros((), np.uint8), "[]|[H, W]"),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray, words: str) -> None:
    refused(array, words)


@pytest.mark.parametrize("source", [None, 3, [[1]], memoryview(b"abc")])
def test_other_objects(source: object) -> None:
    refused(source, f"{type(source).__name__}|path, a numpy array or a Pillow image")


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    pictures = []
    for seed, name in enumerate(SAVED[:8] * 4):
        pictures.append(tmp_path / f"{seed}-{name}")
        Image.fromarray(scene(60 + seed, 45, seed=seed)).save(pictures[-1])
    alone = [read_picture(path, SMALL) for path in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: read_picture(path, SMALL), pictures))
    np.testing.assert_array_equal(together, alone)


def test_closed_image(tmp_path: Path) -> None:
    Image.fromarray(scene(60, 45)).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    refused(image, "the picture")


# Settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": 10_000}, "4096"),
        ({"size": 2.5}, "2.5"),
        ({"mean": (0.5, 0.5)}, "three"),
        ({"mean": (0.5, 0.5, float("nan"))}, "finite"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
        ({"resample": "area"}, "'area'|bicubic"),
        ({"resize": "longest"}, "'longest'|squash"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PictureError) as caught:
        PictureSettings(**{"size": 32, "mean": MEAN, "std": STD, **options})
    assert all(word in str(caught.value) for word in words.split("|"))


def test_settings_take_lists() -> None:
    lists = PictureSettings(32, list(MEAN), list(STD))  # type: ignore[arg-type]
    assert lists == SMALL
    assert hash(lists) == hash(SMALL)


def test_importing_stays_light() -> None:
    code = "import sys, sayclip.inputs.pictures; print([n for n in ('PIL', 'soundfile', 'soxr') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
