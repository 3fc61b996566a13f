"""flite as a synthesiser, through the ``flite`` command (Debian ``flite``, MIT-like licence).

Training uses ``kal16`` (diphones), ``awb`` and ``rms`` (clustergen); ``slt`` is the held-out voice of the final score.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sayclip.errors import MissingDependencyError

TRAINING_VOICES = ("kal16", "awb", "rms")
HELD_OUT_VOICE = "slt"


@dataclass(frozen=True)
class FliteSettings:
    """Voice, mean pitch in Hz (None leaves the voice's own) and a factor on every duration."""

    voice: str
    pitch: float | None = None
    stretch: float = 1.0


def say(text: str, settings: FliteSettings) -> tuple[NDArray[np.float32], int]:
    """Synthesise ``text``: f32 [S] in [-1,1] and the sample rate in Hz."""
    return _synthesise(["-t", text], settings)


def say_phonemes(phonemes: Sequence[str], settings: FliteSettings) -> tuple[NDArray[np.float32], int]:
    """Synthesise ARPAbet phonemes, a stressed vowel with its ``1``, as ``say`` does text."""
    return _synthesise(["-p", " ".join(phonemes)], settings)


@cache
def phonemes(text: str) -> tuple[str, ...]:
    """ARPAbet of ``text``, without stress and pauses."""
    spoken = subprocess.run([_command(), "-ps", "-t", text, "none"], check=True, capture_output=True, text=True)
    return tuple(symbol for symbol in spoken.stdout.split() if symbol != "pau")


def _synthesise(what: Sequence[str], settings: FliteSettings) -> tuple[NDArray[np.float32], int]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        target = str(Path(folder) / "said.wav")
        options = ["--setf", f"duration_stretch={settings.stretch:.3f}"]
        if settings.pitch is not None:
            options += ["--setf", f"int_f0_target_mean={settings.pitch:.1f}"]
        command = [_command(), "-voice", settings.voice, *options, *what, "-o", target]
        subprocess.run(command, check=True, capture_output=True)
        wave, rate = soundfile.read(target, dtype="float32")
    return wave, rate


def _command() -> str:
    command = shutil.which("flite")
    if command is None:
        raise MissingDependencyError("speech synthesis for training needs flite", "apt-get install flite")
    return command
