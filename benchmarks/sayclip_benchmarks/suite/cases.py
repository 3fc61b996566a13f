"""What is timed: an encoder at one size and batch, and how much of the way from input to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Run = Callable[[Any], Any]
"""What is timed, a function of one input."""
FULL = 77  # tokens that CLIP's own code pads every text to
SECONDS = (1.0, 3.0, 6.4, 10.0)
TOKENS = (3, 8, 10, 77)
BATCHES = {"image": (1, 8, 32), "text": (1, 8, 32), "speech": (1, 8)}

SESSION = "one run of the graph on inputs already prepared, results copied out"
TIMED = {
    "preprocessing": "from the input as it comes to what the graph takes: {}",
    "session": SESSION,
    "encoder": "preprocessing and session: {}",
    "search": "the ten nearest of all vectors by one vector, with what the library knows of them",
    "query": "from the input as it comes to the ten best pictures: {}, session, search",
}
STEPS = {
    "image": "a JPEG of 12 megapixels read, decoded, resized, normalised",
    "text": "tokenised",
    "pronunciation": "phonemes looked up",
    "speech": "samples at 16 kHz checked, trimmed where the encoder asks for it",
}


@dataclass(frozen=True)
class Case:
    """``what``: preprocessing, session, encoder (both), search, or query (all of it).

    ``amount`` is the number in ``size``: seconds, tokens, megapixels or vectors.
    """

    what: str
    encoder: str
    size: str
    amount: float
    batch: int = 1

    @property
    def key(self) -> str:
        return f"{self.what}/{self.encoder}/{self.size}/{self.batch}"

    @property
    def timed(self) -> str:
        """What is inside the timed region, in words."""
        return TIMED[self.what].format(STEPS.get(self.encoder, "prepared"))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Case:
        return cls(**data)


def cases_of(encoder: str, *, quick: bool = False, context: int = 77) -> list[Case]:
    """The sizes and batches that an encoder is timed at; ``quick`` leaves most of them out."""
    if encoder == "speech":
        seconds: Sequence[float] = (3.0,) if quick else SECONDS
        found = [Case("session", encoder, f"{length:g} s", length) for length in seconds]
        found += [Case("session", encoder, "3 s", 3.0, batch) for batch in BATCHES[encoder][1:] if not quick]
        return [*found, *(Case(what, encoder, "3 s", 3.0) for what in ("preprocessing", "encoder", "query"))]
    if encoder in ("text", "pronunciation"):
        tokens = [count for count in ((8,) if quick else TOKENS) if count <= context]
        found = [Case("session", encoder, f"{count} tokens", count) for count in tokens]
        found += [Case("session", encoder, "8 tokens", 8, batch) for batch in BATCHES["text"][1:] if not quick]
        return [*found, *(Case(what, encoder, "8 tokens", 8) for what in ("preprocessing", "encoder", "query"))]
    if encoder == "image":
        batches = (1,) if quick else BATCHES[encoder]
        found = [Case("session", encoder, "", 0.0, batch) for batch in batches]
        return [*found, *(Case(what, encoder, "12 megapixels", 12.0) for what in ("preprocessing", "encoder"))]
    return [Case("session", encoder, "", 0.0)]
