"""The detector of a segmental head, learnt before the head from recordings and from which of them mean the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip.cli.output import Progress
from sayclip.errors import InputError
from sayclip_export.models.segmental import HeadConfig
from sayclip_export.models.segmental.surroundings import Surroundings
from sayclip_training import workfolder
from sayclip_training.distillation import cache
from sayclip_training.distillation.cache import digest
from sayclip_training.heads import boundaries
from sayclip_training.heads.consensus import Alignment, Curves, agreed, align, between_voices, together
from sayclip_training.heads.features import Features, LiveFeatures
from sayclip_training.heads.recurrence import Spoken, recurrence
from sayclip_training.heads.settings import Settings

TAUGHT, MEASURED = 3600, 1500  # recordings that teach, and that the threshold is found on
LESSON = 2  # which way a net is taught: those that were taught another way are not read again
LESS_NOISE = 0.15  # in the second lesson, in which less is wrong
_AT_ONCE = 64


@dataclass(frozen=True)
class Recurrences:
    """Where recordings break off, see ``recurrence``, which of them say the same, and a hash of where it comes from."""

    identity: str
    breaks: Curves
    alignments: Sequence[Alignment]


def segmentation(
    heard: Features | LiveFeatures,
    rows: Sequence[int],
    meaning: NDArray[np.int64],
    settings: Settings,
    kept: Path,
    work: Path,
) -> tuple[Surroundings | None, float]:
    """What a detector looks at, None for the frames as they are, and its threshold.

    From the utterances ``rows``, as they are heard now; ``meaning`` i64 [N]: what each of all means. The threshold is
    that of ``settings``, or else the one by which a unit takes ``unit_seconds`` in the mean. ``kept``: what does not
    hang on the settings; ``work`` holds what resumes, of which TrainingError is raised where it is another run's.
    """
    net = None
    if settings.detector:
        net = _taught(heard, recurrences(heard, rows, meaning, kept), settings, kept, work)
    if settings.threshold is not None:
        return net, settings.threshold
    some = rows[:: max(1, len(rows) // MEASURED)]
    wanted = boundaries.expected(heard.seconds[some].tolist(), settings.unit_seconds)
    return net, boundaries.threshold(net, some, wanted, heard.batch, HeadConfig.eps)


def recurrences(
    heard: Features | LiveFeatures, rows: Sequence[int], meaning: NDArray[np.int64], kept: Path
) -> Recurrences:
    """What detectors are taught by, of some of the utterances ``rows``. Arguments as of ``segmentation``."""
    compared = spoken(heard, rows, meaning)
    chosen = _chosen(rows, meaning)
    alignments = align(compared.vectors, chosen, meaning)
    with Progress("recurrences") as bar:
        return Recurrences(compared.identity, recurrence(compared, chosen, kept, bar), alignments)


def _chosen(rows: Sequence[int], meaning: NDArray[np.int64]) -> list[int]:
    """Some of ``rows``, all of those that mean the same or none, until they are ``TAUGHT``; the same every time."""
    order = np.random.default_rng(0).permutation(np.unique(meaning[list(rows)]))
    place = dict(zip(order.tolist(), range(len(order)), strict=True))
    return sorted(rows, key=lambda row: (place[int(meaning[row])], row))[:TAUGHT]


def _taught(
    heard: Features | LiveFeatures, found: Recurrences, settings: Settings, kept: Path, work: Path
) -> Surroundings:
    """The net, taught once by recurrences and, where recordings say the same, once more by what these make of it.

    Read from ``kept`` where a head of the same detector was learnt before.
    """
    facts = {
        "recurrences": found.identity,
        "aligned": len(found.alignments),
        "lesson": LESSON,
        "detector": settings.detector,
        "unit_seconds": settings.unit_seconds,
        "seed": settings.seed,
    }
    path = kept / f"detector-{digest(f'{name} {value}' for name, value in facts.items())}.npz"
    rows = list(found.breaks)
    before = _kept(path, Surroundings(heard.batch(rows[:1])[0].shape[-1], settings.detector))
    if before is not None:
        return before
    work /= boundaries.NAME
    workfolder.hold(work, boundaries.NAME, facts)
    wanted = boundaries.expected(heard.seconds[rows].tolist(), boundaries.SURER * settings.unit_seconds)

    breaks = agreed(found.breaks, found.alignments)
    net = boundaries.learn(breaks, wanted, settings.detector, settings.seed, heard.batch, work)
    if found.alignments:
        # Its own opinion alone would teach it nothing new. That of other voices does.
        opinions = agreed(boundaries.leaps(net, rows, heard.batch), found.alignments)
        voices = between_voices(heard.batch, found.alignments)
        surer = (together(opinions, breaks), wanted, settings.detector, settings.seed, voices)
        net = boundaries.learn(*surer, work / "again", LESS_NOISE)
    cache.keep_arrays(path, {name: value.numpy() for name, value in net.state_dict().items()})
    return net


def _kept(path: Path, net: Surroundings) -> Surroundings | None:
    """``net`` with the weights that ``path`` holds, None where it holds none of use."""
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    found = cache.kept_arrays(path, list(shapes))
    if found is None or any(found[name].shape != tuple(shape) for name, shape in shapes.items()):
        return None
    net.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    return net.eval()


def spoken(heard: Features | LiveFeatures, rows: Sequence[int], meaning: NDArray[np.int64]) -> Spoken:
    """The utterances ``rows`` as they are heard now, ready to be compared.

    Raises InputError for frames that are no finite numbers.
    """
    frames: dict[int, Tensor] = {}
    made = hashlib.sha256()
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            for row, one, count in zip(some, *heard.batch(some), strict=True):
                frames[row] = one[:count].half()
                if not bool(frames[row].isfinite().all()):
                    raise InputError("what the speech encoder hears is no finite number", "name another with --speech")
                made.update(frames[row].numpy().tobytes())
    identity = digest([made.hexdigest(), *map(str, rows), *map(str, meaning[rows].tolist())])
    return Spoken(lambda row: frames[row].float(), rows, meaning, identity)
