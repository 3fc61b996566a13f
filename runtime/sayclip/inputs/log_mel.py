"""Log-mel images: from stereo samples to the square segments that CLIP4VLA's audio encoder takes.

As the training of CLIP4VLA computed them (Ruan et al. 2023, arXiv 2303.06591; librosa's mel spectrogram), in float64.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sayclip.errors import AudioError

_LEAST_POWER = 1e-10  # below it a logarithm is taken of this
_LEAST_STD = 1e-10
_LINEAR_STEP = 200 / 3  # Hz to one mel below 1000 Hz; above, 27 mels to a factor of 6.4 (Slaney's scale)
_LOG_START, _LOG_STEP = 1000.0, math.log(6.4) / 27
_FRAMES_AT_ONCE = 2048


@dataclass(frozen=True)
class LogMelSettings:
    """How samples become images; the fields are those of the bundle's ``LogMelPreprocessing``.

    An image has ``mels`` frames of ``mels`` bands, at the default settings 1.792 s.
    """

    sample_rate: int = 16_000
    window: int = 512
    hop: int = 128
    mels: int = 224
    low_hz: float = 0.0
    high_hz: float = 8000.0
    top_db: float = 80.0
    edge: str = "reflect"
    max_segments: int = 10
    cut: str = "centre"

    def __post_init__(self) -> None:
        if self.edge not in ("reflect", "zero") or self.cut not in ("centre", "head", "tail"):
            raise AudioError(
                f"log-mel settings have the edge {self.edge!r} and the cut {self.cut!r}",
                "give 'reflect' or 'zero', and 'centre', 'head' or 'tail'",
            )


def log_mel_images(stereo: NDArray[Any], settings: LogMelSettings) -> NDArray[np.float32]:
    """Samples [S, 2] in [-1, 1] at ``settings.sample_rate`` as images float32 [n, 3, frames, mels], n at least 1.

    The channels are left, middle (half the sum) and right. Every image and channel has mean 0 and deviation 1, or is
    all 0 where it was constant; the last image is filled up with 0 dB before that, as in training. Of more than
    ``settings.max_segments`` images the contiguous ones at ``settings.cut`` are kept.
    """
    side = settings.mels
    left, right = (stereo[:, channel].astype(np.float64) for channel in range(2))
    spectrogram = np.stack([decibels(wave, settings) for wave in (left, (left + right) / 2, right)])
    frames = spectrogram.shape[1]
    # A whole number of images is followed by one of 0 dB alone: training did so, and pooled it with the others.
    count = frames // side + 1
    first = _first_kept(count, settings)
    kept = range(first, min(count, first + settings.max_segments))
    images = np.zeros((len(kept), 3, side, side), np.float32)
    for image, number in zip(images, kept, strict=True):
        part = np.zeros((3, side, side))
        heard = spectrogram[:, number * side : (number + 1) * side]
        part[:, : heard.shape[1]] = heard
        centred = part - part.mean(axis=(1, 2), keepdims=True)
        image[:] = centred / (part.std(axis=(1, 2), keepdims=True) + _LEAST_STD)
    return images


def decibels(wave: NDArray[np.float64], settings: LogMelSettings) -> NDArray[np.float64]:
    """Mel power of [S] in dB, [frames, mels], none further than ``top_db`` under the loudest of the whole recording.

    Frames are centred: the first is around sample 0, and there are 1 + S // hop.
    """
    half = settings.window // 2
    # A recording shorter than half a window is reflected more than once.
    padded = np.pad(wave, half, mode="reflect" if settings.edge == "reflect" else "constant")
    frames = sliding_window_view(padded, settings.window)[:: settings.hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    filters = mel_filters(settings)
    power = np.empty((len(frames), settings.mels))
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        rows = slice(start, start + _FRAMES_AT_ONCE)
        spectrum = np.fft.rfft(frames[rows] * hann)
        power[rows] = (spectrum.real**2 + spectrum.imag**2) @ filters.T
    level = 10 * np.log10(np.maximum(power, _LEAST_POWER))
    kept: NDArray[np.float64] = np.maximum(level, level.max() - settings.top_db)
    return kept


def mel_filters(settings: LogMelSettings) -> NDArray[np.float64]:
    """Triangular filters [mels, window // 2 + 1] of equal area on Slaney's mel scale.

    Where filters are narrower than the spectrum's bins some hold nothing; their bands lie at the floor, as in training.
    """
    return _filters(settings.sample_rate, settings.window, settings.mels, settings.low_hz, settings.high_hz)


@functools.lru_cache(maxsize=4)
def _filters(rate: int, window: int, mels: int, low: float, high: float) -> NDArray[np.float64]:
    bins = np.arange(window // 2 + 1) * (rate / window)
    edges = _hertz(np.linspace(_mel(low), _mel(high), mels + 2))[:, None]
    start, centre, end = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - start) / (centre - start), (end - bins) / (end - centre)
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (end - start)
    filters.flags.writeable = False
    return filters


def _mel(hertz: float) -> float:
    if hertz < _LOG_START:
        return hertz / _LINEAR_STEP
    return _LOG_START / _LINEAR_STEP + math.log(hertz / _LOG_START) / _LOG_STEP


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = mel - _LOG_START / _LINEAR_STEP
    hertz: NDArray[np.float64] = np.where(above < 0, mel * _LINEAR_STEP, _LOG_START * np.exp(above * _LOG_STEP))
    return hertz


def _first_kept(count: int, settings: LogMelSettings) -> int:
    extra = max(0, count - settings.max_segments)
    return {"head": 0, "tail": extra, "centre": extra // 2}[settings.cut]
