"""Sizes of the heads that read a speech encoder's frames: one set for all kinds, so that they compare at equal size."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sayclip_export.models.text_side import TextSizes

KINDS = ("parallel", "cascaded", "hybrid", "cif", "segmental")
VOCABULARIES = ("none", "regularise", "quantise")


@dataclass(frozen=True)
class HeadConfig:
    """A head on frames of ``width`` in front of the text side ``text``, whose ``embedding`` is the width of the space.

    parallel, cascaded, hybrid, cif: an attention block of ``heads`` with a feed-forward part of ``hidden``; 0 leaves
    that out, as SpeechCLIP's cascaded branch does. cascaded, hybrid: ``keywords`` of them. cif, segmental: at most
    ``slots``. cif: ``cif_layers`` convolutions of ``cif_kernel`` frames; a rest from ``tail`` on makes a slot.
    segmental: ``threshold`` and ``eps`` of the detector, see there; ``detector``, the width of what is learnt in front
    of it, 0 for nothing; ``layers`` of the segment encoder with ``heads`` and ``segment_hidden``; ``vocabulary``: units
    pass as they are ("none", "regularise") or snapped to rows of the token table ("quantise"), as the other kinds
    always do. ``temperature``: of the quantiser's gradient. Raises ValueError for sizes that do not go together.
    """

    width: int
    text: TextSizes
    heads: int = 4
    hidden: int = 768
    keywords: int = 8
    slots: int = 32
    cif_layers: int = 1
    cif_kernel: int = 3
    tail: float = 0.5
    threshold: float = 0.05
    eps: float = 1e-3
    detector: int = 0
    layers: int = 2
    segment_hidden: int = 384
    vocabulary: str = "none"
    temperature: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        most = self.text.units
        for name in ("slots", "keywords"):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 1 to {most}, what the text side can read")
        for what, width, heads in (("width", self.width, self.heads), ("text width", self.text.width, self.text.heads)):
            if width % heads:
                raise ValueError(f"{what} is {width} for {heads} heads, wanted a multiple")
        if self.vocabulary not in VOCABULARIES:
            raise ValueError(f"vocabulary is {self.vocabulary!r}, wanted one of {', '.join(VOCABULARIES)}")
        if not self.cif_kernel % 2:
            raise ValueError(f"cif_kernel is {self.cif_kernel}, wanted an odd number")
        if not 0 < self.threshold < 1 or not 0 < self.eps < 1:
            raise ValueError(f"threshold is {self.threshold:g} and eps {self.eps:g}, wanted numbers between 0 and 1")

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
