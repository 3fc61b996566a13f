"""Where words may end: where what recordings have in common breaks off.

A stretch of sound that comes back in other recordings goes on alike as long as the word lasts, and then differently
(the successors of Harris 1955, "From phoneme to morpheme"; recurring patterns in speech after Park and Glass 2008,
"Unsupervised pattern discovery in speech"). So for each stretch of a recording the most similar ones of others are
looked up, and it is measured how much less similar the frames behind them are, and those in front. Nothing but
recordings is asked, and which of them mean the same, as these share all their words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from sayclip_training.distillation import cache

STRETCHES = (7, 9)  # frames: 210 and 270 ms of the demo's; both together tell more than either
BEYOND = 4  # frames that a stretch may go on for
NEIGHBOURS, CANDIDATES = 30, 500
WIDTH, SHORT = 60, 64  # of frames that are compared, and of stretches that are searched
SAMPLE = 40_000  # frames that principal axes are taken from
MOST_FRAMES = 400_000  # that are searched
SEARCHED = 64  # stretches at once: of a long recording not all fit
AT_ONCE = 400  # recordings a file: what an interruption can lose
Frames = Callable[[int], Tensor]


@dataclass(frozen=True)
class Axes:
    """Principal axes f32 [W,V] of frames, and their ``middle`` f32 [W]."""

    middle: Tensor
    axes: Tensor

    def bring(self, frames: Tensor) -> Tensor:
        """Frames f32 [T,W] in these axes, of length 1, f32 [T,V]: what they have in common is their cosine."""
        return normalize((frames - self.middle) @ self.axes, dim=1, eps=1e-6)


@dataclass(frozen=True)
class Spoken:
    """What is searched: ``frames(row)`` f32 [T,W] of each of the utterances ``rows``, and what each ``means``."""

    frames: Frames
    rows: Sequence[int]
    means: NDArray[np.int64]
    identity: str

    def vectors(self, row: int) -> NDArray[np.float32]:
        """The frames of an utterance in these axes, f32 [T,V] of length 1."""
        found: NDArray[np.float32] = self.axes.bring(self.frames(row)).numpy()
        return found

    @cached_property
    def axes(self) -> Axes:
        """The principal axes of all frames, in which they are compared."""
        frames = torch.cat([self.frames(row) for row in self.rows])
        some = frames[:: max(1, len(frames) // SAMPLE)].double()
        middle = some.mean(0)
        found = torch.linalg.svd(some - middle, full_matrices=False)
        width = min(WIDTH, len(found.S))
        # Half way to white: the strongest axes are of loudness and voice, the weakest of noise.
        size = (found.S[:width] / len(some) ** 0.5).clamp(min=1e-6) ** 0.5
        return Axes(middle.float(), (found.Vh[:width].T / size).float())


class Bank:
    """All stretches of ``length`` frames in ``spoken``, brought to its axes."""

    def __init__(self, spoken: Spoken, length: int) -> None:
        self._axes, self.length = spoken.axes, length
        gap = torch.zeros(BEYOND, self._axes.axes.shape[1])  # behind the last frame of a recording nothing goes on
        parts, start = [gap], BEYOND
        places, means = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row in spoken.rows:
            frames = self._axes.bring(spoken.frames(row))
            if start + len(frames) > MOST_FRAMES:
                break
            starts = np.arange(max(0, len(frames) - length + 1))
            places.append(start + starts)
            means.append(np.full(len(starts), spoken.means[row]))
            parts += [frames, gap]
            start += len(frames) + BEYOND
        self._flat = torch.cat(parts)
        self._places = torch.from_numpy(np.concatenate(places))
        self._means = torch.from_numpy(np.concatenate(means))
        some = self._places[:: max(1, len(self._places) // (SAMPLE // 2))]
        stretches = torch.cat([self._flat[some + k] for k in range(length)], 1).double()
        found = torch.linalg.eigh(stretches.T @ stretches)[1]
        self._short = found[:, -SHORT:].float().contiguous()
        self._searched = normalize(self._shortened(self._flat, self._places), dim=1)

    def breaks(self, frames: Tensor, means: int) -> NDArray[np.float32]:
        """How much less alike what is in front and behind is, summed over both, f32 [T]; in front of frame t.

        ``frames`` f32 [T,W], of an utterance; what ``means`` the same is not compared with.
        """
        frames, length = self._axes.bring(frames), self.length
        found = np.zeros(len(frames), np.float32)
        stretches = len(frames) - length + 1
        if stretches < 2 or not len(self._places):
            return found
        starts = torch.arange(stretches)
        searched = [self._search(frames, some, means) for some in starts.split(SEARCHED)]
        place, inside = (torch.cat(parts) for parts in zip(*searched, strict=True))
        behind = self._beyond(frames, starts[:-1] + length, place[:-1] + length, 1)
        before = self._beyond(frames, starts[1:] - 1, place[1:] - 1, -1)
        found[length:] += (inside[:-1] - behind).numpy()
        found[1:stretches] += (inside[1:] - before).numpy()
        return found

    def _search(self, frames: Tensor, starts: Tensor, means: int) -> tuple[Tensor, Tensor]:
        """Where the stretches are that are most like those from ``starts`` on, i64 [S,N], and how much so, f32 [S]."""
        similar = normalize(self._shortened(frames, starts), dim=1) @ self._searched.T
        similar[:, self._means == means] = -2.0
        place = self._places[similar.topk(min(CANDIDATES, similar.shape[1]), sorted=False).indices]
        alike = torch.stack([_dots(frames[starts + k], self._flat[place + k]) for k in range(self.length)]).sum(0)
        best, chosen = alike.topk(min(NEIGHBOURS, alike.shape[1]))
        return place.gather(1, chosen), best.mean(1) / self.length

    def _beyond(self, frames: Tensor, here: Tensor, there: Tensor, way: int) -> Tensor:
        """The mean similarity of up to ``BEYOND`` frames from ``here`` and from ``there`` [S,N] on, f32 [S]."""
        total, count = torch.zeros(len(here)), torch.zeros(len(here))
        for step in range(BEYOND):
            at = here + way * step
            inside = (at >= 0) & (at < len(frames))
            dots = _dots(frames[at[inside]], self._flat[there[inside] + way * step])
            total[inside] += dots.mean(1)
            count[inside] += 1
        return total / count.clamp(min=1)

    def _shortened(self, frames: Tensor, starts: Tensor) -> Tensor:
        width = frames.shape[1]
        parts = [frames[starts + k] @ self._short[k * width : (k + 1) * width] for k in range(self.length)]
        return torch.stack(parts).sum(0)


def recurrence(
    spoken: Spoken,
    rows: Sequence[int],
    kept: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, NDArray[np.float32]]:
    """How far what recordings have in common breaks off in front of each frame of utterances ``rows``, f32 [T] each.

    Read from ``kept`` as far as it is there.
    """
    found: dict[int, NDArray[np.float32]] = {}
    banks: list[Bank] = []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        path = kept / f"recurrence-{cache.digest([spoken.identity, *map(str, some)])}.npz"
        sizes = [len(spoken.frames(row)) for row in some]
        part = _load(path, sum(sizes))
        if part is None:
            banks = banks or _banks(spoken)
            each = [sum(bank.breaks(spoken.frames(row), int(spoken.means[row])) for bank in banks) for row in some]
            part = np.concatenate([np.asarray(one, np.float32) for one in each])
            cache.keep_arrays(path, {"breaks": part})
        found |= dict(zip(some, np.split(part, np.cumsum(sizes)[:-1]), strict=True))
        progress(start + len(some), len(rows))
    return found


def _banks(spoken: Spoken) -> list[Bank]:
    return [Bank(spoken, length) for length in STRETCHES]


def _dots(one: Tensor, many: Tensor) -> Tensor:
    """The products of f32 [S,W] with f32 [S,N,W], f32 [S,N]."""
    return torch.bmm(many, one[:, :, None])[:, :, 0]


def _load(path: Path, count: int) -> NDArray[np.float32] | None:
    found = cache.kept_arrays(path, ["breaks"])
    if found is None:
        return None
    part: NDArray[np.float32] = found["breaks"]
    return part if part.shape == (count,) and part.dtype == np.float32 and bool(np.isfinite(part).all()) else None
