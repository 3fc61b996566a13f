"""Questions to a trained encoder and to its teacher, and what they find among the test bed's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.phonemes.g2p import EspeakG2P
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_export.readers.pronunciation import PronunciationCheckpoint
from sayclip_training.claims.pronunciation.retrieval import Bank, compare
from sayclip_training.claims.testbed import KEPT_OUT, LEARNT, Spelling, TestBed
from sayclip_training.distillation import cache
from sayclip_training.distillation.evaluation import embed, unit
from sayclip_training.distillation.speaking import transcribe
from sayclip_training.distillation.teacher import Teacher

CHOOSING = "learnt, to choose the share by"
REPORTED = (LEARNT, KEPT_OUT, CHOOSING)


def halved(asked: Sequence[Spelling]) -> list[Spelling]:
    """Every other learnt picture's questions serve to choose the share of the sound, the rest to report."""
    return [replace(one, part=CHOOSING) if one.part == LEARNT and one.picture % 2 else one for one in asked]


class Asking:
    """Questions to a trained encoder and to its teacher, and the pictures that are found."""

    def __init__(self, checkpoint: PronunciationCheckpoint, teacher: Teacher, testbed: TestBed, kept: Path) -> None:
        self.checkpoint, self.teacher, self.testbed, self._kept = checkpoint, teacher, testbed, kept
        self._inventory = PhonemeInventory(checkpoint.phonemes)
        same = testbed.same()
        rows = [np.array(same[name.casefold()]) for name in testbed.names]
        self.bank = Bank(self._pictures(), rows)

    def ipa(self, texts: Sequence[str], language: str) -> list[str]:
        """How espeak-ng says them."""
        return transcribe(EspeakG2P(language), texts, self._kept)

    def sounds(self, ipa: Sequence[str]) -> NDArray[np.float32]:
        """What the encoder makes of IPA, f32 [N,D] of length 1; unknown symbols count as the nearest."""
        context = self.checkpoint.tower.config.context
        rows = [self._inventory.encode(text, context=context, nearest=True) for text in ipa]
        return unit(embed(self.checkpoint.tower, rows))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What the teacher makes of texts, f32 [N,D] of length 1."""
        key = f"{self.teacher.sha256} unit={self.teacher.unit}"
        make = partial(_slice, self.teacher, texts)
        return unit(cache.rows(self._kept, "teacher", key, texts, self.teacher.width, make))

    def found(self, asked: Sequence[Spelling], language: str = "en-us") -> dict[str, Any]:
        """``compare`` of ``asked``, spelled in ``language``, for each part that there is."""
        found = {}
        for part in REPORTED:
            chosen = [one for one in asked if one.part == part]
            if chosen:
                texts = [one.text for one in chosen]
                found[part] = compare(self.bank, self.texts(texts), self.sounds(self.ipa(texts, language)), chosen)
        return found

    def _pictures(self) -> NDArray[np.float32]:
        see = self.teacher.see
        assert see is not None  # the demo has an image encoder
        files = [self.testbed.folder / file for file in self.testbed.files]
        return unit(
            cache.rows(
                *(self._kept, "pictures", self.teacher.seen_by, list(self.testbed.files), self.teacher.width),
                lambda start, stop: see(files[start:stop]),
            )
        )


def _slice(teacher: Teacher, texts: Sequence[str], start: int, stop: int) -> NDArray[np.float32]:
    return teacher.read(texts[start:stop])
