"""``sayclip train speech``: from pairs of recordings and pictures to a head on a speech encoder, frozen or not.

After the abstracts of Segmental SpeechCLIP (Bhati et al., Interspeech 2023 and arXiv 2309.04628) and after SpeechCLIP
(arXiv 2210.00705) and SpeechCLIP+ (arXiv 2402.06959); what the abstracts do not say is our own design. Every step is
kept on the disk and resumes where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import sayclip
from sayclip.cli.output import Progress
from sayclip_export.models.segmental import BranchHead, HeadConfig, SegmentalHead, SegmentalSpeech, build_head
from sayclip_export.models.segmental.encoder import seconds
from sayclip_export.readers.speech_head import SpeechHeadCheckpoint
from sayclip_training import workfolder
from sayclip_training.distillation import cache
from sayclip_training.heads import features, naming
from sayclip_training.heads.batches import Batches
from sayclip_training.heads.examination import Examination
from sayclip_training.heads.features import Features, LiveFeatures
from sayclip_training.heads.lesson import Batch, Learner
from sayclip_training.heads.listener import Listener, open_listener
from sayclip_training.heads.pairs import SHOWN, TRAIN, VALIDATION, Pairs, read_pairs
from sayclip_training.heads.pictures import look
from sayclip_training.heads.segmentation import segmentation
from sayclip_training.heads.settings import Settings
from sayclip_training.heads.sides import Sides, of_clip
from sayclip_training.loop import decayed, run

NAME = "speech"
_EVALUATIONS = 6
_CHECKED = 1000  # utterances that are evaluated on while training
_BROKEN = "broken"  # the split of pairs that cannot be used
TOWER_RATE = 0.1  # of the head's learning rate, for a speech encoder that learns too: it knows much, the head nothing


@dataclass(frozen=True)
class Trained:
    """The encoder, its measures by split, the seconds that training took this time, and how many numbers it learnt."""

    speech: SegmentalSpeech
    measures: dict[str, dict[str, float]]
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Material:
    """All that heads learn from: made once, for any number of them.

    ``live``: the speech encoder learns too, each time anew; ``heard`` is then log-mel and not its frames.
    """

    teacher: Sides
    listener: Listener
    pairs: Pairs
    heard: Features
    exam: Examination
    meaning: NDArray[np.int64]
    lines: list[str]
    kept: Path
    live: bool = False

    def exam_of(self, speech: SegmentalSpeech) -> Examination:
        """The examination as ``speech`` hears it; a frozen encoder's frames are known already."""
        return replace(self.exam, features=LiveFeatures(self.heard, speech.tower)) if self.live else self.exam

    def rows(self, split: str) -> list[int]:
        """The utterances of a split."""
        return [row for row, pair in enumerate(self.pairs.rows) if pair.split == split]

    def splits(self) -> list[str]:
        """All but what is learnt from, in the order of the table."""
        return [name for name in dict.fromkeys(pair.split for pair in self.pairs.rows) if name != TRAIN]


