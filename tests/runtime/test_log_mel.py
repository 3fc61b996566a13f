"""Log-mel images: against the vectors of CLIP4VLA's own front end, and what holds for any recording."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import AudioError
from sayclip.inputs import AudioSettings, LogMelSettings, log_mel_images, read_stereo
from sayclip.inputs.log_mel import decibels, mel_filters
from sayclip.pooling import pool_segments

SMALL = LogMelSettings(mels=32, max_segments=1000)


def chirps() -> np.ndarray:
    """The recording of the vectors' own page (golden/README.md, 2.4): 10 s, stereo, float64 [160000, 2]."""
    t = np.arange(160_000) / 16_000
    left = 0.4 * np.sin(2 * np.pi * (200 * t + 150 * t**2)) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    right = 0.3 * np.sin(2 * np.pi * (900 * t + 40 * t**2)) * (np.sin(2 * np.pi * 0.7 * t) > 0)
    return np.stack([left, right], axis=1)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, 2))


@pytest.mark.parametrize(("file", "edge"), [("fbank_golden", "reflect"), ("fbank_golden_zero_pad", "zero")])
def test_equals_the_original(golden: Callable[[str], Path], file: str, edge: str) -> None:
    with np.load(golden(f"clip4vla/{file}.npz"), allow_pickle=False) as data:
        first, last = data["seg0"], data["last"]
    samples = read_stereo(chirps(), AudioSettings(max_seconds=60.0))
    images = log_mel_images(samples, LogMelSettings(edge=edge))
    assert images.dtype == np.float32
    assert images.shape == (6, 3, 224, 224)
    assert np.abs(images[0] - first).max() <= 1e-6
    assert np.abs(images[-1] - last).max() <= 1e-6
    other = log_mel_images(samples, LogMelSettings(edge="zero" if edge == "reflect" else "reflect"))
    assert np.abs(other[0] - first).max() > 0.5  # the two edges are told apart


def test_filters_equal_the_original(golden: Callable[[str], Path]) -> None:
    with np.load(golden("clip4vla/fbank_golden.npz"), allow_pickle=False) as data:
        wanted = data["melfb"]
    filters = mel_filters(LogMelSettings())
    assert np.abs(filters - wanted).max() <= 1e-8
    assert np.flatnonzero(filters.sum(axis=1) == 0).tolist() == [0, 7, 14, 21, 28, 35, 42, 49, 56, 63, 70, 79]


@pytest.mark.parametrize(("seconds", "count"), [(1, 1), (5, 3), (10, 6), (28.7, 17), (30, 17)])
def test_counts_of_segments(seconds: float, count: int) -> None:
    """Those that the original was seen to make."""
    images = log_mel_images(noise(round(16_000 * seconds)), LogMelSettings(max_segments=100))
    assert len(images) == count


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(1, 20_000), seed=st.integers(0, 3))
def test_every_image_is_standardised(samples: int, seed: int) -> None:
    images = log_mel_images(noise(samples, seed), SMALL)
    frames = 1 + samples // 128
    assert images.shape == (frames // 32 + 1, 3, 32, 32)
    np.testing.assert_allclose(images.mean(axis=(2, 3)), 0, atol=1e-5)
    deviation = images.std(axis=(2, 3))
    whole = frames % 32 == 0
    np.testing.assert_allclose(deviation[: len(images) - whole], 1, atol=1e-4)
    if whole:  # nothing is left for the last one, which training pooled all the same
        assert not images[-1].any()


def test_the_rest_of_the_last_image_is_0_db() -> None:
    samples = noise(16_000)
    image = log_mel_images(samples, LogMelSettings())[0, 0]
    level = decibels(samples[:, 0], LogMelSettings())
    assert level.shape == (126, 224)
    filled = np.zeros((224, 224))
    filled[:126] = level
    np.testing.assert_allclose(image, (filled - filled.mean()) / filled.std(), atol=1e-6)


def test_channels_are_left_middle_and_right() -> None:
    samples = noise(16_000)
    images = log_mel_images(samples, SMALL)
    mono = log_mel_images(np.repeat(samples.mean(axis=1, keepdims=True), 2, axis=1), SMALL)
    np.testing.assert_allclose(images[:, 1], mono[:, 0], atol=1e-6)
    np.testing.assert_allclose(mono[:, 0], mono[:, 2], atol=1e-6)
    np.testing.assert_array_equal(log_mel_images(samples[:, ::-1], SMALL), images[:, ::-1])
    assert np.abs(images[:, 0] - images[:, 2]).max() > 0.1


def test_levels() -> None:
    """A full-scale tone on a bin: power (512 / 4)² there through its filters; nothing further than 80 dB below."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    level = decibels(tone, LogMelSettings())
    wanted = 10 * math.log10(float((mel_filters(LogMelSettings())[:, 32] * 128**2).max()))
    assert level[60].max() == pytest.approx(wanted, abs=0.5)
    assert level.min() == pytest.approx(level.max() - 80)
    assert np.ptp(decibels(np.zeros(1000), LogMelSettings())) == 0
    quiet = decibels(tone / 10, LogMelSettings())
    np.testing.assert_allclose(quiet[60].max(), level[60].max() - 20, atol=1e-6)


@pytest.mark.parametrize(("cut", "first"), [("head", 0), ("tail", 5), ("centre", 2)])
def test_of_many_segments_some_are_kept(cut: str, first: int) -> None:
    samples = noise(32 * 128 * 8 + 500)
    every = log_mel_images(samples, SMALL)
    assert len(every) == 9
    kept = log_mel_images(samples, LogMelSettings(mels=32, max_segments=4, cut=cut))
    np.testing.assert_array_equal(kept, every[first : first + 4])


def test_a_silent_side_is_no_hindrance() -> None:
    samples = noise(16_000)
    samples[:, 1] = 0
    images = log_mel_images(samples, LogMelSettings(mels=32))
    assert np.isfinite(images).all()
    assert np.abs(images[0, 2]).max() < 1e-3


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"edge": "mirror"}, {"cut": "middle"}):
        with pytest.raises(AudioError, match="log-mel settings have the edge"):
            LogMelSettings(**wrong)


# Pooling


def test_pooling_is_the_mean_of_directions() -> None:
    rows = np.array([[3, 0], [0, 1], [0, 5], [2, 2]], np.float32)
    pooled = pool_segments(rows, [2, 1, 1])
    half = math.sqrt(0.5)
    np.testing.assert_allclose(pooled, [[half, half], [0, 1], [half, half]], atol=1e-7)
    assert pooled.dtype == np.float32
    assert pool_segments(np.empty((0, 7), np.float32), []).shape == (0, 7)


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), scale=st.floats(0.1, 100))
def test_pooling_does_not_hear_loudness(counts: list[int], scale: float) -> None:
    rows = np.random.default_rng(1).normal(size=(sum(counts), 8))
    pooled = pool_segments(rows, counts)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(pool_segments(rows * scale, counts), pooled, atol=1e-6)
    alone = [pool_segments(rows[sum(counts[:i]) :][:count], [count])[0] for i, count in enumerate(counts)]
    np.testing.assert_allclose(pooled, alone, atol=1e-7)
