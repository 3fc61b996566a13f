"""The pronunciation encoder that learns: shaped like the teacher's text tower, and beginning as that where known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip.errors import InputError
from sayclip.phonemes.inventory import SPECIAL
from sayclip_export.models.text import PronunciationTower
from sayclip_training.distillation.teacher import Teacher

EMBEDDINGS = ("chart", "random")


@dataclass(frozen=True)
class Arm:
    """How phonemes are embedded.

    ``chart``: attributes of the IPA chart times a learnt matrix, plus, with ``residual``, a learnt vector a phoneme
    that begins at zero. ``random``: a learnt vector a phoneme that begins at random, without the chart.
    """

    embedding: str = "chart"
    residual: bool = True

    def __post_init__(self) -> None:
        if self.embedding not in EMBEDDINGS:
            raise InputError(f"embedding is {self.embedding!r}", f"give {' or '.join(EMBEDDINGS)}")
        if self.embedding == "random" and not self.residual:
            raise InputError("a random embedding has no residual to leave out", "leave out --no-residual")


def begin(
    teacher: Teacher, attributes: NDArray[np.float32], arm: Arm, *, seed: int = 0, dropout: float = 0.0
) -> PronunciationTower:
    """A student of ``teacher`` for phonemes with ``attributes`` f32 [V,K], in training mode; the same for each seed.

    Parameters that the arm does not learn need no gradient. The rows of special ids have no attributes: they are
    learnt in every arm, start and end of text from those of the teacher.
    """
    torch.manual_seed(seed)
    config = replace(teacher.sizes, vocabulary=len(attributes), dropout=dropout)
    student = PronunciationTower(config, torch.from_numpy(attributes))
    embedding, special = student.phonemes, len(SPECIAL)
    if teacher.tower is not None:
        student.start_from(teacher.tower)
    student.tower.token_embedding.requires_grad_(False)  # unused
    table = None if teacher.tower is None else teacher.tower.token_embedding.weight.detach()
    with torch.no_grad():
        deviation = 0.02 if table is None else float(table.std())
        if arm.embedding == "random":
            embedding.attribute_projection.zero_()
            embedding.residual.normal_(std=deviation)
        else:
            rows = embedding.attributes[special:]
            # So that the table's entries deviate as the teacher's do: a row adds up a few rows of the matrix.
            embedding.attribute_projection.normal_(std=deviation / float(rows.square().sum(1).mean().sqrt()))
            embedding.residual[:special].normal_(std=deviation)
        embedding.residual[SPECIAL["<pad>"]] = 0
        if table is not None:
            embedding.residual[SPECIAL["<sot>"]] = table[teacher.tokenizer.sot]
            embedding.residual[SPECIAL["<eot>"]] = table[teacher.tokenizer.eot]
    if arm.embedding == "random":
        embedding.attribute_projection.requires_grad_(False)
    elif not arm.residual:
        embedding.residual.register_hook(_only_first(special))
    return student.train()


def features(student: PronunciationTower, ids: Tensor, length: Tensor) -> Tensor:
    """Embeddings f32 [B,D] before they are brought to length 1, for ids i32 [B,L] and lengths i32 [B]."""
    return student.tower.features(student.phonemes(ids), length)


def features_by_length(student: PronunciationTower, ids: Tensor, length: Tensor, parts: int = 4) -> Tensor:
    """The same in ``parts`` of similar lengths, so that short pronunciations are not padded to the longest of all."""
    order = torch.argsort(length, stable=True)
    found = []
    for rows in order.chunk(min(parts, len(order))):
        longest = int(length[rows].max())
        found.append(features(student, ids[rows, :longest], length[rows]))
    return torch.cat(found)[torch.argsort(order)]


def _only_first(count: int) -> Callable[[Tensor], Tensor]:
    """Lets gradients through to the first ``count`` rows alone."""

    def kept(gradient: Tensor) -> Tensor:
        return torch.cat([gradient[:count], torch.zeros_like(gradient[count:])])

    return kept
