"""Distortions of a waveform: vocal-tract length and speed by resampling, reverberation, band limits."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

Wave = NDArray[np.float32]


def trim(wave: Wave, sample_rate: int, margin: float = 0.04) -> Wave:
    """Cut silence (45 dB under the loudest 10 ms) off both ends, leaving ``margin`` seconds."""
    start, end = edges(wave, sample_rate, margin)
    return wave[start:end]


def edges(wave: Wave, sample_rate: int, margin: float = 0.04) -> tuple[int, int]:
    """First sample that ``trim`` keeps and the first that it does not."""
    step = sample_rate // 100
    if len(wave) < 4 * step:
        return 0, len(wave)
    level = np.sqrt((wave[: len(wave) // step * step].reshape(-1, step) ** 2).mean(1))
    loud = np.flatnonzero(level > level.max() * 10 ** (-45 / 20))
    if not len(loud):
        return 0, len(wave)
    edge = int(margin * sample_rate)
    return max(0, int(loud[0]) * step - edge), min(len(wave), (int(loud[-1]) + 1) * step + edge)


def resample(wave: Wave, source: float, target: float) -> Wave:
    """soxr at high quality; a ``source`` other than the true rate shifts pitch, formants and tempo together."""
    return soxr.resample(wave, source, target, quality="HQ").astype(np.float32)


def reverberate(wave: Wave, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Convolve with an exponentially decaying noise tail (RT60 0.08 to 0.5 s), direct sound kept in front."""
    seconds = rng.uniform(0.08, 0.5)
    count = int(seconds * sample_rate)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail *= rng.uniform(0.1, 0.7) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    size = 1 << int(np.ceil(np.log2(len(wave) + count)))
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)[: len(wave) + count // 3]
    return wet.astype(np.float32)


def band_limit(wave: Wave, sample_rate: int, rng: np.random.Generator) -> Wave:
    """Telephone band (300 to 3400 Hz) or a random low-pass, with soft edges, in the frequency domain."""
    frequencies = np.fft.rfftfreq(len(wave), 1 / sample_rate)
    low, high = (300.0, 3400.0) if rng.random() < 0.4 else (rng.uniform(20, 150), rng.uniform(3500, 7500))
    gain = 1 / (1 + (low / np.maximum(frequencies, 1)) ** 6) / (1 + (frequencies / high) ** 12)
    return np.fft.irfft(np.fft.rfft(wave) * gain, len(wave)).astype(np.float32)
