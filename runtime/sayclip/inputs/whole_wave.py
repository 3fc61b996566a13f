"""Recordings with the silence around their words, which an encoder may not hear: to draw them, and to tell times."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip.inputs.silence import trim


def read_whole(
    source: str | bytes | os.PathLike[str] | NDArray[Any],
    settings: AudioSettings,
    *,
    sample_rate: float | None = None,
) -> NDArray[np.float32]:
    """As ``read_audio``, float32 [S] at ``settings.sample_rate``, but neither trimmed nor normalised."""
    return read_audio(source, replace(settings, trim=False, normalisation="none"), sample_rate=sample_rate)


def lead_seconds(wave: NDArray[np.float32], settings: AudioSettings) -> float:
    """How much of a whole ``wave`` [S] lies before what an encoder of these ``settings`` hears; 0 without ``trim``."""
    if not settings.trim:
        return 0.0
    heard = trim(wave, settings.sample_rate, settings.min_seconds)  # a view into wave
    first, begun = (array.__array_interface__["data"][0] for array in (wave, heard))
    return float(begun - first) / wave.itemsize / settings.sample_rate
