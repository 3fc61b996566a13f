"""Trains the speech encoder's phonetic branch on what the finished tower hears, its weights frozen.

The tower's phoneme posteriors of distorted training speech are computed once; then only the small branch learns, on
posteriors in which phonemes are confused with their neighbours on the IPA chart, dropped and added, as an unheard
speaker's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sayclip_export.models.hubert import inside
from sayclip_export.models.layers import unit
from sayclip_export.models.phonetic import PhoneticBranch, SpeechEncoder
from sayclip_export.models.speech import SpeechTower
from sayclip_training.augment import augment
from sayclip_training.corpus import Corpus, buckets
from sayclip_training.demo_data.strings import Strings
from sayclip_training.loop import run
from sayclip_training.losses import FrozenSpace
from sayclip_training.ranks import Rank
from sayclip_training.speech import SCALE, embed

BATCH = 128  # utterances, of all processes together
LEARNING_RATE = 2e-3
AVERAGE = 0.998  # of the weights, a step
CONFUSED, SPARED = 0.5, 0.2  # most mass that moves to neighbours; part of the utterances where none does
DROPPED, ADDED = 0.03, 0.015  # of the frames


@dataclass
class Heard:
    """Phoneme posteriors f16 [N,P] of utterances end to end, with offsets [U+1] and string index [U]."""

    posteriors: Tensor
    offsets: NDArray[np.int64]
    strings: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.strings)

    def batch(self, picks: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Posteriors f32 [B,T,P], zero past the end, and the mask f32 [B,T,1]."""
        counts = torch.from_numpy(self.offsets[picks + 1] - self.offsets[picks])[:, None]
        frame = torch.arange(int(counts.max()))[None, :]
        mask = (frame < counts).float()[:, :, None]
        at = torch.from_numpy(self.offsets[picks])[:, None] + torch.minimum(frame, counts - 1)
        return self.posteriors[at].float() * mask, mask


def hear(tower: SpeechTower, corpus: Corpus, batches: Sequence[NDArray[np.int64]], seed: int) -> Heard:
    """What ``tower`` makes of ``batches`` of ``corpus`` under augmentation of all strengths."""
    parts, counts, strings = [], [], []
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tower.eval()
    with torch.inference_mode():
        for chosen in batches:
            log_mel, frames = augment(*corpus.batch(chosen), float(rng.uniform()))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = tower.hear(log_mel, inside(frames, log_mel.shape[1]))
            heard = torch.softmax(scores.float(), dim=-1).half()
            kept = tower.frames(frames)
            parts += [row[:count] for row, count in zip(heard, kept.tolist(), strict=True)]
            counts.append(kept.numpy())
            strings.append(corpus.strings[chosen])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return Heard(torch.cat(parts).clone(), offsets, np.concatenate(strings))


def confuse(posteriors: Tensor, close: Tensor) -> Tensor:
    """Posteriors f32 [B,T,P] as a stranger's would be.

    In every utterance each phoneme loses some of its mass, the same share everywhere, to one of its neighbours
    ``close`` i64 [P,K]; single frames become blank or any phoneme.
    """
    batch, frames, phonemes = posteriors.shape
    share = torch.rand(batch, 1, 1) * CONFUSED * (torch.rand(batch, 1, 1) >= SPARED)
    choice = torch.randint(0, close.shape[1], (batch, phonemes))
    other = torch.nn.functional.one_hot(close[torch.arange(phonemes), choice], phonemes).float()
    moved = posteriors @ ((1 - share) * torch.eye(phonemes) + share * other)
    chance = torch.rand(batch, frames, 1)
    blank = torch.zeros(phonemes)
    blank[0] = 1.0
    anything = torch.nn.functional.one_hot(torch.randint(1, phonemes, (batch, frames)), phonemes).float()
    moved = torch.where(chance < DROPPED, blank, moved)
    return torch.where(chance > 1 - ADDED, anything, moved)


def train(
    rank: Rank,
    tower: SpeechTower,
    branch: PhoneticBranch,
    corpus: Corpus,
    validation: Corpus,
    strings: Strings,
    texts: Tensor,
    pictures: Tensor,
    close: Mapping[int, Sequence[int]],
    folder: Path,
    steps: int,
) -> PhoneticBranch:
    """Train ``branch`` for ``steps`` batches on what the frozen ``tower`` hears; returns its moving average.

    ``close``: ids of every phoneme's neighbours, equally many each. Otherwise as `sayclip_training.speech.train`.
    """
    average = AveragedModel(branch, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
    space = FrozenSpace(strings, texts, pictures, np.unique(corpus.strings))
    size = len(next(iter(close.values())))
    neighbours = torch.tensor([close.get(number, [number] * size) for number in range(branch.config.phonemes)])
    optimizer = torch.optim.AdamW(branch.parameters(), LEARNING_RATE, weight_decay=0.03, betas=(0.9, 0.98), fused=True)
    state: dict[str, Heard] = {}
    order: list[NDArray[np.int64]] = []

    def picks(number: int) -> tuple[Heard, NDArray[np.int64]]:
        if "heard" not in state:
            batches = list(buckets(corpus, 64, np.random.default_rng(0)))
            state["heard"] = hear(tower, corpus, batches[rank.number :: rank.of], rank.number)
        heard = state["heard"]
        size = min(BATCH // rank.of, len(heard))
        per_pass = len(heard) // size
        if not order or number % per_pass == 0:
            # One seed for all processes: batches of a step are about equally long, and nobody waits for the others.
            order[:] = buckets(heard, size, np.random.default_rng(number // per_pass))
        return heard, order[number % per_pass]

    def step(number: int) -> dict[str, float]:
        branch.train()
        heard, chosen = picks(number)
        torch.manual_seed(1_000_003 * number + 7919 * rank.number)
        posteriors, mask = heard.batch(chosen)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            read, _ = branch(confuse(posteriors, neighbours), mask)
        scale = SCALE[0] + (SCALE[1] - SCALE[0]) * min(1.0, number / (0.25 * steps))
        loss, metrics = space.loss(unit(read.float()), torch.from_numpy(heard.strings[chosen].astype(np.int64)), scale)
        loss.backward()
        if rank.leads:
            average.update_parameters(branch)
        return metrics

    def scores() -> dict[str, float]:
        return space.scores(embed(SpeechEncoder(tower, _branch(average)), validation), validation.strings)

    modules = {"branch": branch, "average": average}
    run("phonetic", folder, modules, optimizer, steps, step, warmup=100, evaluate=scores, evaluate_every=500, rank=rank)
    return _branch(average)


def _branch(average: AveragedModel) -> PhoneticBranch:
    assert isinstance(average.module, PhoneticBranch)
    return average.module
