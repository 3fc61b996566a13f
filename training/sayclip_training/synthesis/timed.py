"""A recording that knows when each of its words is said, and goes on knowing it when it is cut or resampled.

The times come from the synthesiser, which decides them; whatever is done to the wave is done to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayclip_training.synthesis import distort


class SpokenWord(NamedTuple):
    """A word and the seconds, from the start of the recording, at which its sounds begin and end."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Timed:
    """``wave`` f32 [S] in [-1,1] at ``rate`` Hz, and its words in the order in which they are said."""

    wave: NDArray[np.float32]
    rate: int
    words: tuple[SpokenWord, ...]

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate

    def trimmed(self, margin: float = 0.04) -> Timed:
        """From ``margin`` seconds before the first word to where sound ends after the last (`distort.edges`).

        What a voice's noise sounds like before it speaks is cut off, however loud; no word is cut.
        """
        starts = max(0, round((self.words[0].start - margin) * self.rate))
        _, ends = distort.edges(self.wave, self.rate, margin)
        ends = min(len(self.wave), max(ends, math.ceil(self.words[-1].end * self.rate)))
        shift = starts / self.rate
        words = [SpokenWord(text, start - shift, end - shift) for text, start, end in self.words]
        return Timed(self.wave[starts:ends], self.rate, tuple(words))

    def resampled(self, rate: int, speed: float = 1.0) -> Timed:
        """At another rate; ``speed`` above 1 is faster and higher, below 1 slower and lower."""
        wave = self.wave
        if self.rate * speed != rate:
            wave = distort.resample(wave, self.rate * speed, rate)
        length = len(wave) / rate  # resampling rounds it to whole samples
        words = [
            SpokenWord(text, min(start / speed, length), min(end / speed, length)) for text, start, end in self.words
        ]
        return Timed(wave, rate, tuple(words))

    def scaled(self, peak: float) -> Timed:
        """With its loudest sample at ``peak``."""
        loudest = float(np.abs(self.wave).max(initial=1e-4))
        return Timed(self.wave * np.float32(peak / loudest), self.rate, self.words)