def gather(clip: str | Sides, speech: str, table: Path, kept: Path, *, unfreeze: bool = False) -> Material:
    """Read ``table``, hear its recordings and see its pictures, as far as ``kept`` has not got that already.

    ``clip``: whose both sides heads are learnt between, see ``of_clip``, or these sides themselves. ``unfreeze``: for a
    speech encoder that learns too. Raises InputError for a table of no use or a CLIP that cannot teach, and whatever
    opening the encoders raises.
    """
    pairs = read_pairs(table)
    teacher, listener = of_clip(clip) if isinstance(clip, str) else clip, open_listener(speech)
    with Progress("recordings") as bar:
        names = [pair.speech for pair in pairs.rows]
        heard = features.extract(pairs.folder, names, listener.source(live=unfreeze), kept, bar)
    files = list(dict.fromkeys(pair.picture for pair in pairs.rows if pair.speech not in heard.broken))
    with Progress("pictures") as bar:
        seen = look(pairs.folder, files, teacher.width, teacher.seen_by, teacher.see, kept, bar)
    place = {file: number for number, file in enumerate(seen.names)}
    meaning = np.array([place.get(pair.picture, -1) for pair in pairs.rows])
    exam = Examination(
        *(heard, pairs.rows, seen.embeddings, meaning, teacher.tokens),
        partial(_seconds, listener),
    )
    lost = heard.broken | seen.broken
    lines = [
        pairs.report(),
        _broken("recordings cannot be heard and", heard.broken),
        _broken("pictures cannot be seen, their pairs", seen.broken),
    ]
    rows = [replace(pair, split=_BROKEN) if {pair.speech, pair.picture} & lost.keys() else pair for pair in pairs.rows]
    lines = [line for line in lines if line]
    return Material(teacher, listener, replace(pairs, rows=rows), heard, exam, meaning, lines, kept, unfreeze)


