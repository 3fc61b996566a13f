"""Who says what: the voices of every caption, some of which no training hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sayclip_training import hashed
from sayclip_training.synthesis.espeak import LANGUAGES, VARIANTS, EspeakSettings, held_back
from sayclip_training.synthesis.flite import HELD_OUT_VOICE, TRAINING_VOICES, FliteSettings
from sayclip_training.testbed.captions import NAME, SCENE, Caption
from sayclip_training.testbed.splits import TRAIN, VOICE

DEFAULT_VOICES = 10
NAMES_SHARE = 0.3  # of the voices of a scene: there are many more names
_HELD_OUT, _FLITE = 0.2, 0.2  # of the voices of a caption; one of each at least, from three voices on
_TRAINING = tuple(variant for variant in VARIANTS if not held_back(variant))
_KEPT_OUT = tuple(variant for variant in VARIANTS if held_back(variant))
_MARKS = str.maketrans({"’": "'", **dict.fromkeys('“”"():,.!?&', " ")})


@dataclass(frozen=True)
class Recording:
    """One thing to synthesise. ``file`` is relative to the test bed's folder; ``seed`` that of espeak-ng's noise."""

    file: str
    caption: str
    words: tuple[str, ...]
    voice: EspeakSettings | FliteSettings
    speed: float
    seed: int
    split: str

    @property
    def voice_name(self) -> str:
        """Such as ``espeak-ng/en-us+f2`` or ``flite/slt``."""
        return f"{'flite' if isinstance(self.voice, FliteSettings) else 'espeak-ng'}/{self.voice.voice}"


def said(caption: str) -> tuple[str, ...]:
    """The words of a caption as they are given to a synthesiser: what stands between blanks, without punctuation."""
    return tuple(word for word in caption.translate(_MARKS).split() if any(map(str.isalnum, word)))


def plan(captions: Sequence[Caption], voices: int, seed: int) -> list[Recording]:
    """``voices`` recordings of every scene and about a third of it of every name; keywords are not spoken.

    Voices that are kept out say captions of ``train`` alone, in the split ``voice``: what they show is then the voice's
    effect and no word's. Drawn from a generator seeded by ``seed`` and the caption.
    """
    recordings: list[Recording] = []
    counts = {NAME: 0, SCENE: 0}
    for caption in captions:
        if caption.kind not in counts or not said(caption.text):
            continue
        number = counts[caption.kind]
        counts[caption.kind] += 1
        total = voices if caption.kind == SCENE else max(1, round(voices * NAMES_SHARE))
        recordings += _of_caption(caption, f"speech/{caption.kind}-{number:04d}", total, seed)
    return recordings


def _of_caption(caption: Caption, stem: str, total: int, seed: int) -> list[Recording]:
    rng = np.random.default_rng(hashed.number(f"{seed} voices {caption.kind} {caption.text}"))
    words = said(caption.text)
    kept_out = _share(_HELD_OUT, total) if caption.split == TRAIN else 0
    by_flite = _share(_FLITE, total) if all(map(str.isascii, words)) else 0
    settings: list[tuple[EspeakSettings | FliteSettings, bool]] = []
    for _ in range(kept_out):
        flite = by_flite and rng.random() < 0.4
        settings.append((_flite(HELD_OUT_VOICE, rng) if flite else _espeak(_KEPT_OUT, rng), True))
    first = int(rng.integers(len(TRAINING_VOICES)))
    for number in range(total - kept_out):
        if number < by_flite:
            name = TRAINING_VOICES[(first + number) % len(TRAINING_VOICES)]
            settings.append((_flite(name, rng), False))
        else:
            settings.append((_espeak(_TRAINING, rng), False))
    return [
        Recording(
            f"{stem}-{number:02d}.flac", caption.text, words, voice, round(float(rng.uniform(0.9, 1.15)), 3),
            int(rng.integers(2**31)), VOICE if out else caption.split,
        )
        for number, (voice, out) in enumerate(settings)
    ]  # fmt: skip


def _share(of_voices: float, total: int) -> int:
    return max(1, round(of_voices * total)) if total >= 3 else 0


def _espeak(variants: Sequence[str], rng: np.random.Generator) -> EspeakSettings:
    variant = str(rng.choice(variants))
    voice = str(rng.choice(LANGUAGES)) + (f"+{variant}" if variant else "")
    rate, pitch, pitch_range = rng.uniform(110, 220), rng.uniform(15, 85), rng.uniform(15, 80)
    gap = int(rng.integers(1, 9)) if rng.random() < 0.25 else 0
    return EspeakSettings(voice, int(rate), int(pitch), int(pitch_range), gap)


def _flite(name: str, rng: np.random.Generator) -> FliteSettings:
    pitch = None if name == "rms" or rng.random() < 0.3 else round(float(rng.uniform(85, 240)), 1)  # rms ignores it
    return FliteSettings(name, pitch, round(float(rng.uniform(0.8, 1.25)), 3))
