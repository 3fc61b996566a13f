"""The recorded queries of the demo, spoken by flite's ``slt``, a voice that training never hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from sayclip_training.synthesis import flite

SAID = (
    "cat face",
    "red apple",
    "fire engine",
    "guitar",
    "hot beverage",
    "umbrella with rain drops",
    "smiling face with sunglasses",
    "birthday cake",
    "sailboat",
    "dog face",
    "full moon",
    "alarm clock",
    "fruit",
)


def write_queries(folder: Path) -> None:
    """Write ``NN-words.wav`` (16 kHz mono, 16 bit) and ``queries.tsv`` (file, what is said)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file\tsaid"]
    for number, said in enumerate(SAID, 1):
        wave, rate = flite.say(said, flite.FliteSettings(flite.HELD_OUT_VOICE))
        file = f"{number:02d}-{said.replace(' ', '-')}.wav"
        soundfile.write(folder / file, np.asarray(wave), rate, subtype="PCM_16")
        rows.append(f"{file}\t{said}")
    (folder / "queries.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
