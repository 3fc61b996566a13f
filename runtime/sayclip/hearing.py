"""One run of the speech graph for all that it gives: the embedding of each recording, and the keywords in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.entries import AudioPreprocessing, EncoderEntry
from sayclip.sessions.base import Array
from sayclip.sessions.opened import OpenedEncoder
from sayclip.text.keywords import Keyword, keywords_heard

if TYPE_CHECKING:
    from sayclip.inputs.audio import AudioSettings


def hear(
    opened: OpenedEncoder, feeds: Mapping[str, Array], words: Mapping[int, str]
) -> list[tuple[NDArray[np.float32], tuple[Keyword, ...]]]:
    """The embedding, float32 [width] of length 1, and the keywords of every row of ``feeds``; ``words`` by token id.

    Raises BackendError for embeddings that `OpenedEncoder.run` would refuse, and for scores or times that are not
    finite.
    """
    outputs = opened.run_all(feeds)
    embeddings = opened.embeddings(outputs, len(next(iter(feeds.values()))))
    heard = [tuple(units) for units in keywords_heard(outputs, words)]
    numbers = [number for units in heard for unit in units for number in (unit.score, unit.start_s, unit.end_s)]
    if not all(number is None or math.isfinite(number) for number in numbers):
        raise opened.wrong("gave scores or times of keywords that are not finite, wanted finite ones")
    return list(zip(embeddings, heard, strict=True))


def located(
    units: tuple[Keyword, ...], source: Any, entry: EncoderEntry, sample_rate: int | None = None
) -> tuple[Keyword, ...]:
    """``units`` with times from the beginning of the recording ``source``, not of what was left after trimming it.

    ``source`` is read again where that makes a difference. ``entry``: that of the speech encoder.
    """
    settings = whole_settings(entry)
    if not settings.trim or all(unit.start_s is None for unit in units):
        return units
    from sayclip.inputs.whole_wave import lead_seconds, read_whole

    lead = lead_seconds(read_whole(source, settings, sample_rate=sample_rate), settings)
    return tuple(replace(unit, start_s=_later(unit.start_s, lead), end_s=_later(unit.end_s, lead)) for unit in units)


def whole_settings(entry: EncoderEntry) -> AudioSettings:
    """How the speech encoder of ``entry`` wants to hear recordings, but for their normalisation."""
    from sayclip.inputs.audio import AudioSettings

    how = entry.preprocessing
    assert isinstance(how, AudioPreprocessing)  # reading the manifest refuses any other
    return AudioSettings(how.sample_rate, how.min_seconds, how.max_seconds, trim=how.trim)


def _later(time: float | None, lead: float) -> float | None:
    return None if time is None else time + lead
