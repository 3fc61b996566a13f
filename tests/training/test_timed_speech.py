"""When words are said: exact in what the synthesisers give, and after cutting, resampling and changes of speed."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sayclip_training.synthesis import flite
from sayclip_training.synthesis.espeak import LANGUAGES, VARIANTS, Espeak, EspeakSettings
from sayclip_training.synthesis.espeak_events import END, PHONEME, WORD, Event, word_times
from sayclip_training.synthesis.flite_library import Flite
from sayclip_training.synthesis.timed import SpokenWord, Timed

RATE = 16000
WORDS = [
    "red",
    "apple",
    "above",
    "a",
    "blue",
    "car",
    "banana",
    "dog",
    "guitar",
    "small",
    "umbrella",
    "and",
    "ship",
    "owl",
]
FLITE = pytest.mark.skipif(shutil.which("flite") is None and "CI" not in os.environ, reason="Debian's flite")


def echoes(variant: str) -> bool:
    """Whether a variant's sound goes on after its words, by its own file."""
    if not variant:
        return False
    lines = (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant).read_text(encoding="utf-8").splitlines()
    return any(line.split()[:1] == ["echo"] and line.split()[1:3] != ["0", "0"] for line in lines)


@cache
def espeak() -> Espeak:
    return Espeak()


@cache
def in_process() -> Flite:
    return Flite()


def check_words(spoken: Timed, words: list[str]) -> None:
    """In order, within the recording, none empty."""
    assert [word.text for word in spoken.words] == words
    before = 0.0
    for word in spoken.words:
        assert before - 1e-9 <= word.start < word.end <= spoken.seconds + 1e-9
        before = word.end


