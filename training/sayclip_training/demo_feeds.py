"""Inputs for the demo's graphs: those that calibrate int8, and others, unseen by it, that graphs are held against.

Both are real inputs and noise. Without noise among them, the int8 ranges fit real inputs alone, and an input unlike
them (hiss, a string of random tokens) would leave the graph as another embedding than in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.graphs import Feeds
from sayclip_export.models.phonetic import SpeechEncoder
from sayclip_export.models.picture import PictureTower
from sayclip_export.models.text import TextTower
from sayclip_export.speechclip_export import wave_feed
from sayclip_training import clip, corpus
from sayclip_training.demo_bundle import Trained
from sayclip_training.demo_data import renders
from sayclip_training.demo_data.strings import Strings
from sayclip_training.synthesis.espeak import Espeak
from sayclip_training.utterances import speak

Make = Callable[[np.random.Generator], Feeds]
NOISE = 8  # feeds of noise among those that calibrate


def image(tower: PictureTower, pixels: NDArray[np.float32], layers: Tensor, history: str) -> Trained:
    """Calibrated on 192 pictures and 128 augmented ones; checked on the others and on random pixels."""
    picks = np.random.default_rng(0).permutation(len(pixels))
    torch.manual_seed(1)
    views = renders.views(layers[picks[:128]], tower.config.size).numpy()
    feeds: list[Feeds] = [{"pixels": pixels[picks[i : i + 32]]} for i in range(0, 192, 32)]
    feeds += [{"pixels": views[i : i + 32]} for i in range(0, 128, 32)]

    def unseen(rng: np.random.Generator) -> Feeds:
        return {"pixels": pixels[rng.choice(picks[192:], int(rng.integers(1, 9)))]}

    def noise(rng: np.random.Generator) -> Feeds:
        shape = (int(rng.integers(1, 9)), *pixels.shape[1:])
        return {"pixels": rng.standard_normal(shape, np.float32)}

    return _trained(tower, feeds, {"pixels": pixels[picks[:4]]}, unseen, noise, history)


def text(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], history: str) -> Trained:
    """Calibrated on 384 names and keywords; checked on several of the others in a row and on random tokens."""
    rows = [tokenizer.encode(item) for item in texts]

    def spoken(numbers: NDArray[np.int64]) -> list[int]:
        return tokenizer.encode(" ".join(texts[i] for i in numbers))

    return _tokens(tower, "token_ids", rows, spoken, tokenizer.vocabulary_size, history)


def pronunciation(tower: TextTower, inventory: PhonemeInventory, ipa: Sequence[str], history: str) -> Trained:
    """The same over transcripts and random phonemes."""
    rows = [inventory.encode(item) for item in ipa]

    def spoken(numbers: NDArray[np.int64]) -> list[int]:
        return inventory.encode(" ".join(ipa[i] for i in numbers))

    return _tokens(tower, "phoneme_ids", rows, spoken, len(inventory.symbols), history)


def speech(encoder: SpeechEncoder, strings: Strings, history: str) -> Trained:
    """Calibrated on training voices, distorted, and held-back ones; checked on other names in them, and on noise."""
    espeak = Espeak()
    picks = np.random.default_rng(0).choice(strings.names, 84, replace=False).tolist()
    held_back = corpus.validation_plan(strings.texts, [*picks[:24], *picks[64:]])
    heard = corpus.plan([strings.texts[i] for i in picks[24:64]], [1] * 40, [1] * 40)
    waves = [spoken[0] for job in (*held_back[:24], *heard) if (spoken := speak(job, espeak)) is not None]
    others = [spoken[0] for job in held_back[24:] if (spoken := speak(job, espeak)) is not None]

    def unseen(rng: np.random.Generator) -> Feeds:
        chosen = rng.choice(len(others), int(rng.integers(1, 5)))
        return wave_feed([others[i] * np.float32(rng.uniform(0.05, 1.5)) for i in chosen])

    def noise(rng: np.random.Generator) -> Feeds:
        rows = rng.integers(1600, 80000, int(rng.integers(1, 5)))
        level = np.float32(10 ** rng.uniform(-2.5, -0.3))
        return wave_feed([rng.standard_normal(int(samples), np.float32) * level for samples in rows])

    feeds = [wave_feed(waves[i : i + 8]) for i in range(0, len(waves), 8)]
    return _trained(encoder.eval(), feeds, wave_feed(waves[:4]), unseen, noise, history)


def _tokens(
    tower: TextTower,
    name: str,
    rows: Sequence[list[int]],
    join: Callable[[NDArray[np.int64]], list[int]],
    symbols: int,
    history: str,
) -> Trained:
    order = np.random.default_rng(0).permutation(len(rows))
    feeds = [_padded([rows[i] for i in order[start : start + 32]], name) for start in range(0, 384, 32)]

    def unseen(rng: np.random.Generator) -> Feeds:
        some = [rng.choice(order[384:], int(rng.integers(1, 6))) for _ in range(int(rng.integers(1, 5)))]
        return _padded([join(numbers) for numbers in some], name)

    def noise(rng: np.random.Generator) -> Feeds:
        counts = rng.integers(2, 40, int(rng.integers(1, 5)))
        return _padded([rng.integers(0, symbols, int(count)).tolist() for count in counts], name)

    return _trained(tower.eval(), feeds, _padded([rows[i] for i in order[:4]], name), unseen, noise, history)


def _trained(
    module: nn.Module, feeds: Sequence[Feeds], reference: Feeds, unseen: Make, noise: Make, history: str
) -> Trained:
    calibrating = [noise(np.random.default_rng([0, i])) for i in range(NOISE)]
    checks = [make(np.random.default_rng([1, i])) for i in range(5) for make in (unseen, noise)]
    return Trained(module, [*feeds, *calibrating], reference, checks, history)


def _padded(rows: Sequence[list[int]], name: str) -> Feeds:
    ids, length = clip.pad_ids(list(rows))
    return {name: ids.numpy(), "length": length.numpy()}
