"""How near a student is to its teacher on captions that it does not learn from, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sayclip_export.models.text import PronunciationTower
from sayclip_training.clip import pad_ids
from sayclip_training.distillation.student import features
from sayclip_training.losses import recall

AT_ONCE = 256
BANK = 5000  # texts that are searched, at most
ROWS = 4000  # pronunciations that are held against them, at most


@dataclass(frozen=True)
class Pictures:
    """``rows`` f32 [P,D] of length 1, and which of them each evaluated pronunciation means: bool [N,P]."""

    rows: NDArray[np.float32]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Examination:
    """Pronunciations to evaluate on and what the teacher says of them.

    ``ids``: N of them; ``language`` of each; ``own``: which row of ``texts`` f32 [T,D], of length 1, is its own text's.
    """

    ids: Sequence[Sequence[int]]
    language: Sequence[str]
    own: NDArray[np.int64]
    texts: NDArray[np.float32]
    pictures: Pictures | None = None

    def scores(self, student: PronunciationTower) -> dict[str, float]:
        """``cosine`` to the teacher, ``text_r1`` and ``text_r10`` among the teacher's texts, ``picture_r1`` and
        ``picture_r10``; the cosine and the last recall by language too where there are several."""
        said = unit(embed(student, self.ids))
        cosine = (said * self.texts[self.own]).sum(1)
        found = said @ self.texts.T
        right = self.own[:, None] == np.arange(len(self.texts))
        measures = {"cosine": float(cosine.mean()), **_recalls("text", found, right)}
        judged = found, right
        if self.pictures is not None:
            judged = said @ self.pictures.rows.T, self.pictures.right
            measures |= _recalls("picture", *judged)
        names = sorted(set(self.language))
        for name in names if len(names) > 1 else []:
            mine = np.array([language == name for language in self.language])
            measures[f"cosine_{name}"] = float(cosine[mine].mean())
            measures[f"r10_{name}"] = _recalls("", judged[0][mine], judged[1][mine])["_r10"]
        return measures

    def ceiling(self) -> dict[str, float]:
        """What the teacher's own texts find among the pictures; nothing without pictures."""
        if self.pictures is None:
            return {}
        return _recalls("teacher_picture", self.texts[self.own] @ self.pictures.rows.T, self.pictures.right)


def embed(student: PronunciationTower, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Embeddings f32 [N,D] of id sequences, before they are brought to length 1, in evaluation mode."""
    training = student.training
    student.eval()
    found = np.empty((len(rows), student.config.embedding), np.float32)
    order = np.argsort([len(row) for row in rows], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(rows), AT_ONCE):
            places = order[start : start + AT_ONCE]
            found[places] = features(student, *pad_ids([rows[place] for place in places])).numpy()
    student.train(training)
    return found


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [N,D] at length 1."""
    made: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return made


def _recalls(name: str, scores: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, float]:
    return {f"{name}_r{k}": recall(scores, right, min(k, scores.shape[1])) for k in (1, 10)}
