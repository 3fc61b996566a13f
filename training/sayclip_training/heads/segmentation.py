"""The detector of a segmental head, learnt before the head from recordings alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from sayclip_training.distillation.cache import digest
from sayclip_training.heads import boundaries
from sayclip_training.heads.features import Features, LiveFeatures
from sayclip_training.heads.recurrence import Spoken, recurrence
from sayclip_training.heads.settings import Settings

TAUGHT, MEASURED = 3600, 1500  # recordings that teach, and that the threshold is found on
_AT_ONCE = 64


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
        identity, breaks = recurrences(heard, rows, meaning, kept)
        wanted = boundaries.expected(heard.seconds[list(breaks)].tolist(), boundaries.SURER * settings.unit_seconds)
        facts = {
            "recurrences": identity,
            "detector": settings.detector,
            "unit_seconds": settings.unit_seconds,
            "seed": settings.seed,
        }
        workfolder.hold(work / boundaries.NAME, boundaries.NAME, facts)
        net = boundaries.learn(breaks, wanted, settings.detector, settings.seed, heard.batch, work / boundaries.NAME)
    if settings.threshold is not None:
        return net, settings.threshold
    some = rows[:: max(1, len(rows) // MEASURED)]
    wanted = boundaries.expected(heard.seconds[some].tolist(), settings.unit_seconds)
    return net, boundaries.threshold(net, some, wanted, heard.batch, HeadConfig.eps)


def recurrences(
    heard: Features | LiveFeatures, rows: Sequence[int], meaning: NDArray[np.int64], kept: Path
) -> tuple[str, dict[int, NDArray[np.float32]]]:
    """What detectors are taught by, of some of the utterances ``rows`` (see ``recurrence``), and a hash of its origin.

    Arguments as of ``segmentation``.
    """
    spoken = _spoken(heard, rows, meaning)
    chosen = np.random.default_rng(0).permutation(np.array(rows))[:TAUGHT].tolist()
    with Progress("recurrences") as bar:
        return spoken.identity, recurrence(spoken, chosen, kept, bar)


def _spoken(heard: Features | LiveFeatures, rows: Sequence[int], meaning: NDArray[np.int64]) -> Spoken:
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
