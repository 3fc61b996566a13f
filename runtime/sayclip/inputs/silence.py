"""Silence in a recording: how loud it is at all, and where its words begin and end."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.025
SPEECH_FRAMES = 3
"""That many frames, 75 ms, have to be loud: a click fills one or two, the shortest word four."""
STEP_SECONDS = 0.01
BELOW_PEAK_DB = 45.0
"""What is further under the loudest 10 ms is silence."""
ABOVE_NOISE_DB, NOISE_BELOW_PEAK_DB = 4.0, 12.0
"""So is what is not that far over the steady noise, where that noise itself lies at least so far under the peak."""
MARGIN_SECONDS = 0.1


def loudness(mono: NDArray[np.float32], rate: float) -> float:
    """Root mean square, full scale 1, of the third loudest 25 ms of [S], each frame without its own mean."""
    size = max(1, min(len(mono), round(FRAME_SECONDS * rate)))
    frames = mono[: len(mono) // size * size].reshape(-1, size)
    power = frames.var(axis=1, dtype=np.float64)
    if len(mono) % size:
        power = np.append(power, mono[-size:].var(dtype=np.float64))
    place = min(SPEECH_FRAMES, len(power))
    return math.sqrt(float(np.partition(power, -place)[-place]))


def trim(wave: NDArray[np.float32], rate: int, shortest: float) -> NDArray[np.float32]:
    """``wave`` [S] without the silence before and after its words, as a view; 100 ms of it stay on either side.

    A result shorter than ``shortest`` seconds is not cut at all.
    """
    step = round(STEP_SECONDS * rate)
    count = len(wave) // step
    if count < 2:
        return wave
    power = np.square(wave[: count * step].reshape(count, step), dtype=np.float64).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    peak, noise = float(level.max()), _percentile(level, 10)
    silence = max(peak - BELOW_PEAK_DB, min(noise + ABOVE_NOISE_DB, peak - NOISE_BELOW_PEAK_DB))
    loud = np.flatnonzero(level > silence)
    margin = round(MARGIN_SECONDS * rate)
    start, end = max(0, int(loud[0]) * step - margin), min(len(wave), (int(loud[-1]) + 1) * step + margin)
    return wave[start:end] if end - start >= shortest * rate else wave


def _percentile(values: NDArray[np.float64], share: float) -> float:
    """As ``np.percentile``, whose first call imports masked arrays, which takes 5 ms."""
    place = share / 100.0 * (len(values) - 1)
    return float(np.interp(place, np.arange(len(values)), np.sort(values)))
