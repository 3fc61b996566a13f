"""Which run a folder of work holds: one may be resumed only by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sayclip.bundle.entries import G2P
from sayclip.bundle.files import sha256_of
from sayclip_training import workfolder
from sayclip_training.distillation import cache
from sayclip_training.distillation.lessons import Lessons
from sayclip_training.distillation.settings import Settings
from sayclip_training.distillation.teacher import Teacher
from sayclip_training.loop import TrainingError

PHONEMES = "phonemes.json"
NAME = "pronunciation"  # of the run


def of(settings: Settings, teacher: Teacher, g2p: G2P, lessons: Lessons) -> dict[str, Any]:
    """All that the result of a run depends on, by name."""
    learnt = hashlib.sha256()
    for part in (lessons.ids, lessons.length, lessons.first, lessons.count, lessons.read):
        learnt.update(str(part.shape).encode() + part.tobytes())
    arm = asdict(settings.arm)
    rest = {key: value for key, value in asdict(settings).items() if key != "arm"}
    return {
        "teacher": teacher.name,
        "width": teacher.width,
        "teacher_sha256": teacher.sha256,
        "space": teacher.space,
        "g2p": f"{g2p.name} {g2p.version} {','.join(g2p.languages)}",
        **arm,
        **rest,
        "captions": len(lessons),
        "captions_sha256": cache.digest([learnt.hexdigest(), *(caption.read for caption in lessons.captions)]),
    }


def hold(work: Path, draft: Path, facts: Mapping[str, Any]) -> None:
    """Make ``work`` the folder of the run of ``facts``, whose inventory ``draft`` moves to ``phonemes.json``.

    Raises TrainingError where it holds the state of another run, or an inventory that is not that run's any more.
    """
    facts = {**facts, "phonemes_sha256": sha256_of(draft)}
    try:
        before = workfolder.require_same(work, NAME, facts)
        seen = sha256_of(work / PHONEMES) if (work / PHONEMES).is_file() else "none"
        if before is not None and seen != before["phonemes_sha256"]:
            wanted = str(before["phonemes_sha256"])[:12]
            raise TrainingError(
                f"{work / PHONEMES} has sha256 {seen[:12]}, the run began with {wanted}", workfolder.REMEDY
            )
    except TrainingError:
        draft.unlink()
        raise
    draft.replace(work / PHONEMES)
    workfolder.keep(work, facts)
