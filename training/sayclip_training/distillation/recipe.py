"""``sayclip train pronunciation``: from captions and a CLIP to the file that ``sayclip export pronunciation`` takes.

After the abstract of IPA-CLIP (Matsuhira et al. 2023, arXiv 2303.03144), which distils CLIP's text encoder into one of
pronunciation with the IPA chart as a prior. Its method could not be read; the rest is our own design, in the manner
of Multilingual-CLIP (Carlsson et al. 2022) for the loss. Every step is kept on the disk and resumes where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import sayclip
from sayclip.cli.output import Progress
from sayclip.errors import InputError
from sayclip_export.models.text import PronunciationTower
from sayclip_export.phonemes.chart import folded_matrix
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.pronunciation import PronunciationCheckpoint, write_pronunciation
from sayclip_training.distillation import cache, examining, identity
from sayclip_training.distillation.captions import TRAIN, VALIDATION, Caption, read_captions
from sayclip_training.distillation.evaluation import Examination
from sayclip_training.distillation.lessons import Lessons, gather
from sayclip_training.distillation.noise import confusion, with_noise
from sayclip_training.distillation.settings import Settings
from sayclip_training.distillation.speaking import say
from sayclip_training.distillation.student import begin, features_by_length
from sayclip_training.distillation.symbols import choose
from sayclip_training.distillation.teacher import Teacher, open_teacher
from sayclip_training.loop import decayed, run

NAME = "pronunciation"
_RATE = 1.2e-3 * 128  # learning rate times the width of the student
_EVALUATIONS = 10


@dataclass(frozen=True)
class Trained:
    """What came of it: the last measures on held-out captions, and the seconds that training took this time."""

    measures: dict[str, float]
    seconds: float
    parameters: int


def train_pronunciation(
    clip: str,
    captions: Sequence[str],
    out: Path,
    work: Path,
    settings: Settings,
    *,
    languages: Sequence[str] = (),
    pictures: Path | None = None,
    kept: Path | None = None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
    say_line: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train a pronunciation encoder for the space of ``clip`` and write it to ``out``.

    ``captions``: files, as ``read_captions`` takes them; ``languages``: of captions that have none. ``pictures``: the
    folder that the captions' files lie in, to evaluate on. ``work`` holds what resumes; IPA and the teacher's answers
    are kept in ``kept``, by default in ``work``. ``say_line`` is given one line a step.

    Raises InputError for captions of no use, MissingDependencyError without espeak-ng, TrainingError for a ``work`` of
    another run or a loss that is no number, and whatever ``open_teacher`` raises.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} is a folder, or in one that is not there", "name a file, such as p.safetensors")
    kept = kept or work
    read = read_captions(captions)
    with Progress("phonemes") as bar:
        said = say(read, languages, kept, stress=settings.stress, progress=bar)
    taken = [i for i, caption in enumerate(read) if caption.split in (TRAIN, VALIDATION)]
    _require(read, taken, said.spoken)
    teacher = open_teacher(clip, overrides, vocabulary)
    work.mkdir(parents=True, exist_ok=True)
    trained = [i for i in taken if read[i].split == TRAIN]
    held = [i for i in taken if read[i].split == VALIDATION]
    draft = work / f"{identity.PHONEMES}.new"
    symbols = choose(
        (ipa for i in trained for _, ipa in said.spoken[i]),
        (ipa for i in held for _, ipa in said.spoken[i]),
        draft,
        stress=settings.stress,
        length=settings.length,
    )
    texts: dict[str, int] = {}
    lessons, checks = (
        gather([read[i] for i in part], [said.spoken[i] for i in part], symbols, teacher.sizes.context, texts)
        for part in (trained, held)
    )
    for line in (
        f"teacher {teacher.name} ({teacher.kind}), width {teacher.width}, space {teacher.space}",
        _start(teacher),
        f"{len(lessons)} captions to learn and {len(checks)} held out, of {len(read)}; "
        f"{len(symbols.content['symbols'])} symbols on the chart, {len(folded_matrix(symbols.content))} ids; "
        f"{said.g2p.name} {said.g2p.version}, {', '.join(said.g2p.languages)}",
        *symbols.report,
        *_silent([read[i] for i in taken], [said.spoken[i] for i in taken]),
    ):
        say_line(line)
    identity.hold(work, draft, identity.of(settings, teacher, said.g2p, lessons))
    answers = _answers(teacher, list(texts), kept)
    student = begin(teacher, folded_matrix(symbols.content), settings.arm, seed=settings.seed, dropout=settings.dropout)
    seen = None if pictures is None else examining.Pictured(teacher, read, pictures, kept)
    exam = examining.prepare(checks, lessons, answers, seen)
    started = time.monotonic()
    _learn(student, teacher, lessons, torch.from_numpy(answers), symbols.content, exam, work, settings)
    seconds = time.monotonic() - started
    measures = {**exam.scores(student), **exam.ceiling()}
    history = {
        "recipe": f"sayclip train pronunciation {sayclip.__version__}",
        "teacher": teacher.name,
        "settings": asdict(settings),
        "captions": len(lessons),
        "measures": {key: round(value, 4) for key, value in measures.items()},
    }
    checkpoint = PronunciationCheckpoint(
        student.eval(), symbols.content, said.g2p, teacher.space, json.dumps(history, ensure_ascii=False)
    )
    write_pronunciation(out, checkpoint)
    return Trained(measures, seconds, sum(p.numel() for p in student.parameters() if p.requires_grad))


def _require(captions: Sequence[Caption], taken: Sequence[int], spoken: Sequence[Sequence[tuple[str, str]]]) -> None:
    if not any(captions[i].split == TRAIN for i in taken):
        raise InputError("no caption is in the split train", "mark some, or leave out the column split")
    if not any(ipa for i in taken for _, ipa in spoken[i]):
        first = captions[taken[0]]
        raise InputError(
            f"no caption holds anything to say, such as {first.text[:40]!r} ({first.place})",
            "give captions that espeak-ng can read aloud",
        )


def _silent(captions: Sequence[Caption], spoken: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """A line on the captions that hold nothing to say, if there are any."""
    silent = [caption for caption, said in zip(captions, spoken, strict=True) if not any(ipa for _, ipa in said)]
    if not silent:
        return []
    return [f"{len(silent)} captions hold nothing to say and are left out, such as {silent[0].place}"]


def _start(teacher: Teacher) -> str:
    if teacher.tower is not None:
        return "the student begins with the teacher's weights"
    sizes = teacher.sizes
    return (
        f"the teacher's weights are not known, so the student begins at random: {sizes.layers} layers, "
        f"width {sizes.width}, {sizes.heads} heads"
    )


def _answers(teacher: Teacher, texts: Sequence[str], kept: Path) -> NDArray[np.float32]:
    """What the teacher says of ``texts``, f32 [T,D]."""

    def make(start: int, stop: int) -> NDArray[np.float32]:
        return teacher.read(texts[start:stop])

    key = f"{teacher.sha256} unit={teacher.unit}"
    with Progress("teacher") as bar:
        found = cache.rows(kept, "teacher", key, texts, teacher.width, make, bar)
    return found


def _learn(
    student: PronunciationTower,
    teacher: Teacher,
    lessons: Lessons,
    answers: Tensor,
    content: dict[str, Any],
    exam: Examination,
    work: Path,
    settings: Settings,
) -> None:
    """Train ``student`` towards ``answers`` f32 [T,D]."""
    rate = settings.rate or _RATE / student.config.width
    learnt = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(decayed(learnt, 0.02), lr=rate)
    table = confusion(content)
    student.train()

    def step(number: int) -> dict[str, float]:
        ids, length, rows = lessons.batch(settings.seed, number, settings.batch)
        given = features_by_length(student, with_noise(ids, table, settings.noise), length)
        loss = distance(given, answers[lessons.read[rows]], settings.loss, teacher.unit)
        loss.backward()
        return {"loss": loss.item()}

    run(
        NAME,
        work,
        {"student": student},
        optimizer,
        settings.steps,
        step,
        warmup=max(1, min(100, settings.steps // 10)),
        evaluate=lambda: exam.scores(student),
        evaluate_every=max(1, settings.steps // _EVALUATIONS),
        describe=lambda number: lessons.describe(settings.seed, number, settings.batch),
        seed=settings.seed,
    )


def distance(given: Tensor, wanted: Tensor, loss: str, unit: bool) -> Tensor:
    """The mean distance of embeddings f32 [B,D] to the teacher's, by ``LOSSES``.

    ``mse``: mean squared difference before either is brought to length 1, or after it where the teacher gives them so
    (``unit``). ``cosine``: one less the cosine.
    """
    if loss == "cosine":
        return (1 - functional.cosine_similarity(given, wanted, dim=-1)).mean()
    return (((functional.normalize(given, dim=-1) if unit else given) - wanted) ** 2).mean()
