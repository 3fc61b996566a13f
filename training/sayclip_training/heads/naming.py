"""The token that each unit is drawn to while a head with a vocabulary learns. No transcript is asked.

A speech encoder that ends in the text side's own space says of any stretch of sound what it means, so also of a unit
cut out of its recording. What it says of one is often wrong; what it says in the mean of all voices that say the same
picture, at the same sounds (`consensus`), is right more often than not, and more often still where the picture has a
say. The nearest of all words that occur in any caption gives its first token.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sayclip.cli.output import Progress
from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip_training.distillation import cache
from sayclip_training.distillation.evaluation import unit
from sayclip_training.distillation.teacher import Read
from sayclip_training.heads.consensus import agreed_units, align
from sayclip_training.heads.examination import Examination
from sayclip_training.heads.features import LONGEST, RATE, SHORTEST, Features
from sayclip_training.heads.listener import Listener
from sayclip_training.heads.objective import NONE
from sayclip_training.heads.segmentation import spoken

AROUND, SILENCE = RATE // 40, RATE // 20  # samples of what is said around a unit that are cut out too, and behind that
PICTURE = 0.4  # of its embedding, less the mean of all, that is added to what is said of a unit
_WORD = re.compile(r"\w[\w'’-]*")


@dataclass(frozen=True)
class Words:
    """Words that may be said: ``embeddings`` f32 [V,D] of length 1, and the token i64 [V] that stands for each."""

    embeddings: NDArray[np.float32]
    tokens: NDArray[np.int64]


def words_of(captions: Sequence[str], tokens: Callable[[str], list[int]], read: Read) -> Words | None:
    """The words that occur in ``captions``; None where there are none.

    ``tokens``: those of a text in the text side's vocabulary; ``read``: the embeddings of texts.
    """
    pieces = {word: tokens(word) for word in sorted({word for text in captions for word in _WORD.findall(text)})}
    pieces = {word: found for word, found in pieces.items() if found}
    if not pieces:
        return None
    return Words(unit(read(list(pieces))), np.array([found[0] for found in pieces.values()]))


def names(
    exam: Examination,
    folder: Path,
    listener: Listener,
    words: Words,
    head: nn.Module,
    rows: Sequence[int],
    kept: Path,
    picture: float = PICTURE,
) -> NDArray[np.int64]:
    """The token of each unit that ``head`` finds in utterances ``rows``, i64 [N,M] for all N, else ``NONE``.

    ``folder``: where recordings are, which the whole encoder of ``listener`` hears; what it says is kept in ``kept``.
    ``picture``: what say pictures have, see ``PICTURE``.
    """
    heard = exam.features
    assert isinstance(heard, Features)  # frames, which stay as they are
    edges = dict(zip(rows, exam.hear(head, rows).edges, strict=True))
    said = _said(exam, folder, listener, edges, kept)
    counts = heard.counts()
    lies_in = {row: _unit_of_frames(edges[row], int(counts[row]), listener.frame_seconds) for row in rows}
    compared = spoken(heard, rows, exam.picture)
    said = dict(agreed_units(said, lies_in, align(compared.vectors, rows, exam.picture)))
    found = np.full((len(counts), max(len(one) for one in said.values())), NONE)
    seen = picture * (exam.pictures - exam.pictures.mean(0))
    for row, embeddings in said.items():
        meant = unit(embeddings) + seen[exam.picture[row]]
        found[row, : len(embeddings)] = words.tokens[(meant @ words.embeddings.T).argmax(1)]
    return found


def _said(
    exam: Examination, folder: Path, listener: Listener, edges: dict[int, list[float]], kept: Path
) -> dict[int, NDArray[np.float32]]:
    """What the encoder says of each unit alone, f32 [K,D] by utterance."""
    units = [(row, *times) for row, found in edges.items() for times in itertools.pairwise(found)]
    made = {row: hashlib.sha256(exam.features.batch([row])[0].numpy().tobytes()).hexdigest() for row in edges}
    keys = [f"{made[row]} {start:.6f} {end:.6f}" for row, start, end in units]
    paths = {row: folder / exam.pairs[row].speech for row in edges}

    def make(start: int, stop: int) -> NDArray[np.float32]:
        return listener.say(list(_cut(units[start:stop], paths)))

    with Progress("words") as bar:
        found = cache.rows(kept, "said", listener.identity, keys, exam.pictures.shape[1], make, bar)
    ends = np.cumsum([len(one) - 1 for one in edges.values()])
    return dict(zip(edges, np.split(found, ends[:-1]), strict=True))


def _cut(units: Sequence[tuple[int, float, float]], paths: dict[int, Path]) -> Iterator[NDArray[np.float32]]:
    """Each unit as a wave f32 [S], with a little of what is around it, between silences."""
    settings, row, wave = AudioSettings(RATE, SHORTEST, LONGEST), None, np.empty(0, np.float32)
    for other, start, end in units:
        if other != row:
            row, wave = other, read_audio(paths[other], settings)
        yield np.pad(wave[max(0, int(start * RATE) - AROUND) : int(end * RATE) + AROUND], SILENCE)


def _unit_of_frames(edges: Sequence[float], count: int, frame_seconds: float) -> NDArray[np.int64]:
    """Which unit each of ``count`` frames lies in."""
    return np.searchsorted(np.array(edges[1:-1]), (np.arange(count) + 0.5) * frame_seconds)
