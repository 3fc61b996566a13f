"""Trains the demo's speech encoder against the frozen picture and text embeddings, on synthesised speech.

SpeechCLIP's parallel idea (Shih et al. 2022, arXiv 2210.00705): the embedding of an utterance is pulled to the picture
it means. Beside that: the text embedding of what is said, and CTC (Graves et al. 2006) on phonemes from a hidden state.
It is learnt first and alone, since words are learnt far faster from layers that hear phonemes, makes them hear words
rather than voices, and gives the phonetic branch what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sayclip_export.models.hubert import inside
from sayclip_export.models.layers import unit
from sayclip_export.models.phonetic import SpeechEncoder
from sayclip_export.models.speech import SpeechTower
from sayclip_training.augment import augment, rounded
from sayclip_training.corpus import Corpus, buckets
from sayclip_training.demo_data.strings import Strings
from sayclip_training.loop import decayed, run
from sayclip_training.losses import FrozenSpace
from sayclip_training.ranks import Rank

BATCH = 64  # utterances, of all processes together
LEARNING_RATE = 2e-3
LISTENING = 0.25  # the part of the run, its first, in which phonemes alone are learnt
HARDER = (0.4, 0.6)  # the part of the run over which augmentation grows: words are learnt first, then voices
SCALE = (10.0, 25.0)  # of the logits, over a quarter of the run from where words begin: over noise a sharp one stalls


def train(
    rank: Rank,
    tower: SpeechTower,
    corpus: Corpus,
    validation: Corpus,
    strings: Strings,
    texts: Tensor,
    pictures: Tensor,
    phonemes: Sequence[Sequence[int]],
    folder: Path,
    steps: int,
) -> SpeechTower:
    """Train for ``steps`` batches, as ``rank`` of several processes; returns the moving average of the weights.

    ``texts`` f32 [S,D] and ``pictures`` f32 [P,D]: the frozen space; ``phonemes``: ids of every utterance for CTC, none
    where they are unknown. Only the rank that leads has the average, and leaves it in ``folder``, from where a finished
    run is loaded.
    """
    average = AveragedModel(tower, multi_avg_fn=get_ema_multi_avg_fn(0.9992), use_buffers=True)
    space = FrozenSpace(strings, texts, pictures, np.unique(corpus.strings))
    optimizer = torch.optim.AdamW(decayed(list(tower.parameters()), 0.03), LEARNING_RATE, betas=(0.9, 0.98), fused=True)
    per_pass = len(corpus) // BATCH
    order: dict[int, list[np.ndarray]] = {}

    def picks(number: int) -> np.ndarray:
        turn = number // per_pass
        if turn not in order:
            order.clear()
            order[turn] = list(buckets(corpus, BATCH, np.random.default_rng(turn)))
        return order[turn][number % per_pass][rank.number :: rank.of]

    def step(number: int) -> dict[str, float]:
        tower.train()
        chosen = picks(number)
        rows = torch.from_numpy(corpus.strings[chosen].astype(np.int64))
        strength = min(1.0, max(0.0, number / steps - HARDER[0]) / (HARDER[1] - HARDER[0]))
        log_mel, counts = augment(*corpus.batch(chosen), strength)
        valid = inside(counts, log_mel.shape[1])
        scale = SCALE[0] + (SCALE[1] - SCALE[0]) * min(1.0, max(0.0, number / steps - LISTENING) / 0.25)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if number < LISTENING * steps:
                features, heard = None, tower.hear(log_mel, valid)
            else:
                features, states = tower.features(log_mel, valid)
                heard = tower.phoneme_scores(states)
        loss = ctc(heard, tower.frames(counts), [phonemes[pick] for pick in chosen])
        metrics = {"ctc": loss.item()}
        if features is not None:
            meant, parts = space.loss(unit(features.float()), rows, scale)
            loss, metrics = loss + meant, metrics | parts
        loss.backward()
        if rank.leads:
            average.update_parameters(tower)
        return metrics

    def scores() -> dict[str, float]:
        return space.scores(embed(_tower(average), validation), validation.strings)

    modules = {"tower": tower, "average": average}
    run("speech", folder, modules, optimizer, steps, step, warmup=400, evaluate=scores, evaluate_every=1000, rank=rank)
    return _tower(average)


def ctc(scores: Tensor, frames: Tensor, said: Sequence[Sequence[int]]) -> Tensor:
    """CTC loss a phoneme, averaged over utterances: ``scores`` f32 [B,T,P], blank first, ``frames`` i64 [B] of them.

    Utterances whose phonemes are unknown (empty) count for nothing.
    """
    lengths = torch.tensor([len(row) for row in said])
    targets = torch.tensor([number for row in said for number in row], dtype=torch.long)
    log_probability = scores.float().log_softmax(-1).transpose(0, 1)
    each = nn.functional.ctc_loss(log_probability, targets, frames, lengths, reduction="none", zero_infinity=True)
    known = lengths > 0
    return (each / lengths.clamp(min=1))[known].sum() / known.sum().clamp(min=1)


def _tower(average: AveragedModel) -> SpeechTower:
    assert isinstance(average.module, SpeechTower)
    return average.module


def embed(encoder: SpeechTower | SpeechEncoder, corpus: Corpus, batch: int = 128) -> Tensor:
    """Embeddings f32 [N,D] of a corpus in evaluation mode, without augmentation."""
    training = encoder.training
    encoder.eval()
    rows: list[Tensor] = []
    order = np.argsort(np.diff(corpus.offsets), kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            log_mel, counts = corpus.batch(chosen)
            log_mel = rounded(log_mel)
            rows.append(encoder.embedding(log_mel, inside(counts, log_mel.shape[1])))
    encoder.train(training)
    return torch.cat(rows)[torch.from_numpy(np.argsort(order, kind="stable"))].clone()