def loud(spoken: Timed, below: float = 40.0) -> NDArray[np.float64]:
    """Seconds at which 5 ms of sound begin that are not ``below`` dB under the loudest."""
    step = spoken.rate // 200
    level = np.sqrt((spoken.wave[: len(spoken.wave) // step * step].reshape(-1, step) ** 2).mean(1))
    return np.flatnonzero(level > level.max() * 10 ** (-below / 20)) * step / spoken.rate


def check_ends(spoken: Timed, tolerance: float = 0.06, below: float = 40.0) -> None:
    """The first word begins and the last one ends where the sound does."""
    sound = loud(spoken, below)
    assert abs(spoken.words[0].start - sound[0]) < tolerance
    assert abs(spoken.words[-1].end - sound[-1]) < tolerance


sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    words=sentences,
    language=st.sampled_from(LANGUAGES),
    variant=st.sampled_from(VARIANTS),
    rate=st.integers(90, 260),
    gap=st.sampled_from([0, 0, 5]),
    speed=st.floats(0.8, 1.3),
)
def test_espeak_says_words_in_order_and_ends_where_sound_ends(
    words: list[str], language: str, variant: str, rate: int, gap: int, speed: float
) -> None:
    voice = EspeakSettings(language + (f"+{variant}" if variant else ""), rate, gap=gap)
    spoken = espeak().say_timed(words, voice, seed=1)
    assert spoken is not None
    check_words(spoken, words)
    final = spoken.trimmed().resampled(RATE, speed).scaled(0.5)
    assert final.rate == RATE
    check_words(final, words)
    if not echoes(variant):
        check_ends(final)
    assert np.abs(final.wave).max() == pytest.approx(0.5)


@pytest.mark.parametrize("variant", ["", "f1", "m3", "klatt2", "Andy"])
@pytest.mark.parametrize("speed", [1.0, 0.8, 1.25])
def test_between_words_that_stand_apart_there_is_silence(variant: str, speed: float) -> None:
    """The waveform's own word: with a gap of 0.2 s it is silent between two words, and nowhere near in one."""
    words = ["banana", "guitar", "red", "apple"]
    voice = EspeakSettings("en-us" + (f"+{variant}" if variant else ""), gap=20)
    raw = espeak().say_timed(words, voice)
    assert raw is not None
    spoken = raw.trimmed().resampled(RATE, speed)
    sound = loud(spoken)
    for word, following in pairwise(spoken.words):
        assert following.start - word.end > 0.15 / speed
        assert not ((sound > word.end + 0.02) & (sound < following.start - 0.01)).any()
    for word in spoken.words:
        inside = sound[(sound >= word.start - 0.005) & (sound < word.end)]
        assert abs(inside[0] - word.start) < 0.03, word
        assert abs(inside[-1] - word.end) < 0.06, word


def test_espeak_keeps_its_samples_when_times_are_asked_for() -> None:
    voice = EspeakSettings("en-us+f2")
    timed = espeak().say_timed(["red", "apple"], voice)
    plain, rate = espeak().say("red apple", voice)
    assert timed is not None
    assert timed.rate == rate
    assert len(timed.wave) == pytest.approx(len(plain), rel=0.02)


def test_espeaks_events_by_hand() -> None:
    events = [
        Event(WORD, 1, 0), Event(PHONEME, 1, 10, "k"), Event(PHONEME, 1, 30, "'A@"), Event(PHONEME, 1, 60, "r-"),
        Event(WORD, 5, 60), Event(PHONEME, 5, 90, "aI"), Event(PHONEME, 5, 150, "s"),
        Event(WORD, 9, 200), Event(PHONEME, 9, 220, "p"), Event(PHONEME, 9, 250, "_:"), Event(END, 10, 260),
    ]  # fmt: skip
    times = word_times(["car", "ice", "up"], events, 300, 100)
    # The r lasts until the vowel's late event; the pause before the p is no word's.
    assert times == [SpokenWord("car", 0.1, 0.9), SpokenWord("ice", 0.9, 2.0), SpokenWord("up", 2.2, 2.5)]
    assert word_times(["car", "ice", "up", "of"], events, 300, 100) is None, "no sound of its own"
    assert word_times(["x"], [Event(PHONEME, 9, 0, "k")], 100, 100) is None, "a place outside the text"


@FLITE
@settings(max_examples=30, deadline=None)
@given(
    words=sentences,
    name=st.sampled_from([*flite.TRAINING_VOICES, flite.HELD_OUT_VOICE]),
    stretch=st.floats(0.75, 1.3),
    speed=st.floats(0.85, 1.3),
)
def test_flite_says_words_in_order_and_ends_where_sound_ends(
    words: list[str], name: str, stretch: float, speed: float
) -> None:
    spoken = in_process().say_timed(words, flite.FliteSettings(name, None, stretch))
    assert spoken is not None
    check_words(spoken, words)
    final = spoken.trimmed().resampled(RATE, speed)
    check_words(final, words)
    check_ends(final, 0.15, 36.0)  # there is noise in what it says between words


@FLITE
@pytest.mark.parametrize("name", [*flite.TRAINING_VOICES, flite.HELD_OUT_VOICE])
def test_flite_in_process_is_the_command(name: str) -> None:
    """The library's phonemes end where ``flite -psdur`` says, and its recording is as long as the command's."""
    voice, text = flite.FliteSettings(name, None, 1.2), "red apple above a blue car"
    command = ["flite", "-voice", name, "--setf", "duration_stretch=1.2", "-psdur", "-t", text, "none"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    wanted = [(symbol, float(end)) for symbol, _, end in (item.partition(":") for item in printed)]
    ends = in_process().ends(text, voice)
    assert [symbol for symbol, _ in ends] == [symbol for symbol, _ in wanted]
    assert [end for _, end in ends] == pytest.approx([end for _, end in wanted], abs=0.0006)
    spoken = in_process().say_timed(text.split(), voice)
    assert spoken is not None
    wave, rate = flite.say(text, voice)
    assert (len(spoken.wave), spoken.rate) == (len(wave), rate)
    bounds = {round(end, 4) for _, end in ends}
    assert all({round(word.start, 4), round(word.end, 4)} <= bounds | {0.0} for word in spoken.words)


@FLITE
def test_flite_takes_its_own_pitch_again_and_refuses_unknown_voices() -> None:
    own = in_process().say_timed(["apple"], flite.FliteSettings("kal16"))
    in_process().say_timed(["apple"], flite.FliteSettings("kal16", 220.0))
    again = in_process().say_timed(["apple"], flite.FliteSettings("kal16"))
    assert own is not None
    assert again is not None
    assert np.array_equal(own.wave, again.wave)
    with pytest.raises(ValueError, match="no voice"):
        in_process().say_timed(["apple"], flite.FliteSettings("nobody"))


@FLITE
def test_flite_is_not_believed_where_its_voice_lacks_a_sound(capfd: pytest.CaptureFixture[str]) -> None:
    """The diphones of ``kal16`` have no h before r; the other voices need none."""
    assert in_process().say_timed(["superhero"], flite.FliteSettings("kal16")) is None
    assert in_process().say_timed(["superhero"], flite.FliteSettings("slt")) is not None
    assert in_process().say_timed(["apple"], flite.FliteSettings("kal16")) is not None
    assert capfd.readouterr().err == ""


@settings(max_examples=50, deadline=None)
@given(
    clicks=st.lists(st.integers(20, 180), min_size=2, max_size=6, unique=True).map(sorted),
    rate=st.sampled_from([8000, 16000, 22050]),
    speed=st.floats(0.75, 1.4),
    lead=st.integers(0, 4000),
)
def test_times_move_with_the_wave(clicks: list[int], rate: int, speed: float, lead: int) -> None:
    """Words that begin and end at clicks still do so after trimming and resampling."""
    wave = np.zeros(lead + 3 * rate, np.float32)
    places = [lead + click * rate // 100 for click in clicks]
    width = rate // 1000
    for place in places:
        wave[place : place + width] = np.hanning(width).astype(np.float32)
    words = tuple(
        SpokenWord(str(number), start / rate, end / rate) for number, (start, end) in enumerate(pairwise(places))
    )
    final = Timed(wave, rate, words).trimmed().resampled(RATE, speed)
    for click, time in enumerate([*(word.start for word in final.words), final.words[-1].end]):
        first, last = (round((time + by) * RATE) for by in (-0.0015, 0.003))
        near = np.abs(final.wave[max(0, first) : last])
        assert near.max() > 0.5, (click, time)
