"""Which inputs are used: as the seed says, each once, without those that cannot be read or say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError

Feed = dict[str, NDArray[Any]]
Progress = Callable[[int, "int | None"], None]

FEWEST = 8
"""So many usable inputs are needed: fewer do not show what range an activation takes, let alone what that costs."""


@dataclass(frozen=True)
class Source:
    """An input that may be used. Two that share one of their ``keys`` belong together, as a picture and its caption.

    ``read`` gives what the graph takes, for a batch of 1; it raises InputError.
    """

    name: str
    keys: frozenset[str]
    read: Callable[[], Feed] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Sample:
    """An input that was read: ``feed`` as the graph takes it, batch 1, not padded; ``sha256`` is over the feed."""

    name: str
    keys: frozenset[str]
    feed: Feed = field(repr=False, compare=False)
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """What one encoder is calibrated with (``calibration``) and judged by (``judged``); no input is in both."""

    calibration: tuple[Sample, ...]
    judged: tuple[Sample, ...]
    sources: tuple[Source, ...]
    """All there was to choose from."""
    left_out: tuple[tuple[str, str], ...]
    """Name and reason of each input that could not be used, of those that were looked at."""
    repeated: int
    """How many inputs were passed over because the same one had been read before."""

    @property
    def sha256(self) -> str:
        """Over all inputs used, in their order: the same hash means the same calibration."""
        digest = hashlib.sha256(f"{len(self.calibration)} ".encode())
        for sample in (*self.calibration, *self.judged):
            digest.update(bytes.fromhex(sample.sha256))
        return digest.hexdigest()


def choose(
    encoder: str, sources: Sequence[Source], option: str, samples: int, seed: int, progress: Progress | None = None
) -> Inputs:
    """Up to ``samples`` inputs to calibrate ``encoder`` with and as many others to judge it by; half each of fewer.

    The order is drawn by ``seed`` from the sources in the order of their names, and does not depend on other encoders.
    An input that cannot be used is replaced by the next one. Raises InputError when fewer than ``FEWEST`` are left;
    ``option`` is what gave them.
    """
    ordered = sorted(sources, key=lambda source: source.name)
    drawn = np.random.default_rng([seed, *encoder.encode()]).permutation(len(ordered))
    left_out: list[tuple[str, str]] = []
    good: list[Sample] = []
    known: set[str] = set()
    repeated = 0
    wanted = 2 * samples
    for place in drawn:
        if len(good) == wanted:
            break
        sample = _read(ordered[place], left_out)
        if sample is None:
            continue
        if sample.sha256 in known:
            repeated += 1
            continue
        known.add(sample.sha256)
        good.append(sample)
        if progress is not None:
            progress(len(good), min(wanted, len(ordered)))
    if len(good) < FEWEST:
        seen = f"{len(good)} usable inputs of {len(ordered)}"
        seen += f", {len(left_out)} left out" if left_out else ""
        seen += f", {repeated} the same as others" if repeated else ""
        why = f"; the first: {left_out[0][1]}" if left_out else ""
        raise InputError(f"{encoder}: {option} gives {seen}, wanted at least {FEWEST}{why}", f"give more with {option}")
    half = samples if len(good) == wanted else (len(good) + 1) // 2
    return Inputs(tuple(good[:half]), tuple(good[half:]), tuple(ordered), tuple(left_out), repeated)


def read_all(sources: Iterable[Source]) -> Iterator[Sample]:
    """Those of ``sources`` that can be used."""
    for source in sources:
        sample = _read(source, [])
        if sample is not None:
            yield sample


def _read(source: Source, left_out: list[tuple[str, str]]) -> Sample | None:
    try:
        feed = source.read()
        _check(source.name, feed)
    except InputError as error:
        left_out.append((source.name, str(error)))
        return None
    return Sample(source.name, source.keys, feed, _hash(feed))


def _check(name: str, feed: Feed) -> None:
    """Refuse what would say nothing about the range of an activation, or poison it."""
    for tensor, values in feed.items():
        if values.dtype.kind != "f":
            continue
        if not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise InputError(f"{name} becomes {count} NaN or infinite values", "save it again, or leave it out")
        planes = values.reshape(values.shape[1], -1) if values.ndim == 4 else values
        if values.ndim > 1 and not (planes.max(axis=1) > planes.min(axis=1)).any():
            raise InputError(f"{name} is constant: all of its {tensor} have one value", "give one with something in it")


def _hash(feed: Feed) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(feed.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
