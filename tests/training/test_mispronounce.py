"""Swapped phonemes stay phonemes that the synthesisers know, and are spoken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip_training import corpus
from sayclip_training.synthesis import flite, mispronounce
from sayclip_training.synthesis.espeak import Espeak, EspeakSettings

SYMBOLS = sorted(mispronounce.NEAR)


@settings(max_examples=100, deadline=None)
@given(symbols=st.lists(st.sampled_from([*SYMBOLS, "pau"]), max_size=20), seed=st.integers(0, 10_000))
def test_only_known_phonemes_change_and_only_to_their_neighbours(symbols: list[str], seed: int) -> None:
    swapped = mispronounce.swap(symbols, mispronounce.NEAR, np.random.default_rng(seed))
    assert len(swapped) == len(symbols)
    changed = [(old, new) for old, new in zip(symbols, swapped, strict=True) if old != new]
    assert bool(changed) == any(symbol in mispronounce.NEAR for symbol in symbols)
    assert all(new == "" or new in mispronounce.NEAR[old] for old, new in changed)


def test_every_neighbour_is_a_phoneme_itself() -> None:
    assert {near for row in mispronounce.NEAR.values() for near in row} <= set(SYMBOLS)


def test_espeak_reads_its_own_phonemes_and_swapped_ones() -> None:
    espeak, voice = Espeak(), EspeakSettings("en-us+f2")
    phonemes = espeak.phonemes("red apple", voice.voice)
    assert len(phonemes.split()) == 2
    assert "E" in phonemes
    by_text, rate = espeak.say("red apple", voice)
    by_phonemes, _ = espeak.say(f"[[{phonemes}]]", voice)
    assert abs(len(by_text) - len(by_phonemes)) < 0.1 * rate, "read as phonemes, not spelt out"
    for seed in range(5):
        swapped = mispronounce.for_espeak(phonemes, np.random.default_rng(seed))
        assert swapped != phonemes
        assert len(swapped.split()) == 2
        wave, _ = espeak.say(f"[[{swapped}]]", voice)
        assert 0.5 < len(wave) / len(by_text) < 1.5


@pytest.mark.skipif(shutil.which("flite") is None and "CI" not in os.environ, reason="Debian's flite")
@pytest.mark.parametrize("voice", flite.TRAINING_VOICES)
def test_flite_reads_its_own_phonemes_and_swapped_ones(voice: str) -> None:
    phonemes = flite.phonemes("red apple")
    assert phonemes == ("r", "eh", "d", "ae", "p", "ax", "l")
    swapped = mispronounce.for_flite(phonemes, np.random.default_rng(1))
    assert [symbol.rstrip("1") for symbol in swapped] != list(phonemes)
    wave, rate = flite.say_phonemes(swapped, flite.FliteSettings(voice))
    assert 0.3 < len(wave) / rate < 1.5


@pytest.mark.skipif(shutil.which("flite") is None and "CI" not in os.environ, reason="Debian's flite")
def test_a_joined_corpus_knows_which_utterances_were_mispronounced(tmp_path: Path) -> None:
    words = ["red apple", "guitar"]
    said = corpus.build(corpus.plan(words, [1, 1], [1, 1]), tmp_path / "said", 1)
    wrong = corpus.plan(words, [1, 1], [1, 1], mispronounced=True)
    assert all(job.mispronounced for job in wrong)
    swapped = corpus.build(wrong, tmp_path / "swapped", 1)
    both = corpus.join(said, swapped)
    assert both.mispronounced.tolist() == [False] * len(said) + [True] * len(swapped)
    for number in range(len(swapped)):
        wanted, _ = swapped.batch([number])
        got, _ = both.batch([len(said) + number])
        assert np.array_equal(wanted.numpy(), got.numpy())
