"""Where words begin and end: what is cut off a recording, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip.inputs.silence import MARGIN_SECONDS, _percentile, loudness, trim

RATE = 16_000
MARGIN = round(MARGIN_SECONDS * RATE)


def words(seconds: float = 0.6) -> np.ndarray:
    """Two bursts with a pause between them, as two words have it."""
    count = round(seconds * RATE)
    samples = 0.3 * np.sin(2 * np.pi * 220 * np.arange(count) / RATE)
    samples[count // 3 : count // 2] = 0
    return samples.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-3, 5e-3])
@pytest.mark.parametrize(("before", "after"), [(5.0, 5.0), (0.0, 3.0), (2.0, 0.0), (0.3, 0.3)])
def test_silence_goes_and_words_stay(before: float, after: float, noise: float) -> None:
    said = words()
    around = [np.zeros(round(s * RATE), np.float32) for s in (before, after)]
    recording = np.concatenate([around[0], said, around[1]])
    recording += np.random.default_rng(0).standard_normal(len(recording)).astype(np.float32) * np.float32(noise)
    kept = trim(recording, RATE, 0.1)
    start, step = round(before * RATE), RATE // 100
    at = (kept.__array_interface__["data"][0] - recording.__array_interface__["data"][0]) // recording.itemsize
    assert max(0, start - MARGIN - step) <= at <= start
    assert start + len(said) <= at + len(kept) <= min(len(recording), start + len(said) + MARGIN + step)


@given(st.integers(1, 4000), st.floats(1e-6, 1.0), st.integers(0, 2**31))
def test_any_recording_gives_a_part_of_itself(count: int, level: float, seed: int) -> None:
    wave = np.random.default_rng(seed).standard_normal(count).astype(np.float32) * np.float32(level)
    kept = trim(wave, RATE, 0.05)
    assert kept.base is wave or kept is wave
    assert len(kept) == count or len(kept) >= 0.05 * RATE


def test_what_would_be_too_short_is_left_whole() -> None:
    wave = np.zeros(RATE, np.float32)
    wave[8000:8160] = 0.5
    assert len(trim(wave, RATE, 0.3)) == RATE
    assert len(trim(wave, RATE, 0.1)) < 0.3 * RATE


def test_steady_noise_is_not_cut() -> None:
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * np.float32(0.1)
    assert len(trim(wave, RATE, 0.1)) == RATE


def test_a_click_is_not_loud() -> None:
    wave = np.zeros(RATE, np.float32)
    wave[8000] = 1.0
    assert loudness(wave, RATE) == 0.0
    assert loudness(words(), RATE) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_the_settings_decide() -> None:
    recording = np.concatenate([np.zeros(RATE, np.float32), words(), np.zeros(RATE, np.float32)])
    assert len(read_audio(recording, AudioSettings())) == len(recording)
    assert len(read_audio(recording, AudioSettings(trim=True))) <= len(words()) + 2 * MARGIN + RATE // 50


@given(st.lists(st.floats(-120.0, 0.0), min_size=1, max_size=300), st.floats(0.0, 100.0))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    level = np.array(values)
    assert _percentile(level, share) == pytest.approx(float(np.percentile(level, share)), abs=1e-9)
