"""Whole recordings, and where in them begins what an encoder hears."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.inputs import AudioSettings, read_audio
from sayclip.inputs.whole_wave import lead_seconds, read_whole

RATE = 16_000


@settings(max_examples=40, deadline=None)
@given(
    before=st.integers(0, RATE),
    words=st.integers(2000, RATE),
    after=st.integers(0, RATE),
    noise=st.sampled_from([0.0, 1e-4, 1e-2]),
    trim=st.booleans(),
    normalisation=st.sampled_from(["none", "utterance"]),
)
def test_what_is_heard_lies_in_the_whole(
    before: int, words: int, after: int, noise: float, trim: bool, normalisation: str
) -> None:
    rng = np.random.default_rng(words)
    wave = rng.normal(size=before + words + after) * noise
    wave[before : before + words] += rng.normal(size=words) * 0.1
    hearing = AudioSettings(RATE, 0.1, 15.0, normalisation, trim)
    whole = read_whole(wave.astype(np.float32), hearing)
    assert whole.shape == wave.shape
    start = round(lead_seconds(whole, hearing) * RATE)
    heard = read_audio(wave.astype(np.float32), AudioSettings(RATE, 0.1, 15.0, trim=trim))
    np.testing.assert_array_equal(whole[start : start + len(heard)], heard)
    assert len(read_audio(wave.astype(np.float32), hearing)) == len(heard)


def test_nothing_lies_before_it_without_trimming() -> None:
    wave = np.concatenate([np.zeros(RATE), np.full(RATE, 0.5)]).astype(np.float32)
    wave[RATE::2] *= -1
    assert lead_seconds(wave, AudioSettings(RATE)) == 0
    assert lead_seconds(wave, AudioSettings(RATE, trim=True)) == pytest.approx(0.9, abs=0.011)
