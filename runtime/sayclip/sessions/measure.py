"""How long sessions take for one input at a time, as a query comes in, measured so that they can be compared.

All of them get the same inputs in the same order, made of the bundle's own reference inputs: texts and pronunciations
cut to their own length, recordings as long as spoken queries are, and padded as the runtime pads them. Shapes soon
repeat, so every input is run twice, and the second run counts: the first one may prepare for the shape, and by then
another session's weights lie in the processor's caches.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sayclip.bundle.entries import AudioPreprocessing, EncoderEntry
from sayclip.errors import BackendError
from sayclip.sessions.base import Array, Session

METHOD = 2
"""Goes up when sessions are timed in another way, so that what was found before does not count."""
BUDGET_S = 3.0
"""For all runs of one encoder together, about; loading and checking are not in it."""
ROUNDS = 20
ENOUGH_ROUNDS, ENOUGH_S = 10, 0.25
"""After so many rounds and seconds it is enough, too; somebody waits for a first result."""
PROBE_LIMIT = 2.0
"""A session that takes this many times as long as the best for one warm run is not timed any further."""
_BRIEF_S = 0.05
_SPOKEN_S = 2.5
"""Seconds of a long query: recordings are that long at most, and half as long at least."""
_GOLDEN = 0.6180339887498949


@dataclass
class Trial:
    """A session, the seconds of one warm run, those of all timed runs, and those that finding all this out took."""

    session: Session
    probe: float
    spent: float = 0.0
    seconds: list[float] = field(default_factory=list)
    error: str = ""

    def percentile_ms(self, share: float) -> float:
        """Milliseconds that ``share`` per cent of the runs stayed within; where nothing was timed, of the probe."""
        return float(np.percentile(self.seconds or [self.probe], share)) * 1000.0


class Queries:
    """Single inputs of an encoder without end, made from reference inputs [n, …]; the same every time."""

    def __init__(self, entry: EncoderEntry, inputs: Mapping[str, Array]) -> None:
        self._inputs = inputs
        self._rows = min(len(array) for array in inputs.values())
        how = entry.preprocessing
        self._audio = how if isinstance(how, AudioPreprocessing) else None
        if self._audio is not None:
            self._inputs = _repeated(inputs, round(min(_SPOKEN_S, self._audio.max_seconds) * self._audio.sample_rate))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self._feeds(number) for number in itertools.count())

    def _feeds(self, number: int) -> dict[str, Array]:
        row = number % self._rows
        feeds = {name: array[row : row + 1] for name, array in self._inputs.items()}
        if "length" not in feeds:
            return feeds
        length = int(feeds["length"][0])
        width = length
        if self._audio is not None:
            length -= round((length - length // 2) * (number * _GOLDEN % 1.0))
            width = self._audio.padded(length)
        cut: dict[str, Array] = {}
        for name, array in feeds.items():
            if array.ndim > 1:
                kept = array[:, :length]
                cut[name] = np.zeros((1, width, *array.shape[2:]), array.dtype)
                cut[name][:, : kept.shape[1]] = kept
            else:
                cut[name] = array
        return {**cut, "length": np.full_like(feeds["length"], length)}


def _repeated(inputs: Mapping[str, Array], samples: int) -> dict[str, Array]:
    """Each recording over and over, until it has ``samples``."""
    rows = [np.resize(row[:length], samples) for row, length in zip(inputs["waveform"], inputs["length"], strict=True)]
    return {**inputs, "waveform": np.stack(rows), "length": np.full_like(inputs["length"], samples)}


def probe(session: Session, queries: Queries) -> Trial:
    """Time one warm run; two where they are brief, because much can disturb those. Raises BackendError."""
    start = time.perf_counter()
    feeds = next(iter(queries))
    session.run(feeds)
    seconds = _timed(session, feeds)
    if seconds < _BRIEF_S:
        seconds = min(seconds, _timed(session, feeds))
    return Trial(session, seconds, time.perf_counter() - start)


def time_rounds(trials: Sequence[Trial], queries: Queries, budget_s: float) -> None:
    """Run every trial's session once a round, until there were enough rounds or another would exceed ``budget_s``.

    A session that fails leaves, with its ``error`` told.
    """
    start = time.perf_counter()
    for number, feeds in zip(range(ROUNDS), queries, strict=False):
        spent = time.perf_counter() - start
        expected = 2.0 * sum(trial.probe for trial in trials) if number == 0 else spent / number
        if spent + expected > budget_s or (number >= ENOUGH_ROUNDS and spent > ENOUGH_S):
            break
        for trial in (trial for trial in trials if not trial.error):
            try:
                trial.session.run(feeds)
                trial.seconds.append(_timed(trial.session, feeds))
            except BackendError as error:
                trial.error = error.problem


def _timed(session: Session, feeds: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - start
