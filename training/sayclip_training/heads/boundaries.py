"""What teaches a detector where words end: breaks in what recordings have in common, as often as words are long.

SCPC's detector looks for leaps between neighbouring frames and finds phones. So that leaps come where words end, frames
pass a small net first (``Surroundings``), which learns to make them where `recurrence` breaks off, as far as other
voices agree (`consensus`). What that says is often wrong but seldom in the same way, so the net, which sees a few
frames alone, comes out better than its teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sayclip_export.models.hubert import inside
from sayclip_export.models.segmental.detector import dissimilarity, neighbours, rises
from sayclip_export.models.segmental.surroundings import NOISE, Surroundings, looked_at
from sayclip_training.loop import decayed, run

NAME = "detector"
STEPS, BATCH, RATE = 600, 64, 1e-3
OFTEN = 80  # times that each recording is seen at most, where there are few
SURER = 1.125  # how much longer words are taken for in what is taught: fewer boundaries, of which more are right
LEAST, MOST = 0.01, 0.99  # of a threshold
_AT_ONCE = 64
Batch = Callable[[list[int]], tuple[Tensor, Tensor]]


class Lesson(nn.Module):
    """The net, and how a cosine between neighbours becomes the odds of a boundary, which only training needs."""

    def __init__(self, width: int, detector: int) -> None:
        super().__init__()
        self.net = Surroundings(width, detector)
        self.slope, self.even = nn.Parameter(torch.tensor(6.0)), nn.Parameter(torch.tensor(0.5))

    def forward(self, frames: Tensor, mask: Tensor, taught: Tensor) -> Tensor:
        """The mean cross entropy with the boundaries ``taught`` f32 [B,T]."""
        odds = self.slope * (self.even - neighbours(self.net(frames, mask)))
        pairs = mask.clone()
        pairs[:, 0] = 0  # which has no predecessor
        loss = binary_cross_entropy_with_logits(odds, taught, reduction="none")
        return (loss * pairs).sum() / pairs.sum().clamp(min=1)


def expected(seconds: Sequence[float], word: float) -> float:
    """How many boundaries there are in recordings of so many ``seconds`` where a ``word`` takes so many."""
    return max(0.0, sum(seconds) / word - len(seconds))


def learn(
    breaks: Mapping[int, NDArray[np.float32]],
    boundaries: float,
    detector: int,
    seed: int,
    batch: Batch,
    work: Path,
    noise: float = NOISE,
) -> Surroundings:
    """A net of width ``detector``, taught the so many clearest ``boundaries`` of ``breaks``, f32 [T] by utterance.

    ``breaks``: what speaks for a boundary in front of each frame; ``batch``: frames f32 [B,T,W] of utterances, and
    their count, drawn anew in every step by PyTorch's own generator if at all; ``noise``: dropout of these. Resumes
    from ``work``.
    """
    rows = sorted(breaks)
    steps = min(STEPS, math.ceil(OFTEN * len(rows) / min(BATCH, len(rows))))
    marks = taught(breaks, boundaries)
    torch.manual_seed(seed)
    lesson = Lesson(batch(rows[:1])[0].shape[-1], detector)
    lesson.net.noise = noise
    optimizer = torch.optim.AdamW(decayed(list(lesson.parameters()), 0.05), lr=RATE)

    def step(number: int) -> dict[str, float]:
        rng = np.random.default_rng([seed, number])
        some = [rows[place] for place in rng.permutation(len(rows))[:BATCH]]
        frames, count = batch(some)
        right = torch.zeros(frames.shape[:2])
        for place, row in enumerate(some):
            right[place, : len(marks[row])] = torch.from_numpy(marks[row])
        loss: Tensor = lesson(frames, inside(count, frames.shape[1]).float(), right)
        loss.backward()
        return {"loss": loss.item()}

    lesson.train()
    run(NAME, work, {"lesson": lesson}, optimizer, steps, step, warmup=1, seed=seed)
    return lesson.net.eval()


def taught(breaks: Mapping[int, NDArray[np.float32]], boundaries: float) -> dict[int, NDArray[np.float32]]:
    """1 where ``breaks`` has one of its ``boundaries`` highest peaks, else 0, f32 [T] for each utterance."""
    peaks = {row: np.where(_is_peak(one), one, -np.inf) for row, one in breaks.items()}
    all_of_them = np.concatenate([one[np.isfinite(one)] for one in peaks.values()])
    count = min(max(0, round(boundaries)), len(all_of_them))
    least = np.sort(all_of_them)[len(all_of_them) - count] if count else np.inf
    return {row: (one >= least).astype(np.float32) for row, one in peaks.items()}


def leaps(net: Surroundings, rows: Sequence[int], batch: Batch) -> dict[int, NDArray[np.float32]]:
    """How far ``net`` sets each frame of the utterances ``rows`` apart from its predecessor, f32 [T], from 0 to 2."""
    found: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            some = list(rows[start : start + _AT_ONCE])
            frames, counts = batch(some)
            far = 1 - neighbours(net(frames, inside(counts, frames.shape[1]).float()))
            far[:, 0] = 0  # which has no predecessor
            found |= {row: one[:count].numpy() for row, one, count in zip(some, far, counts.tolist(), strict=True)}
    return found


def threshold(net: Surroundings | None, rows: Sequence[int], boundaries: float, batch: Batch, eps: float) -> float:
    """The threshold by which the detector finds so many ``boundaries`` in utterances ``rows``, behind ``net`` if any.

    Between ``LEAST`` and ``MOST``, whatever comes of it.
    """
    heights = []
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            frames, counts = batch(list(rows[start : start + _AT_ONCE]))
            mask = inside(counts, frames.shape[1]).float()
            vectors, flat = looked_at(net, frames, mask)
            near, wide = rises(*dissimilarity(vectors, mask, flat))
            heights.append(torch.maximum(near, wide)[near > eps].numpy())
    found = np.append(np.sort(np.concatenate(heights))[::-1], [0.0])
    count = min(max(1, round(boundaries)), len(found) - 1)
    # Half way to the next one, so that rounding changes no boundary.
    return float(np.clip((found[count - 1] + found[count]) / 2 - eps if count else MOST, LEAST, MOST))


def _is_peak(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    around = np.pad(values, 1, constant_values=np.inf)
    found: NDArray[np.bool_] = (values > 0) & (values >= around[:-2]) & (values > around[2:])
    return found