def train_head(material: Material, settings: Settings, work: Path) -> Trained:
    """Learn one head; ``work`` holds what resumes.

    Raises InputError for too few pairs or too many units, and TrainingError for a ``work`` of another run or a loss
    that is no number.
    """
    teacher, listener = material.teacher, material.listener
    teacher.require_room({"slots": settings.slots, "keywords": HeadConfig.keywords})
    learnt, checked = material.rows(TRAIN), material.rows(VALIDATION)
    batches = Batches(learnt, material.meaning.tolist(), settings.batch, settings.seed, twins=settings.audio_only)
    names = [pair.speech for pair in material.pairs.rows]
    facts = {
        **asdict(settings),
        "teacher_sha256": teacher.sha256,
        "space": teacher.space,
        "speech": listener.identity,
        "unfreeze": material.live or None,  # a frozen run's folder need not say so
        "pairs_sha256": cache.digest([f"{pair.speech}\t{pair.picture}\t{pair.split}" for pair in material.pairs.rows]),
    }
    workfolder.hold(work, NAME, facts)
    started = time.monotonic()
    head = _begin(material, settings, work)
    known = {token for row in learnt for token in material.exam.tokens(material.pairs.rows[row].caption)}
    sayable = known or set(teacher.words)  # of what is known, SpeechCLIP's reduced vocabulary
    if sayable and head.reader is not None:
        head.reader.bar(set(range(teacher.tower.config.vocabulary)) - sayable)
    called = _names(material, settings, head, learnt)
    learner = Learner(head)
    speech = SegmentalSpeech(listener.tower, head, frozen=not material.live)
    modules: dict[str, nn.Module] = {"learner": learner}
    groups = decayed([parameter for parameter in learner.parameters() if parameter.requires_grad], 0.05)
    if material.live:
        modules["tower"] = speech.tower
        own = decayed(list(speech.tower.parameters()), 0.05)
        groups += [{**group, "lr": TOWER_RATE * settings.rate} for group in own]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate)
    exam = material.exam_of(speech)
    pictures = torch.from_numpy(exam.pictures)
    learner.train()

    def batch_of(rows: NDArray[np.int64]) -> Batch:
        frames, count = exam.features.batch(rows)
        meaning = torch.from_numpy(material.meaning[rows])
        named = None if called is None else torch.from_numpy(called[rows])
        return Batch(frames, count, meaning, pictures[meaning], listener.frame_seconds, named)

    def step(number: int) -> dict[str, float]:
        first, second = batches.draw(number)
        batch = batch_of(first)
        if settings.audio_only:
            batch = replace(batch, wanted=learner.means(batch_of(second)))
        parts, _ = learner.losses(batch, settings)
        torch.stack(list(parts.values())).sum().backward()
        return {name: part.item() for name, part in parts.items()}

    some = checked[:: max(1, len(checked) // _CHECKED)]
    run(
        NAME, work, modules, optimizer, settings.steps, step,
        warmup=max(1, min(200, settings.steps // 10)),
        evaluate=(lambda: exam.scores(head, some)) if some else None,
        evaluate_every=max(1, settings.steps // _EVALUATIONS),
        describe=lambda number: batches.describe(number, names),
        seed=settings.seed,
    )  # fmt: skip
    spent = time.monotonic() - started
    measures = {split: exam.scores(head, material.rows(split)) for split in material.splits() if split != _BROKEN}
    learnt_before = [] if not isinstance(head, SegmentalHead) or head.detector is None else head.detector.parameters()
    numbers = [p for group in groups for p in group["params"]] + list(learnt_before)
    return Trained(speech, measures, spent, sum(p.numel() for p in numbers))


def _begin(material: Material, settings: Settings, work: Path) -> BranchHead | SegmentalHead:
    """A head that has learnt nothing yet, but for the detector of a segmental one."""
    width, text = material.listener.width, material.teacher.tower
    net, threshold = None, HeadConfig.threshold
    if settings.head == "segmental":
        heard = LiveFeatures(material.heard, material.listener.tower) if material.live else material.heard
        rows = material.rows(TRAIN)
        net, threshold = segmentation(heard, rows, material.meaning, settings, material.kept, work)
    config = HeadConfig(
        width,
        text.config,
        hidden=settings.hidden,
        slots=settings.slots,
        threshold=threshold,
        detector=0 if net is None else settings.detector,
        layers=settings.layers,
        vocabulary=settings.vocabulary,
        dropout=settings.dropout,
    )
    torch.manual_seed(settings.seed)
    head = build_head(settings.head, config, text)
    if net is not None and isinstance(head, SegmentalHead) and head.detector is not None:
        head.detector.load_state_dict(net.state_dict())
        head.detector.requires_grad_(False)
    return head


def _names(
    material: Material, settings: Settings, head: BranchHead | SegmentalHead, learnt: Sequence[int]
) -> NDArray[np.int64] | None:
    """What units are to be called, see ``naming``; None without a vocabulary, or where nothing can tell.

    The encoder must end where the text side does, and stay as it is, and captions must tell which words there are.
    """
    teacher, listener = material.teacher, material.listener
    alike = teacher.read is not None and listener.space == teacher.space
    if settings.vocabulary == "none" or material.live or not alike:
        return None
    assert teacher.read is not None
    words = naming.words_of([material.pairs.rows[row].caption for row in learnt], teacher.tokens, teacher.read)
    if words is None:
        return None
    folder, kept = material.pairs.folder, material.kept
    picture = 0.0 if settings.audio_only else naming.PICTURE
    return naming.names(material.exam, folder, listener, words, head, learnt, kept, picture)


def checkpoint(material: Material, settings: Settings, trained: Trained) -> SpeechHeadCheckpoint:
    """What the file of a trained head holds. Recordings were heard whole, so silence is not to be cut off either."""
    rounded = {split: {k: round(v, 4) for k, v in found.items()} for split, found in trained.measures.items()}
    made: dict[str, Any] = {"recipe": f"sayclip train speech {sayclip.__version__}", "settings": asdict(settings)}
    if material.live:
        made["unfreeze"] = True
    history = json.dumps({**made, "measures": rounded})
    teacher = material.teacher
    return SpeechHeadCheckpoint(trained.speech, teacher.space, history, trim=False, words=teacher.words)


def _seconds(listener: Listener, edges: torch.Tensor, count: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    return seconds(edges, count, samples, listener.tower.config)


def _broken(what: str, broken: Mapping[str, str]) -> str:
    """A line on ``broken`` files and why they are, or ""."""
    if not broken:
        return ""
    shown = "; ".join(f"{name}: {why}" for name, why in list(broken.items())[:SHOWN])
    more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    return f"{len(broken)} {what} are left out: {shown}{more}"
