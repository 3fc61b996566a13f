"""``sayclip train demo``: from Debian's packages to the demo distribution, every step resumable.

Pictures, strings and splits; synthesised speech; image and text encoders; pronunciation; speech; then the bundle and
the recorded queries. The score on the held-out voice is `sayclip bench demo`'s.
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

from sayclip.bundle.entries import G2P
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.models.phonetic import PhoneticBranch, PhoneticConfig, SpeechEncoder
from sayclip_export.models.picture import PictureConfig, PictureTower
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.models.text import PronunciationTower, TextConfig, TextTower
from sayclip_export.phonemes.chart import folded_matrix
from sayclip_export.readers.pronunciation import PronunciationCheckpoint, write_pronunciation
from sayclip_training import clip, corpus, demo_feeds, labels, phonetic, pronunciation, speech
from sayclip_training.demo_bundle import write
from sayclip_training.demo_data import names, pictures, queries, renders
from sayclip_training.demo_data.strings import Strings, trained_strings
from sayclip_training.demo_data.vocabulary import write_vocabulary
from sayclip_training.ranks import Rank, launch

WIDTH = 128


@dataclass(frozen=True)
class Budget:
    """How much of everything; the defaults are those of the committed bundle."""

    clip_steps: int = 1100
    text_steps: int = 800
    pronunciation_steps: int = 1000
    speech_steps: int = 12000
    phonetic_steps: int = 6500
    flite_names: int = 24
    flite_keywords: int = 9
    espeak_names: int = 18
    espeak_keywords: int = 9
    flite_mispronounced: int = 8
    espeak_mispronounced: int = 6


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
    layers = renders.layers(world.emoji)
    training = clip.ClipTraining(image, text, world.tokenizer, strings, layers, world.pixels, work)
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
    pronunciation.distil(student, teacher, bank, strings, ids, close, work, budget.pronunciation_steps)
    say("pronunciation done")

    heard, phonemes = labels.label(spoken.said.tolist(), work / "heard.json")
    sounds = PhonemeInventory(heard).size
    config = SpeechConfig(embedding=WIDTH, phonemes=sounds, dropout=0.1)
    what = (SpeechTower(config), spoken, validation, strings, teacher, bank, phonemes, work, budget.speech_steps)
    if workers > 1:
        launch(workers, speech.train, *what)  # leaves the finished state, which is then only loaded
    tower = speech.train(Rank(), *what)
    say("speech done")
    branch = PhoneticBranch(PhoneticConfig(sounds, embedding=WIDTH))
    alike = pronunciation.neighbours(heard)
    reads = (tower, branch, spoken, validation, strings, teacher, bank, alike, work, budget.phonetic_steps)
    if workers > 1:
        launch(workers, phonetic.train, *reads)
    encoder = SpeechEncoder(tower, phonetic.train(Rank(), *reads))
    say("phonetic branch done")

    history = f"{budget}; {len(spoken)} utterances"
    said = [ipa for ipa in world.ipa if ipa]
    trained = {
        "image": demo_feeds.image(image.fold(), world.pixels.numpy(), layers, history),
        "text": demo_feeds.text(text, world.tokenizer, strings.texts, history),
        "pronunciation": demo_feeds.pronunciation(student.folded(), world.phonemes, said, history),
        "speech": demo_feeds.speech(encoder.fold(), strings, history),
    }
    manifest = write(target / "bundle", work, trained, image.config.size, EspeakG2P().version, say)
    g2p = G2P("espeak-ng", EspeakG2P().version, pronunciation.LANGUAGES[0])
    pronounced = PronunciationCheckpoint(student, inventory, g2p, manifest.space, history)
    write_pronunciation(work / "pronunciation.safetensors", pronounced)
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
    """Training and validation speech as log-mel features.

    Every trained name, said well and mispronounced, and the keywords of several pictures.
    """
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
    swapped = corpus.plan(
        strings.texts,
        each(budget.flite_mispronounced, 0),
        each(budget.espeak_mispronounced, 0),
        mispronounced=True,
    )

    def progress(done: int, total: int) -> None:
        say(f"speech: shard {done} of {total}")

    spoken = corpus.build(jobs, work / "speech", workers, progress)
    return corpus.join(spoken, corpus.build(swapped, work / "mispronounced", workers, progress)), validation


def _optional(inventory: PhonemeInventory, ipa: str) -> list[list[int]]:
    """The ids of a transcript, unless it is empty or uses a segment that the first language lacks."""
    known = set(inventory.symbols) | {" "}
    return [inventory.encode(ipa)] if ipa and set(inventory.segments(ipa)) <= known else []
