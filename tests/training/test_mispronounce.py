"""Swapped phonemes stay phonemes that the synthesisers know, and are spoken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_export.phonemes.chart import load_chart, write_inventory
from sayclip_training import corpus
from sayclip_training.synthesis import arpabet, flite, mispronounce
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
    phonemes, ipa = espeak.phonemes("red apple", voice.voice), espeak.ipa("red apple", voice.voice)
    assert len(phonemes.split()) == 2
    assert ipa == "ɹ|ˈɛ|d ˈæ|p|əl"
    assert "E" in phonemes
    by_text, rate = espeak.say("red apple", voice)
    by_phonemes, _ = espeak.say(f"[[{phonemes}]]", voice)
    assert abs(len(by_text) - len(by_phonemes)) < 0.1 * rate, "read as phonemes, not spelt out"
    for seed in range(5):
        swapped, said = mispronounce.for_espeak(phonemes, ipa, np.random.default_rng(seed))
        assert swapped != phonemes
        assert len(swapped.split()) == 2
        assert said != "ɹ ˈɛ d ˈæ p əl"
        wave, _ = espeak.say(f"[[{swapped}]]", voice)
        assert 0.5 < len(wave) / len(by_text) < 1.5


def test_the_ipa_of_swapped_phonemes_is_what_is_said() -> None:
    """Only what was swapped changes in the IPA, and to the IPA of what took its place."""
    phonemes, ipa = "k|'A:|r|d", "k|ˈɑː|ɹ|d"
    for seed in range(40):
        swapped, said = mispronounce.for_espeak(phonemes, ipa, np.random.default_rng(seed))
        new = [token.lstrip("'") for token in swapped.split("|")]
        if len(new) < 4:  # one was dropped
            assert len(said.split()) == len(new)
            continue
        for before, after, old, now in zip(["k", "A:", "r", "d"], new, ipa.split("|"), said.split(), strict=True):
            assert (now == old) == (before == after)
    assert mispronounce.for_espeak(phonemes, "k|ˈɑː|d", np.random.default_rng(0))[1] == "", "they count otherwise"


@pytest.mark.parametrize(("symbols", "ipa"), [(("r", "eh1", "d"), "ɹ ɛ d"), (("ch", "ow", "z"), "tʃ oʊ z"), ((), "")])
def test_arpabet_in_ipa(symbols: tuple[str, ...], ipa: str) -> None:
    assert arpabet.to_ipa(symbols) == ipa


def test_every_arpabet_symbol_has_ipa_on_the_chart() -> None:
    chart = load_chart()
    everything = PhonemeInventory(write_inventory(os.devnull, chart, chart.symbols))
    for symbol in mispronounce.NEAR:
        assert set(everything.segments(arpabet.to_ipa([symbol]))) <= {*chart.symbols, " "}


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
def test_a_joined_corpus_knows_what_was_said(tmp_path: Path) -> None:
    words = ["red apple", "guitar"]
    said = corpus.build(corpus.plan(words, [1, 1], [1, 1]), tmp_path / "said", 1)
    wrong = corpus.plan(words, [1, 1], [1, 1], mispronounced=True)
    assert all(job.mispronounced for job in wrong)
    swapped = corpus.build(wrong, tmp_path / "swapped", 1)
    both = corpus.join(said, swapped)
    assert both.said.tolist() == [*said.said, *swapped.said]
    assert all(both.said)
    assert not {ipa.replace(" ", "") for ipa in swapped.said} & {ipa.replace(" ", "") for ipa in said.said}
    for number in range(len(swapped)):
        wanted, _ = swapped.batch([number])
        got, _ = both.batch([len(said) + number])
        assert np.array_equal(wanted.numpy(), got.numpy())
