"""One thing that a synthesiser says: its waveform, and the phonemes that are heard in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayclip_training.synthesis import arpabet, distort, flite, mispronounce
from sayclip_training.synthesis.espeak import Espeak, EspeakSettings

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Utterance:
    """One thing to synthesise: which string (by index), what is said, by what, and the seed of its distortions."""

    string: int
    text: str
    voice: EspeakSettings | flite.FliteSettings
    speed: float
    seed: int
    distorted: bool = True
    mispronounced: bool = False


def speak(job: Utterance, espeak: Espeak) -> tuple[NDArray[np.float32], str] | None:
    """The waveform of one utterance, f32 [S] at 16 kHz, and its phonemes as the voice says them, in IPA.

    The IPA is empty where it is not known; None where the synthesiser has nothing to say.
    """
    wave, rate, ipa = _synthesise(job, espeak)
    wave = distort.trim(wave, rate)
    if len(wave) < rate // 25 or np.abs(wave).max() < 0.01:
        return None
    if rate * job.speed != SAMPLE_RATE:
        wave = distort.resample(wave, rate * job.speed, SAMPLE_RATE)
    if job.distorted:
        rng = np.random.default_rng(job.seed)
        if rng.random() < 0.3:
            wave = distort.reverberate(wave, SAMPLE_RATE, rng)
        if rng.random() < 0.2:
            wave = distort.band_limit(wave, SAMPLE_RATE, rng)
    peak = float(np.abs(wave).max(initial=1e-4))
    wave = wave * np.float32(0.5 / peak)
    short = SAMPLE_RATE // 8 - len(wave)
    return np.pad(wave, (0, max(0, short))).astype(np.float32), ipa


def _synthesise(job: Utterance, espeak: Espeak) -> tuple[NDArray[np.float32], int, str]:
    rng = np.random.default_rng([job.seed, 1])
    if isinstance(job.voice, flite.FliteSettings):
        phonemes = flite.phonemes(job.text)
        if not job.mispronounced:
            return *flite.say(job.text, job.voice), arpabet.to_ipa(phonemes)
        swapped = mispronounce.for_flite(phonemes, rng)
        return *flite.say_phonemes(swapped, job.voice), arpabet.to_ipa(swapped)
    ipa = espeak.ipa(job.text, job.voice.voice)
    if not job.mispronounced:
        return *espeak.say(job.text, job.voice), ipa.replace("|", "")
    mnemonics, ipa = mispronounce.for_espeak(espeak.phonemes(job.text, job.voice.voice), ipa, rng)
    return *espeak.say(f"[[{mnemonics}]]", job.voice), ipa
