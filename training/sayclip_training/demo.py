"""``sayclip train demo``: from Debian's packages to the demo distribution, every step resumable.

Pictures, strings and splits; synthesised speech; image and text encoders; pronunciation; speech; then the bundle, the
recorded queries and the score on the held-out voice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.graphs import Feeds
from sayclip_export.models.picture import PictureConfig, PictureTower
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.models.text import PronunciationTower, TextConfig, TextTower
from sayclip_export.phonemes.chart import folded_matrix
from sayclip_training import clip, corpus, pronunciation, speech
from sayclip_training.demo_bundle import Trained, write
from sayclip_training.demo_data import names, pictures, queries, renders
from sayclip_training.demo_data.strings import Strings, trained_strings
from sayclip_training.demo_data.vocabulary import write_vocabulary
from sayclip_training.synthesis.espeak import Espeak

WIDTH = 128


@dataclass(frozen=True)
class Budget:
    """How much of everything; the defaults are those of the committed bundle."""

    clip_steps: int = 1100
    text_steps: int = 800
    pronunciation_steps: int = 1000
    speech_steps: int = 10200
    flite_names: int = 8
    flite_keywords: int = 3
    espeak_names: int = 20
    espeak_keywords: int = 6


@dataclass(frozen=True)
class World:
    """What all stages share: the emoji, what may be learnt, the pictures as the runtime sees them f32 [P,3,H,W]."""

    emoji: list[names.Emoji]
    split: names.Split
    strings: Strings
    pixels: torch.Tensor
    settings: PictureSettings
    tokenizer: Tokenizer
    ipa: list[str]
    phonemes: PhonemeInventory


def train_demo(target: Path, work: Path, budget: Budget, workers: int) -> None:
    """Train everything and write ``target`` (the package folder of ``sayclip-demo``); ``work`` holds what resumes."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {text}", file=sys.stderr, flush=True)

    torch.set_num_threads(workers)
    work.mkdir(parents=True, exist_ok=True)
    world = prepare(target, work)
    strings = world.strings
    say(
        f"{len(world.emoji)} pictures, {int(strings.is_name.sum())} trained names, {len(strings.texts)} trained strings"
    )
    spoken, validation = synthesise(world, work, budget, workers, say)
    say(f"{len(spoken)} utterances, {len(spoken.frames) / 360000:.1f} hours")

    torch.manual_seed(0)
    image = PictureTower(PictureConfig(embedding=WIDTH))
    text = TextTower(TextConfig(world.tokenizer.vocabulary_size, embedding=WIDTH, dropout=0.1))
    training = clip.ClipTraining(image, text, world.tokenizer, strings, renders.layers(world.emoji), world.pixels, work)
    training.contrastive(budget.clip_steps)
    training.finish_text(budget.text_steps)
    say(f"image and text: {training.scores()}")
    bank = training.embed_pictures()
    teacher = clip.embed_texts(text, world.tokenizer, strings.texts)

    inventory = json.loads((work / "phonemes.json").read_text(encoding="utf-8"))
    attributes = torch.from_numpy(folded_matrix(inventory))
    student = PronunciationTower(replace(text.config, vocabulary=len(attributes)), attributes)
    student.start_from(text)
    close = pronunciation.neighbours(inventory)
    second = pronunciation.transcribe(strings.texts, pronunciation.LANGUAGES[1])
    ids = [_optional(world.phonemes, a) + _optional(world.phonemes, b) for a, b in zip(world.ipa, second, strict=True)]
    first = [options[0] if options else [] for options in ids]
    pronunciation.distil(student, teacher, bank, strings, ids, close, work, budget.pronunciation_steps)
    say("pronunciation done")

    config = SpeechConfig(embedding=WIDTH, phonemes=len(attributes), dropout=0.1)
    tower = speech.train(
        SpeechTower(config), spoken, validation, strings, teacher, bank, first, work,
        budget.speech_steps,
    )  # fmt: skip
    say("speech done")

    history = f"{budget}; {len(spoken)} utterances"
    trained = {
        "image": _image(image.fold(), world, history),
        "text": _text(text, world, history),
        "pronunciation": _pronunciation(student.folded(), world, [row for row in first if row], history),
        "speech": _speech(tower, world, history),
    }
    write(target / "bundle", work, trained, image.config.size, EspeakG2P().version, say)
    queries.write_queries(target / "queries")
    say(f"wrote {target}")


def prepare(target: Path, work: Path) -> World:
    """Pictures, captions, splits, vocabulary and phonemes: quick, made anew at every start, always the same."""
    emoji = names.read_emoji()
    split = names.split(emoji)
    strings = trained_strings(emoji, split)
    if not (target / "pictures" / "captions.tsv").exists():
        pictures.write_pictures(emoji, target / "pictures")
    names.write_splits(emoji, split, target / "pictures" / "splits.json")
    settings = PictureSettings(PictureConfig().size, renders.MEAN, renders.STD)
    pixels = np.stack([read_picture(target / "pictures" / f"{item.stem}.webp", settings) for item in emoji])
    texts = list(strings.texts)
    if not (work / "tokenizer.txt").exists():
        write_vocabulary([*texts, *clip.PREFIXES * 3], work / "tokenizer.txt")
    ipa = pronunciation.transcribe(texts)
    pronunciation.make_inventory(work / "phonemes.json", ipa)
    return World(
        emoji,
        split,
        strings,
        torch.from_numpy(pixels),
        settings,
        Tokenizer.from_file(work / "tokenizer.txt"),
        ipa,
        PhonemeInventory.from_file(work / "phonemes.json"),
    )


