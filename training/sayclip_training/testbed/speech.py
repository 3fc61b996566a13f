"""Recordings of the test bed: FLAC, 16 kHz, one channel, with the time of every word."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sayclip_training.synthesis.flite import FliteSettings
from sayclip_training.synthesis.flite_library import Flite
from sayclip_training.synthesis.timed import Timed
from sayclip_training.testbed.files import write
from sayclip_training.testbed.reading import espeak
from sayclip_training.testbed.voices import Recording

RATE = 16000
HEADER = ("file", "caption", "voice", "split", "words", "picture")
_PEAK = 0.5
_SHORTEST, _QUIETEST = 0.1, 0.01  # seconds, and of full scale: less is no speech


def speak(recording: Recording) -> Timed | None:
    """What the voice says, trimmed and at 16 kHz; None where it gives some word no sound or no time of its own."""
    if isinstance(recording.voice, FliteSettings):
        spoken = flite().say_timed(recording.words, recording.voice)
    else:
        spoken = espeak().say_timed(recording.words, recording.voice, recording.seed)
    if spoken is None or spoken.seconds < _SHORTEST or np.abs(spoken.wave).max() < _QUIETEST:
        return None
    return spoken.trimmed().resampled(RATE, recording.speed).scaled(_PEAK)


def record(recordings: Sequence[Recording], folder: Path) -> list[dict[str, Any]]:
    """Write the recordings and return, for each, its row of ``speech.tsv``, its sha256 and its samples.

    One that cannot be made is missing from the result.
    """
    rows = []
    for recording in recordings:
        spoken = speak(recording)
        if spoken is None:
            continue
        buffer = io.BytesIO()
        soundfile.write(buffer, spoken.wave, RATE, format="FLAC", subtype="PCM_16")
        rows.append(
            {
                "file": recording.file,
                "caption": recording.caption,
                "voice": recording.voice_name,
                "split": recording.split,
                "words": [[text, round(start, 4), round(end, 4)] for text, start, end in spoken.words],
                "sha256": write(folder / recording.file, buffer.getvalue()),
                "samples": len(spoken.wave),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as they stand in ``speech.tsv``: those of `record`, and the ``picture`` that each means."""
    lines = ["\t".join(HEADER)]
    for row in rows:
        cells = {**row, "words": json.dumps(row["words"], ensure_ascii=False)}
        lines.append("\t".join(cells[column] for column in HEADER))
    return "\n".join(lines) + "\n"


@cache
def flite() -> Flite:
    """The process's own instance: voices are loaded once."""
    return Flite()
