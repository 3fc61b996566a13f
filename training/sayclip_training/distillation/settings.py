"""What is trained and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from sayclip.errors import InputError
from sayclip_training.distillation.student import Arm

LOSSES = ("mse", "cosine")


@dataclass(frozen=True)
class Settings:
    """What is trained and how; ``rate`` None: by the student's width. ``noise``: share of phonemes that is replaced.

    ``stress`` and ``length``: whether their marks are phonemes too.
    """

    arm: Arm = field(default_factory=Arm)
    loss: str = "cosine"
    noise: float = 0.1
    steps: int = 3000
    batch: int = 128
    seed: int = 0
    rate: float | None = None
    dropout: float = 0.0
    stress: bool = False
    length: bool = False

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss is {self.loss!r}", f"give {' or '.join(LOSSES)}")
        for name, value, end in (("noise", self.noise, 1.0), ("dropout", self.dropout, 0.9)):
            if not 0 <= value <= end:
                raise InputError(f"{name} is {value:g}", f"give a share from 0 to {end:g}")
        if self.rate is not None and not 0 < self.rate < 1:
            raise InputError(f"rate is {self.rate:g}", "give a learning rate between 0 and 1, such as 0.0003")
