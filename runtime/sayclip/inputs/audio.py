"""Recordings: from a path or an array to the samples that a speech or an audio encoder takes."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import AudioError, NoSpeechError
from sayclip.inputs.audio_files import decode
from sayclip.inputs.files import checked_file, shown
from sayclip.inputs.silence import loudness, trim

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
"""Sample rates taken, in Hz: below, speech is gone; above, nothing records."""
HIGHEST_PEAK = 16.0
"""Floating-point samples up to this are overs and are scaled down; beyond, they are integers in disguise."""
SILENCE_DBFS = -55.0
_SCALES = {"int8": 1 << 7, "uint8": 1 << 7, "int16": 1 << 15, "int32": 1 << 31}
# Dither moves 8-bit silence by one step (-42 dBFS), which is louder than the floor of everything else.
_COARSE = ("int8", "uint8", "PCM_S8", "PCM_U8")
_COARSE_FLOOR = 0.75 / 128


@dataclass(frozen=True)
class AudioSettings:
    """What an encoder wants to hear.

    sample_rate: Hz. min_seconds, max_seconds: shortest and longest recording taken. normalisation: ``"none"``, or
    ``"utterance"``, (x - mean) / sqrt(variance + 1e-5) over all samples with the biased variance, as wav2vec 2.0 and
    HuBERT large have it. trim: cut silence off both ends first.

    Raises AudioError for values that make no sense.
    """

    sample_rate: int = 16_000
    min_seconds: float = 0.05
    max_seconds: float = 20.0
    normalisation: str = "none"
    trim: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.sample_rate, "the encoder's setting")
        if not 0 <= self.min_seconds < self.max_seconds < math.inf:
            raise AudioError(
                f"audio settings ask for {self.min_seconds} to {self.max_seconds} s", "give 0 <= min < max seconds"
            )
        if self.normalisation not in ("none", "utterance"):
            raise AudioError(f"audio normalisation is {self.normalisation!r}", "give 'none' or 'utterance'")


def read_audio(
    source: str | bytes | os.PathLike[str] | NDArray[Any],
    settings: AudioSettings,
    *,
    sample_rate: float | None = None,
) -> NDArray[np.float32]:
    """Read a recording and bring it to the encoder's sample rate, mono.

    source: a path (WAV, FLAC, OGG, MP3, AIFF, AU, CAF; ``~`` is expanded), or samples [S] or [S, C]: floating point
    in [-1, 1], or int8, int16, int32 or uint8, scaled by their type. Channels are averaged. Floating-point samples
    beyond ±1 (up to ±16) are scaled down to a peak of 1, as a whole. sample_rate: that of an array, in Hz
    (None: ``settings.sample_rate``); a file knows its own.

    Returns a new float32 [S] at ``settings.sample_rate``, in [-1, 1] unless normalised. A file that ends before its
    header says gives what it holds; one that is too long is refused by its header, before anything is decoded.

    Raises NoSpeechError where not even three 25 ms, without their mean, are above -55 dBFS (above the last bit for
    8-bit samples), and AudioError for everything else that cannot be heard. Resampling: soxr, HQ.
    """
    mono = _read(source, settings, sample_rate, stereo=False)
    if settings.trim:
        mono = trim(mono, settings.sample_rate, settings.min_seconds)
    wave = np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)
    return _normalise_utterance(wave) if settings.normalisation == "utterance" else wave


def read_stereo(
    source: str | bytes | os.PathLike[str] | NDArray[Any],
    settings: AudioSettings,
    *,
    sample_rate: float | None = None,
) -> NDArray[Any]:
    """Read a recording of any sound as left and right, [S, 2] at ``settings.sample_rate``, in [-1, 1].

    As ``read_audio``, except that a mono recording is heard on both sides, so is the average of more channels than two,
    and nothing is trimmed or normalised. Returns float64 where float64 was given, else float32. Raises NoSpeechError
    where neither side is loud enough, AudioError.
    """
    both: NDArray[Any] = np.clip(_read(source, settings, sample_rate, stereo=True), -1.0, 1.0)
    return both


def _read(
    source: str | bytes | os.PathLike[str] | NDArray[Any],
    settings: AudioSettings,
    sample_rate: float | None,
    *,
    stereo: bool,
) -> NDArray[Any]:
    """The samples [S], or [S, 2], at the rate of ``settings``, heard and of a sensible length."""
    if isinstance(source, np.ndarray):
        rate: float = settings.sample_rate if sample_rate is None else sample_rate
        mix = _Mix("the recording", stereo)
        samples, coarse = _mix_array(source, rate, settings, mix), source.dtype.name in _COARSE
    elif isinstance(source, (str, bytes, os.PathLike)):
        file = checked_file(source, AudioError, "recording")
        mix = _Mix(file.name, stereo)

        def check_header(header_rate: float, frames: int | None) -> None:
            _check_rate(header_rate, file.name)
            if frames is not None:
                _check_length(frames, header_rate, settings, mix)

        samples, rate, subtype = decode(file, settings.max_seconds, check_header, mix)
        # Again, for what was really there and not what the header said.
        _check_length(len(samples), rate, settings, mix)
        coarse = subtype in _COARSE
    else:
        raise AudioError(
            f"a recording was given as {type(source).__name__} ({shown(source)[:60]})",
            "give a path or a numpy array of samples",
        )

    if mix.peak > 1.0:
        samples = samples / np.float32(max(1.0, np.abs(samples).max()))
    floor = max(10 ** (SILENCE_DBFS / 20), _COARSE_FLOOR if coarse else 0.0)
    _check_heard(samples, rate, floor, mix)
    if rate != settings.sample_rate:
        import soxr

        samples = soxr.resample(samples, rate, settings.sample_rate, quality="HQ")
        if rate > settings.sample_rate:  # what was heard may all have been above the encoder's band
            _check_heard(samples, settings.sample_rate, floor, mix)
    return samples


class _Mix:
    """Mixes blocks of float samples [S, C] to mono [S], or to left and right [S, 2], and remembers what it saw."""

    def __init__(self, name: str, stereo: bool = False) -> None:
        self.name, self.stereo = name, stereo
        self.peak = 0.0
        self.swing = 0.0  # the largest difference between two samples of one channel
        self.channels = 1

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        channels = np.ascontiguousarray(block.T)  # reducing short rows is ten times slower
        with np.errstate(invalid="ignore", over="ignore"):
            high, low = channels.max(axis=1), channels.min(axis=1)
            self.peak = max(self.peak, self._checked(float(np.maximum(high, -low).max())))
            self.swing = max(self.swing, float((high - low).max()))
        self.channels = len(channels)
        if self.stereo:
            exact = np.float64 if block.dtype.itemsize >= 8 else np.float32
            if len(channels) != 2:
                channels = np.repeat(channels.mean(axis=0, keepdims=True, dtype=exact), 2, axis=0)
            return np.ascontiguousarray(channels.T, dtype=exact)
        mono: NDArray[np.float32] = channels.mean(axis=0, dtype=np.result_type(block, np.float32)).astype(np.float32)
        return mono

    def _checked(self, peak: float) -> float:
        if not math.isfinite(peak):
            kind = "NaN" if math.isnan(peak) else "infinite"
            raise AudioError(f"{self.name} holds {kind} samples", "record or export it again; samples must be finite")
        if peak > HIGHEST_PEAK:
            raise AudioError(
                f"{self.name} reaches {peak:.6g} in floating point, where full scale is 1",
                "divide 16-bit values by 32768, or give them as int16",
            )
        return peak


def _mix_array(samples: NDArray[Any], rate: float, settings: AudioSettings, mix: _Mix) -> NDArray[Any]:
    shape, kind = samples.shape, samples.dtype
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples have the shape {shape}", "give [samples] or [samples, channels]")
    if kind.kind != "f" and kind.name not in _SCALES:
        raise AudioError(f"samples are of type {kind}", "give floating point in [-1, 1], int8, int16, int32 or uint8")
    if samples.ndim == 2 and shape[1] == 0:
        raise AudioError(f"samples of shape {shape} have no channel", "give [samples] or [samples, channels]")
    if samples.ndim == 2 and shape[1] > shape[0] > 0:
        raise AudioError(
            f"samples of shape {shape} would be {shape[1]} channels of {shape[0]}",
            "give [samples, channels]; transpose the array if it is [channels, samples]",
        )
    _check_rate(rate, "sample_rate")
    _check_length(shape[0], rate, settings, mix)
    values: NDArray[Any] = np.asarray(samples).reshape(shape[0], -1)
    if kind.kind == "f":
        return mix(values)
    values = values.astype(np.float32)
    if kind.name == "uint8":
        values -= 128
    return mix(values / np.float32(_SCALES[kind.name]))


def _check_rate(rate: Any, name: str) -> None:
    good = isinstance(rate, Real) and not isinstance(rate, bool) and LOWEST_RATE <= float(rate) <= HIGHEST_RATE
    if not good:  # NaN compares false
        raise AudioError(
            f"{name} gives a sample rate of {shown(rate)} Hz",
            f"wanted is the rate it was recorded at, {LOWEST_RATE} to {HIGHEST_RATE} Hz, such as 16000",
        )


def _check_length(frames: int, rate: float, settings: AudioSettings, mix: _Mix) -> None:
    seconds, name = frames / float(rate), mix.name
    if frames == 0:
        raise AudioError(f"{name} holds no samples", "record it again; the recorder may have been stopped too early")
    if seconds > settings.max_seconds:
        raise AudioError(
            f"{name} is {_spoken(seconds)} long, the limit is {_spoken(settings.max_seconds)}",
            "cut it to what is to be heard" if mix.stereo else "cut it to the words to search for",
        )
    if seconds < settings.min_seconds:
        samples = "1 sample" if frames == 1 else f"{frames} samples"
        raise AudioError(
            f"{name} is too short ({samples}, {_spoken(seconds)}), wanted are {_spoken(settings.min_seconds)} or more",
            "record more of it" if mix.stereo else "record a whole word",
        )


def _check_heard(samples: NDArray[Any], rate: float, floor: float, mix: _Mix) -> None:
    sides = samples.T if mix.stereo else [samples]
    level = max(loudness(side, rate) for side in sides)
    if level > floor:
        return
    heard = "sound" if mix.stereo else "speech"
    if mix.channels > len(sides) and mix.swing > 20 * floor:
        raise NoSpeechError(
            f"no {heard} heard in {mix.name}: its {mix.channels} channels cancel each other out",
            "give one channel alone, or turn the polarity of one round",
        )
    seen = f"{20 * math.log10(level):.0f} dBFS" if level > 0 else "digital silence"
    raise NoSpeechError(
        f"no {heard} heard in {mix.name} (loudest moment: {seen}, wanted: above {20 * math.log10(floor):.0f} dBFS)",
        "check the microphone and its level, and record again",
    )


def _normalise_utterance(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, variance = wave.mean(dtype=np.float64), wave.var(dtype=np.float64)
    normalised: NDArray[np.float32] = ((wave - mean) / np.sqrt(variance + 1e-5)).astype(np.float32)
    return normalised


def _spoken(seconds: float) -> str:
    """A duration for a message: ``1 h 0 min``, ``2 min 5 s``, ``20 s``, ``20.01 s``, ``50 ms``."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds:.6g} s" if seconds >= 1 else f"{1000 * seconds:.4g} ms"
