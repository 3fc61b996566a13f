"""Recordings of made-up words, as frames: every word a random walk of its own, said with some noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip_training.heads.recurrence import Spoken

WIDTH, WORDS = 24, 14


@dataclass(frozen=True)
class Sayings:
    """Frames f32 [T,W] of every utterance, and where its words but the first begin."""

    frames: list[Tensor]
    starts: list[list[int]]

    def spoken(self) -> Spoken:
        """All of them, each of a meaning of its own."""
        rows = range(len(self.frames))
        return Spoken(lambda row: self.frames[row], rows, np.arange(len(self.frames)), f"made up {len(self.frames)}")

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Frames f32 [B,T,W], 0 past their count i32 [B]."""
        some = [self.frames[row] for row in rows]
        count = torch.tensor([len(one) for one in some], dtype=torch.int32)
        return torch.nn.utils.rnn.pad_sequence(some, batch_first=True), count

    def agreement(self, marks: dict[int, NDArray[np.float32]]) -> float:
        """F1 of boundaries that are marked, each within a frame of a right one."""
        hits = found = wanted = 0
        for row, one in marks.items():
            here = np.flatnonzero(one).tolist()
            hits += sum(any(abs(start - place) <= 1 for place in here) for start in self.starts[row])
            found, wanted = found + len(here), wanted + len(self.starts[row])
        return 2 * hits / (found + wanted)


def say(count: int, seed: int = 0) -> Sayings:
    """``count`` utterances of two to five words."""
    rng = np.random.default_rng(seed)
    words = [rng.normal(size=(int(rng.integers(9, 16)), WIDTH)).cumsum(0) / 2 for _ in range(WORDS)]
    frames, starts = [], []
    for _ in range(count):
        said = [words[number] for number in rng.integers(0, WORDS, int(rng.integers(2, 6)))]
        whole = np.concatenate(said)
        frames.append(torch.from_numpy((whole + rng.normal(0, 0.2, whole.shape)).astype(np.float32)))
        starts.append(np.cumsum([len(word) for word in said])[:-1].tolist())
    return Sayings(frames, starts)
