"""What head is learnt and how."""

from __future__ import annotations

from dataclasses import dataclass

from sayclip.errors import InputError
from sayclip_export.models.segmental import KINDS, VOCABULARIES, HeadConfig
from sayclip_export.readers.speech_head import LARGEST, MOST_LAYERS


@dataclass(frozen=True)
class Settings:
    """``head`` and ``vocabulary``: see ``HeadConfig``. ``audio_only``: from utterances that mean the same, no pictures.

    ``threshold`` None: the one by which units take ``unit_seconds`` in the mean; ``detector`` 0: SCPC's, on the frames
    as they are. ``hidden``: of the attention block of all heads but the segmental. ``quantity`` and ``regular``:
    weights of the losses beside the contrastive one, see ``lesson``.
    """

    head: str = "segmental"
    vocabulary: str = "none"
    audio_only: bool = False
    slots: int = 32
    threshold: float | None = None
    detector: int = 128
    unit_seconds: float = 0.4  # as SpeechCLIP+ takes it: 20 of HuBERT's frames
    layers: int = 2
    hidden: int = HeadConfig.hidden
    steps: int = 3000
    batch: int = 128
    seed: int = 0
    rate: float = 1e-3
    dropout: float = 0.1
    quantity: float = 0.25
    regular: float = 1.0

    def __post_init__(self) -> None:
        if self.head not in KINDS:
            raise InputError(f"head is {self.head!r}", f"give one of {', '.join(KINDS)}")
        if self.vocabulary not in VOCABULARIES:
            raise InputError(f"vocabulary is {self.vocabulary!r}", f"give one of {', '.join(VOCABULARIES)}")
        if self.vocabulary != "none" and self.head != "segmental":
            raise InputError(
                f"vocabulary is {self.vocabulary!r} for a {self.head} head, which has one of its own",
                "leave it out, or train a segmental head",
            )
        if not 0 < self.rate < 1:
            raise InputError(f"rate is {self.rate:g}", "give a learning rate between 0 and 1, such as 0.001")
        if not 0.05 <= self.unit_seconds <= 5:
            raise InputError(f"a unit is to take {self.unit_seconds:g} s", "give what a word takes, such as 0.4")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold:g}", "give a number between 0 and 1, such as 0.05")
        for name, most in (("detector", LARGEST), ("hidden", LARGEST), ("layers", MOST_LAYERS)):
            if getattr(self, name) > most:  # of which no file is read
                raise InputError(f"{name} is {getattr(self, name)}, wanted at most {most}", "give a smaller one")
        if self.batch < 2:  # one has nothing to be held against
            raise InputError(f"batch is {self.batch}", "give at least 2 pairs a step")
