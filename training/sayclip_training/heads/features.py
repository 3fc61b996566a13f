"""What the speech encoder hears in every recording, kept on the disk: heads are learnt from these alone.

Of a frozen encoder its frames are kept. Of one that learns too it is log-mel, which its weights do not touch: as fp16
that takes half of what 16-bit samples take, no step computes it again, and it is off by at most 2^-7 nats of the eleven
that the encoder tells apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip.bundle.files import sha256_of
from sayclip.errors import AudioError, NoSpeechError
from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip_export.models.hubert import inside
from sayclip_export.models.speech import SpeechTower
from sayclip_training.distillation import cache

AT_ONCE = 400  # recordings a file: what an interruption can lose
SHORTEST, LONGEST = 0.1, 20.0  # seconds
RATE = 16000
Hear = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float16]]]


@dataclass(frozen=True)
class Source:
    """What is kept of recordings: files called ``kind``, with ``hear(waves)``: f16 [T,width] of each f32 [S] at 16 kHz.

    ``identity``: all that this depends on beside the waves.
    """

    kind: str
    identity: str
    width: int
    hear: Hear


@dataclass(frozen=True)
class Features:
    """Frames f16 of N recordings end to end, [sum T,W]; ``offsets`` i64 [N+1]; ``seconds`` f64 [N], how long they are.

    ``broken``: names of recordings that cannot be heard, and why; these have no frames.
    """

    frames: NDArray[np.float16]
    offsets: NDArray[np.int64]
    seconds: NDArray[np.float64]
    broken: dict[str, str]

    def counts(self) -> NDArray[np.int64]:
        """How many frames each recording has, i64 [N]."""
        return np.diff(self.offsets)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Frames f32 [B,T,W], 0 past their count, and the counts i32 [B]."""
        counts = self.counts()[rows]
        block = np.zeros((len(counts), int(counts.max()), self.frames.shape[1]), np.float32)
        for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
            block[place, :count] = self.frames[self.offsets[row] : self.offsets[row] + count]
        return torch.from_numpy(block), torch.from_numpy(counts.astype(np.int32))


@dataclass(frozen=True)
class LiveFeatures:
    """As ``Features``, but of frames that ``tower`` makes of ``log_mel`` whenever they are asked for: it may learn."""

    log_mel: Features
    tower: SpeechTower

    @property
    def seconds(self) -> NDArray[np.float64]:
        """How long the recordings are, f64 [N]."""
        return self.log_mel.seconds

    def counts(self) -> NDArray[np.int64]:
        """How many frames of log-mel each recording has, i64 [N]."""
        return self.log_mel.counts()

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Frames f32 [B,T,W], which mean nothing past their count, and the counts i32 [B]."""
        log_mel, count = self.log_mel.batch(rows)
        return self.tower.mixed(log_mel, inside(count, log_mel.shape[1]))[0], self.tower.frames(count)


def extract(
    folder: Path,
    names: Sequence[str],
    source: Source,
    kept: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Features of the recordings ``names`` in ``folder``, read from ``kept`` as far as they are there.

    A recording that is damaged or holds no speech is reported in ``broken``.
    """
    width = source.width
    frames, counts, seconds = [np.empty((0, width), np.float16)], list[int](), list[float]()
    broken: dict[str, str] = {}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        keys = [sha256_of(folder / name) for name in some]
        path = kept / f"{source.kind}-{cache.digest([source.identity, str(width), *keys])}.npz"
        part = _load(path, width, len(some))
        if part is None:
            part = _hear([folder / name for name in some], width, source.hear)
            cache.keep_arrays(path, vars(part))
        frames.append(part.frames)
        counts += part.counts.tolist()
        seconds += part.seconds.tolist()
        broken |= {some[int(place)]: str(why) for place, why in zip(part.broken, part.why, strict=True)}
        progress(min(start + AT_ONCE, len(names)), len(names))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Features(np.concatenate(frames), offsets, np.array(seconds), broken)


@dataclass(frozen=True)
class _Part:
    frames: NDArray[np.float16]
    counts: NDArray[np.int64]
    seconds: NDArray[np.float64]
    broken: NDArray[np.int64]
    why: NDArray[np.str_]


def _hear(paths: Sequence[Path], width: int, hear: Hear) -> _Part:
    settings = AudioSettings(RATE, SHORTEST, LONGEST)
    waves, broken, why = list[NDArray[np.float32]](), list[int](), list[str]()
    for place, path in enumerate(paths):
        try:
            waves.append(read_audio(path, settings))
        except (AudioError, NoSpeechError) as error:
            waves.append(np.empty(0, np.float32))
            broken.append(place)
            why.append(error.problem)
    heard = iter(hear([wave for wave in waves if len(wave)]))
    found = [next(heard) if len(wave) else np.empty((0, width), np.float16) for wave in waves]
    return _Part(
        np.concatenate(found),
        np.array([len(one) for one in found], np.int64),
        np.array([len(wave) / RATE for wave in waves]),
        np.array(broken, np.int64),
        np.array(why, np.str_),
    )


def _load(path: Path, width: int, count: int) -> _Part | None:
    found = cache.kept_arrays(path, [field.name for field in fields(_Part)])
    if found is None:
        return None
    part = _Part(**found)
    good = part.frames.shape == (int(part.counts.sum()), width) and len(part.counts) == count
    return part if good and bool(np.isfinite(part.frames).all()) else None