def synthesise(
    world: World, work: Path, budget: Budget, workers: int, say: Callable[[str], None]
) -> tuple[corpus.Corpus, corpus.Corpus]:
    """Training and validation speech as log-mel features: every trained name, and the keywords of several pictures."""
    strings = world.strings
    checks = corpus.validation_plan(strings.texts, strings.names.tolist())
    validation = corpus.build(checks, work / "validation", workers)

    def each(named: int, keyword: int) -> list[int]:
        return np.where(strings.is_name, named, np.where(strings.common, keyword, 0)).tolist()

    jobs = corpus.plan(
        strings.texts,
        each(budget.flite_names, budget.flite_keywords),
        each(budget.espeak_names, budget.espeak_keywords),
    )
    spoken = corpus.build(jobs, work / "speech", workers, lambda done, total: say(f"speech: shard {done} of {total}"))
    return spoken, validation


def _optional(inventory: PhonemeInventory, ipa: str) -> list[list[int]]:
    """The ids of a transcript, unless it is empty or uses a segment that the first language lacks."""
    known = set(inventory.symbols) | {" "}
    return [inventory.encode(ipa)] if ipa and set(inventory.segments(ipa)) <= known else []


def _padded(rows: list[list[int]], name: str) -> Feeds:
    ids, length = clip.pad_ids(rows)
    return {name: ids.numpy(), "length": length.numpy()}


def _image(tower: PictureTower, world: World, history: str) -> Trained:
    pixels = world.pixels.numpy()
    picks = np.random.default_rng(0).permutation(len(pixels))
    torch.manual_seed(1)
    views = renders.views(renders.layers([world.emoji[i] for i in picks[:128]]), world.settings.size).numpy()
    feeds: list[Feeds] = [{"pixels": pixels[picks[i : i + 32]]} for i in range(0, 192, 32)]
    feeds += [{"pixels": views[i : i + 32]} for i in range(0, 128, 32)]
    return Trained(
        tower,
        feeds,
        {"pixels": pixels[picks[:4]]},
        lambda rng: {"pixels": pixels[rng.choice(len(pixels), int(rng.integers(1, 9)))]},
        history,
    )


def _text(tower: TextTower, world: World, history: str) -> Trained:
    texts = world.strings.texts
    rows = [world.tokenizer.encode(text) for text in texts]

    def random(rng: np.random.Generator) -> Feeds:
        some = [" ".join(texts[i] for i in rng.choice(len(texts), int(rng.integers(1, 6)))) for _ in range(4)]
        return _padded([world.tokenizer.encode(text) for text in some[: int(rng.integers(1, 5))]], "token_ids")

    return _token_encoder(tower, rows, "token_ids", random, history)


def _pronunciation(tower: TextTower, world: World, rows: list[list[int]], history: str) -> Trained:
    said = [ipa for ipa in world.ipa if ipa]

    def random(rng: np.random.Generator) -> Feeds:
        some = [" ".join(said[i] for i in rng.choice(len(said), int(rng.integers(1, 4)))) for _ in range(4)]
        return _padded([world.phonemes.encode(ipa) for ipa in some[: int(rng.integers(1, 5))]], "phoneme_ids")

    return _token_encoder(tower, rows, "phoneme_ids", random, history)


def _token_encoder(
    tower: TextTower, rows: list[list[int]], name: str, random: Callable[[np.random.Generator], Feeds], history: str
) -> Trained:
    order = np.random.default_rng(0).permutation(len(rows))[:384]
    feeds = [_padded([rows[i] for i in order[start : start + 32]], name) for start in range(0, len(order), 32)]
    return Trained(tower.eval(), feeds, _padded([rows[i] for i in order[:4]], name), random, history)


def _speech(tower: SpeechTower, world: World, history: str) -> Trained:
    """Calibration on undistorted and distorted utterances of the training and held-back espeak-ng voices."""
    strings = world.strings
    espeak = Espeak()
    rng = np.random.default_rng(0)
    picks = rng.choice(strings.names, 64, replace=False).tolist()
    jobs = corpus.validation_plan(strings.texts, picks[:24])
    jobs += [job for job in corpus.plan([strings.texts[i] for i in picks[24:]], [1] * 40, [1] * 40)]
    waves = [wave for job in jobs if (wave := corpus.speak(job, espeak)) is not None]
    feeds = [_waves(waves[i : i + 8]) for i in range(0, len(waves), 8)]

    def random(generator: np.random.Generator) -> Feeds:
        chosen = generator.choice(len(waves), int(generator.integers(1, 5)))
        return _waves([waves[i] * np.float32(generator.uniform(0.05, 1.5)) for i in chosen])

    return Trained(tower.eval(), feeds, _waves(waves[:4]), random, history)


def _waves(waves: list[np.ndarray]) -> Feeds:
    block = np.zeros((len(waves), max(map(len, waves))), np.float32)
    for row, wave in zip(block, waves, strict=True):
        row[: len(wave)] = wave
    return {"waveform": block, "length": np.array([len(wave) for wave in waves], np.int32)}
