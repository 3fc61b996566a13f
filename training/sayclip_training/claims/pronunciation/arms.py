"""The arms that are compared, and the share of the test bed that each is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sayclip_training.distillation.settings import Settings
from sayclip_training.distillation.student import Arm

MAIN = "chart"
LANGUAGES = "languages"
RANDOM = "random"


@dataclass(frozen=True)
class Trial:
    """``about`` it, in words; ``languages`` beyond English that it learns; ``int8``: whether that is measured too."""

    about: str
    settings: Settings
    languages: tuple[str, ...] = ()
    int8: bool = False


_BASE = Settings()  # with which an arm with one seed takes five minutes of one core


def trials(steps: int | None = None) -> Mapping[str, Trial]:
    """Every arm by its name, with its own number of steps or ``steps``."""
    base = _BASE if steps is None else replace(_BASE, steps=steps)
    return {
        MAIN: Trial("attributes of the chart and a residual, cosine, noise", base, int8=True),
        RANDOM: Trial("random embedding, no noise: nothing of the chart", replace(base, arm=Arm("random"), noise=0.0)),
        "chart, no noise": Trial("as chart, no noise", replace(base, noise=0.0)),
        "random, noise": Trial("a random embedding, noise by the chart's distances", replace(base, arm=Arm("random"))),
        "chart, no residual": Trial("as chart, attributes alone", replace(base, arm=Arm("chart", residual=False))),
        "chart, mse": Trial("as chart, squared differences instead of the cosine", replace(base, loss="mse")),
        LANGUAGES: Trial("as chart, on English, German and French names at once", base, languages=("de", "fr")),
    }  # fmt: skip
