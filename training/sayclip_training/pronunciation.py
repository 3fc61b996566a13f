"""Distils the demo's pronunciation encoder from its frozen text encoder, IPA-CLIP-style.

After the abstract of IPA-CLIP (Matsuhira et al. 2023, arXiv 2303.03144): the student reads the phonemes of what the
teacher reads as text. Attributes of the IPA chart are the prior of its embedding; noise along the chart makes it
forgiving. Everything beyond the abstract is our own design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_export.models.text import PronunciationTower
from sayclip_export.phonemes.chart import load_chart, write_inventory
from sayclip_training.clip import pad_ids
from sayclip_training.demo_data.strings import Strings
from sayclip_training.loop import run
from sayclip_training.losses import bank_loss, recall

LANGUAGES = ("en-us", "en-gb")  # the first is what the bundle names; the second only adds variety
CLOSE = 4


def transcribe(texts: Sequence[str], language: str = LANGUAGES[0]) -> list[str]:
    """IPA of every text by espeak-ng."""
    return EspeakG2P(language)(list(texts))


def make_inventory(target: Path, transcripts: Sequence[str]) -> dict[str, Any]:
    """Write phonemes.json with ids for every segment that occurs in ``transcripts``."""
    chart = load_chart()
    everything = PhonemeInventory(write_inventory(target, chart, chart.symbols))
    used = {segment for ipa in transcripts if ipa for segment in everything.segments(ipa)}
    return write_inventory(target, chart, used)


def neighbours(inventory: Mapping[str, Any]) -> dict[int, list[int]]:
    """For every phoneme id the ids of its ``CLOSE`` nearest on the chart, nearest first."""
    chart = load_chart()
    ids = {entry["symbol"]: entry["id"] for entry in inventory["symbols"] if entry["id"] is not None}
    close: dict[int, list[int]] = {}
    for symbol, number in ids.items():
        others = sorted((other for other in ids if other != symbol), key=lambda o: chart.distance(symbol, o))
        close[number] = [ids[other] for other in others[:CLOSE]]
    return close


def with_noise(ids: Sequence[int], close: Mapping[int, list[int]], rng: np.random.Generator) -> list[int]:
    """Sometimes replace one or two segments by chart neighbours, drop one, or lose a word boundary."""
    noisy = list(ids)
    places = [i for i, number in enumerate(noisy) if number in close]
    if places and rng.random() < 0.45:
        for _ in range(1 if rng.random() < 0.75 else 2):
            at = int(rng.choice(places))
            options = close.get(noisy[at])
            if options:
                noisy[at] = options[0] if rng.random() < 0.5 else int(rng.choice(options))
    if len(places) > 4 and rng.random() < 0.06:
        del noisy[int(rng.choice(places))]
    if 3 in noisy and rng.random() < 0.08:
        noisy.remove(3)
    return noisy


def distil(
    student: PronunciationTower,
    teacher: Tensor,
    pictures: Tensor,
    strings: Strings,
    ids: Sequence[Sequence[Sequence[int]]],
    close: Mapping[int, list[int]],
    folder: Path,
    steps: int,
    batch: int = 256,
) -> None:
    """Train ``student`` on the phonemes of every string towards the teacher's embedding of it.

    ``teacher`` f32 [S,D] text embeddings; ``pictures`` f32 [P,D]; ``ids``: per string one id sequence a
    language, or none where there is nothing to say ("!").
    Loss: cosine distance to the teacher, and the retrieval that the embedding is for.
    """
    target, ignored = torch.from_numpy(strings.target), torch.from_numpy(strings.ignored)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.2e-3, weight_decay=0.02)
    sayable = np.flatnonzero([len(options) > 0 for options in ids])
    student.train()

    def step(number: int) -> dict[str, float]:
        rng = np.random.default_rng(20_000_000 + number)
        rows = rng.choice(sayable, batch)
        said = [ids[row][0 if rng.random() < 0.75 else int(rng.integers(len(ids[row])))] for row in rows]
        embedding = student(*pad_ids([with_noise(row, close, rng) for row in said]))
        index = torch.from_numpy(rows)
        distance = (1 - (embedding * teacher[index]).sum(-1)).mean()
        retrieval = bank_loss(30.0 * embedding @ pictures.T, target[index], ignored[index])
        (4.0 * distance + retrieval).backward()
        return {"distance": distance.item(), "to_image": retrieval.item()}

    def scores() -> dict[str, float]:
        names = strings.names
        rng = np.random.default_rng(1)
        right = strings.target[names] >= strings.target[names].max(1, keepdims=True)
        values = {}
        for label, noise in (("ipa_r1", False), ("one_off_r1", True)):
            rows = [nearest_swap(ids[i][0], close, rng) if noise else ids[i][0] for i in names]
            values[label] = recall((embed_phonemes(student, rows) @ pictures.T).numpy(), right, 1)
        return values

    run("pronunciation", folder, {"student": student}, optimizer, steps, step, evaluate=scores)


def nearest_swap(ids: Sequence[int], close: Mapping[int, list[int]], rng: np.random.Generator) -> list[int]:
    """Replace one random segment by its nearest neighbour on the chart."""
    places = [i for i, number in enumerate(ids) if number in close]
    swapped = list(ids)
    if places:
        at = int(rng.choice(places))
        swapped[at] = close[swapped[at]][0]
    return swapped


def embed_phonemes(tower: PronunciationTower, rows: Sequence[Sequence[int]]) -> Tensor:
    """Embeddings f32 [N,D] of id sequences in evaluation mode."""
    training = tower.training
    tower.eval()
    with torch.inference_mode():
        parts = [rows[i : i + 512] for i in range(0, len(rows), 512)]
        embeddings = torch.cat([tower(*pad_ids(part)) for part in parts])
    tower.train(training)
    return embeddings.clone()
