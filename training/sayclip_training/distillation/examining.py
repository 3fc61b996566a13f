"""What a student is examined on: held-out captions, and pictures where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.files import sha256_of
from sayclip.cli.output import Progress
from sayclip.errors import InputError
from sayclip_training.distillation import cache
from sayclip_training.distillation.captions import Caption
from sayclip_training.distillation.evaluation import BANK, ROWS, Examination, Pictures, unit
from sayclip_training.distillation.lessons import Lessons
from sayclip_training.distillation.teacher import Teacher


def prepare(checks: Lessons, lessons: Lessons, answers: NDArray[np.float32], pictures: Pictured | None) -> Examination:
    """An examination on ``checks``, or on ``lessons`` where none are held out.

    ``answers`` f32 [T,D]: what the teacher says of every text. The bank that is searched holds the texts of the checks,
    and as many others as there is room for. With ``pictures`` only captions of one of them count.
    """
    chosen = checks if len(checks) else lessons
    rows = [row for row in range(len(chosen)) if pictures is None or chosen.captions[row].file in pictures.place]
    if not rows:
        raise InputError("no caption to evaluate on has a picture", "leave out --pictures, or name their folder")
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]
    own = chosen.read[rows]
    bank = list(dict.fromkeys(own.tolist()))
    others = dict.fromkeys(lessons.read.tolist()).keys() - set(bank)
    bank += sorted(others)[: max(0, BANK - len(bank))]
    place = {text: number for number, text in enumerate(bank)}
    seen = None
    if pictures is not None:
        right = np.stack([pictures.meant(chosen.captions[row]) for row in rows])
        seen = Pictures(pictures.rows, right)
    return Examination(
        [chosen.ids[chosen.first[row], : chosen.length[chosen.first[row]]].tolist() for row in rows],
        [chosen.language[row] for row in rows],
        np.array([place[int(text)] for text in own]),
        unit(answers[bank]),
        seen,
    )


class Pictured:
    """The pictures that captions belong to, as the teacher's image encoder sees them: ``rows`` f32 [P,D]."""

    def __init__(self, teacher: Teacher, captions: Sequence[Caption], folder: Path, kept: Path) -> None:
        """Raises InputError for a teacher that sees none, and for a picture that is not in ``folder``."""
        if teacher.see is None:
            raise InputError(f"{teacher.name} has no image encoder", "leave out --pictures")
        files = list(dict.fromkeys(caption.file for caption in captions if caption.file))
        if not files:
            raise InputError("no caption names its picture", "give captions with a column called file")
        missing = next((file for file in files if not (folder / file).is_file()), None)
        if missing is not None:
            raise InputError(f"{folder / missing} is not there", "name the folder that the captions' files lie in")
        see = teacher.see

        def make(start: int, stop: int) -> NDArray[np.float32]:
            return see([folder / file for file in files[start:stop]])

        keys = [sha256_of(folder / file) for file in files]
        with Progress("pictures") as bar:
            self.rows = cache.rows(kept, "pictures", teacher.seen_by, keys, teacher.width, make, bar)
        self.place = {file: number for number, file in enumerate(files)}
        self._of_text: dict[str, set[int]] = {}
        for caption in captions:
            if caption.file:
                self._of_text.setdefault(caption.read.casefold(), set()).add(self.place[caption.file])

    def meant(self, caption: Caption) -> NDArray[np.bool_]:
        """Which pictures have this caption, bool [P]."""
        right = np.zeros(len(self.rows), bool)
        right[list(self._of_text[caption.read.casefold()])] = True
        return right
