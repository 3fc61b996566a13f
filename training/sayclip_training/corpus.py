"""The spoken corpus: every trained name and keyword in many voices, kept as log-mel features in resumable shards."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sayclip.errors import InputError
from sayclip_export.models.speech import LogMel, SpeechConfig
from sayclip_training import hashed
from sayclip_training.synthesis import flite
from sayclip_training.synthesis.espeak import LANGUAGES, VARIANTS, Espeak, EspeakSettings, held_back
from sayclip_training.utterances import Utterance, speak

SHARD = 1500
PREFIXES = ("a ", "the ", "show me the ", "find a ", "find the ")


class HasOffsets(Protocol):
    """Utterances end to end."""

    offsets: NDArray[np.int64]


@dataclass
class Corpus:
    """Log-mel frames f16 of all utterances end to end, with offsets [N+1] and string index [N].

    ``said`` str [N]: IPA of every utterance as its voice says it, empty where unknown.
    """

    frames: NDArray[np.float16]
    offsets: NDArray[np.int64]
    strings: NDArray[np.int32]
    said: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.strings)

    def batch(self, picks: Sequence[int] | NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mel f32 [B,T,M] padded with its floor, and the number of frames i64 [B]."""
        counts = self.offsets[1:][picks] - self.offsets[:-1][picks]
        block = np.full((len(picks), int(counts.max()), self.frames.shape[1]), -18.0, np.float32)
        for row, (pick, count) in enumerate(zip(picks, counts, strict=True)):
            block[row, :count] = self.frames[self.offsets[pick] : self.offsets[pick] + count]
        return torch.from_numpy(block), torch.from_numpy(counts)


def plan(
    strings: Sequence[str], flite_each: Sequence[int], espeak_each: Sequence[int], *, mispronounced: bool = False
) -> list[Utterance]:
    """Training utterances: voices, speeds and pitches drawn from a generator seeded by the string itself."""
    variants = [v for v in VARIANTS if not held_back(v)]
    jobs = []
    for index, text in enumerate(strings):
        rng = np.random.default_rng(hashed.number(f"{'mispronounced' if mispronounced else 'train'} {text}"))
        for number in range(flite_each[index] + espeak_each[index]):
            said = str(rng.choice(PREFIXES)) + text if rng.random() < 0.08 else text
            voice: EspeakSettings | flite.FliteSettings
            if number < flite_each[index]:
                speed = float(rng.uniform(0.92, 1.38))
                stretch = float(rng.uniform(0.75, 1.15)) * speed**0.8
                name = flite.TRAINING_VOICES[number % len(flite.TRAINING_VOICES)]
                pitch = None if name == "rms" or rng.random() < 0.3 else float(rng.uniform(85, 240))  # rms ignores it
                voice = flite.FliteSettings(name, pitch, stretch)
            else:
                speed = float(rng.uniform(0.9, 1.15))
                voice = _espeak_voice(variants, rng)
            seed = int(rng.integers(2**31))
            jobs.append(Utterance(index, said, voice, speed, seed, mispronounced=mispronounced))
    return jobs


def validation_plan(strings: Sequence[str], picks: Sequence[int]) -> list[Utterance]:
    """One undistorted utterance a string in held-back espeak-ng voices, for choosing checkpoints and settings."""
    variants = [v for v in VARIANTS if held_back(v)]
    jobs = []
    for index in picks:
        rng = np.random.default_rng(hashed.number(f"validation {strings[index]}"))
        jobs.append(Utterance(index, strings[index], _espeak_voice(variants, rng), 1.0, 0, distorted=False))
    return jobs


def build(
    jobs: Sequence[Utterance], folder: Path, workers: int, progress: Callable[[int, int], None] | None = None
) -> Corpus:
    """Synthesise what is not there yet, a shard at a time, and load all. A stopped run loses one shard a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(jobs))  # every shard is a fair sample: training may start early
    parts = [[jobs[i] for i in order[start : start + SHARD]] for start in range(0, len(jobs), SHARD)]
    todo = [(part, folder / f"{number:04d}.npz") for number, part in enumerate(parts)]
    missing = [item for item in todo if not item[1].exists()]
    done = len(parts) - len(missing)
    if missing:
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers) as pool:
            for _ in pool.imap_unordered(_write_shard, missing):
                done += 1
                if progress:
                    progress(done, len(parts))
    return load([target for _, target in todo])


def load(shards: Sequence[Path]) -> Corpus:
    """Read shards into memory. Raises InputError for one of an older recipe."""
    frames, counts, strings, said = [], [], [], []
    for path in shards:
        with np.load(path, allow_pickle=False) as data:
            if "said" not in data.files:
                raise InputError(f"{path} holds no phonemes: an older recipe made it", f"remove {path.parent}")
            frames.append(data["frames"])
            counts.append(data["counts"])
            strings.append(data["strings"])
            said.append(data["said"])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return Corpus(np.concatenate(frames), offsets, np.concatenate(strings), np.concatenate(said))


def join(first: Corpus, second: Corpus) -> Corpus:
    """One corpus of both."""
    return Corpus(
        np.concatenate([first.frames, second.frames]),
        np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        np.concatenate([first.strings, second.strings]),
        np.concatenate([first.said, second.said]),
    )


@cache
def _espeak() -> Espeak:
    return Espeak()  # one a process: initialising the library again makes it hang


def _write_shard(item: tuple[list[Utterance], Path]) -> None:
    jobs, target = item
    torch.set_num_threads(1)
    espeak, front = _espeak(), LogMel(SpeechConfig())
    rows, counts, strings, said = [], [], [], []
    with torch.inference_mode():
        for job in jobs:
            spoken = speak(job, espeak)
            if spoken is None:
                continue
            wave = torch.from_numpy(spoken[0])[None]
            log_mel, _ = front(wave, torch.tensor([wave.shape[1]], dtype=torch.int32))
            strings.append(job.string)
            said.append(spoken[1])
            rows.append(log_mel[0].numpy().astype(np.float16))
            counts.append(len(rows[-1]))
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file, frames=np.concatenate(rows), counts=np.array(counts), strings=np.array(strings, np.int32),
            said=np.array(said, np.str_),
        )  # fmt: skip
    part.replace(target)


def _espeak_voice(variants: Sequence[str], rng: np.random.Generator) -> EspeakSettings:
    variant = str(rng.choice(variants))
    voice = str(rng.choice(LANGUAGES)) + (f"+{variant}" if variant else "")
    rate, pitch, pitch_range = rng.uniform(110, 220), rng.uniform(15, 85), rng.uniform(15, 80)
    return EspeakSettings(voice, int(rate), int(pitch), int(pitch_range))


def buckets(corpus: HasOffsets, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of utterance numbers of about equal length, in random order; one pass over the corpus."""
    counts = np.diff(corpus.offsets)
    order = np.argsort(counts + rng.uniform(0, 12, len(counts)), kind="stable")
    starts = rng.permutation(len(order) // batch) * batch
    for start in starts:
        yield order[start : start + batch]
