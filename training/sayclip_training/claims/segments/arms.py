"""The arms that are compared: heads on the same frames, with the same data and the same training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sayclip_training.heads.settings import Settings

MAIN = "segmental"
PARALLEL, CASCADED, HYBRID = "parallel", "cascaded", "hybrid"
REGULARISE, QUANTISE, AUDIO_ONLY = "segmental, regularise", "segmental, quantise", "segmental, audio only"
VOCABULARIES = {"none": MAIN, "regularisation": REGULARISE, "quantisation": QUANTISE}
_BASE = Settings(slots=16, steps=1200)
# Of the feed-forward parts of heads without a segment encoder, so that all learn about as many numbers. CIF is no arm:
# it applies all that it learns to every frame, and of equal size takes more than the ten minutes that it may.
_HIDDEN = {PARALLEL: 1936, CASCADED: 1936, HYBRID: 1872}


@dataclass(frozen=True)
class Trial:
    """``about`` it, in words, and how it is trained."""

    about: str
    settings: Settings


def trials(steps: int | None = None) -> Mapping[str, Trial]:
    """Every arm by its name, with its own number of steps or ``steps``."""
    base = _BASE if steps is None else replace(_BASE, steps=steps)
    segmental = replace(base, head="segmental")
    parallel, cascaded, hybrid = (replace(base, head=head, hidden=hidden) for head, hidden in _HIDDEN.items())
    return {
        PARALLEL: Trial("one token attends to all frames, no units", parallel),
        CASCADED: Trial("8 keywords, read by the text tower", cascaded),
        HYBRID: Trial("both at once", hybrid),
        MAIN: Trial("means of detected segments, read past the token table", segmental),
        REGULARISE: Trial("as segmental, units drawn to their names", replace(segmental, vocabulary="regularise")),
        QUANTISE: Trial(
            "as segmental, units drawn to their names and snapped to the table",
            replace(segmental, vocabulary="quantise"),
        ),
        AUDIO_ONLY: Trial("as segmental, from recordings alone", replace(segmental, audio_only=True)),
    }
