"""What a bundle's manifest says about log-mel images: from a recording to the segments that an audio encoder takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from sayclip.bundle.fields import Fields

EDGES = ("reflect", "zero")
CUTS = ("centre", "head", "tail")


@dataclass(frozen=True)
class LogMelPreprocessing:
    """Left, middle and right channel as log-mel spectrograms, cut into square images of ``mels`` frames.

    ``window`` and ``hop`` are samples at ``sample_rate`` Hz, ``low_hz`` to ``high_hz`` the range of the filters,
    ``top_db`` how far under its peak a channel is kept, ``edge`` what frames see beyond either end. Of more than
    ``max_segments`` those at the ``cut`` are heard. ``type_mix``: 0 for speech, 1 for any other sound, or between.
    """

    sample_rate: int = 16000
    window: int = 512
    hop: int = 128
    mels: int = 224
    low_hz: float = 0.0
    high_hz: float = 8000.0
    top_db: float = 80.0
    edge: str = "reflect"
    min_seconds: float = 0.05
    max_seconds: float = 60.0
    max_segments: int = 10
    cut: str = "centre"
    type_mix: float = 0.5
    kind: str = field(default="log-mel", init=False)

    @classmethod
    def from_fields(cls, data: Fields) -> LogMelPreprocessing:
        rate = data.integer("sample_rate", low=4000, high=384000)
        window = data.integer("window", low=2, high=1 << 16)
        low, high = data.number("low_hz", 0.0, low=0.0), data.number("high_hz", low=1.0, high=rate / 2)
        if high <= low:
            raise data.wrong("high_hz", f"more than low_hz, {low:g}")
        shortest = data.number("min_seconds", 0.05, low=0.0)
        longest = data.number("max_seconds", 60.0, low=0.0, high=3600.0)
        if longest <= shortest:
            raise data.wrong("max_seconds", f"more than min_seconds, {shortest:g}")
        return cls(
            rate,
            window,
            data.integer("hop", low=1, high=window),
            data.integer("mels", low=1, high=4096),
            low,
            high,
            data.number("top_db", 80.0, low=1.0, high=1000.0),
            data.text("edge", "reflect", one_of=EDGES),
            shortest,
            longest,
            data.integer("max_segments", 10, low=1, high=4096),
            data.text("cut", "centre", one_of=CUTS),
            data.number("type_mix", 0.5, low=0.0, high=1.0),
        )
