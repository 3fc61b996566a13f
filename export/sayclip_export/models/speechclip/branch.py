"""A head of SpeechCLIP or SpeechCLIP+: one attention pass over learnt tokens and frames, read in one or two ways.

parallel     1 token   -> embedding
cascaded     8 tokens  -> 8 keywords -> embedding
cascaded+    no token, frames -> CIF -> keywords -> embedding
hybrid       1 + 8 tokens: both of the first two
hybrid+      1 token: parallel; frames: as cascaded+
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.clip import ClipTextConfig
from sayclip_export.models.hubert import Padding, additive_mask, inside
from sayclip_export.models.speechclip.attention import AttentionNorm, EncoderLayer, projection
from sayclip_export.models.speechclip.cif import Cif, Slots
from sayclip_export.models.speechclip.keywords import Keywords, Read


@dataclass(frozen=True)
class BranchConfig:
    """One head. Sizes of 0 say that a part is absent.

    ``tokens``: learnt vectors in front of the frames. ``hidden``: the feed-forward part of the attention block.
    ``parallel``: whether the first token gives an embedding; ``parallel_hidden``: the middle of its projection.
    ``keywords``: how many there are, with CIF how many there can be; ``keyword_hidden``: the middle of their
    projection; ``norms``: batch norms, one or one a keyword. ``cif_layers`` of kernel ``cif_kernel``; ``tail``: see
    ``Cif``. ``text``: CLIP's text tower over the reduced vocabulary, for keywords.
    """

    width: int
    heads: int
    embedding: int
    tokens: int
    hidden: int = 0
    parallel: bool = False
    parallel_hidden: int = 0
    keywords: int = 0
    keyword_hidden: int = 0
    norms: int = 1
    cif_layers: int = 0
    cif_kernel: int = 3
    tail: float = 0.5
    eps: float = 1e-5
    text: ClipTextConfig | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Heard:
    """What a branch makes of frames: un-normalised embeddings f32 [B,D], keywords, and how many where that varies."""

    parallel: Tensor | None
    keywords: Read | None
    slots: Slots | None


class Branch(nn.Module):
    """``forward(frames f32 [B,T,W], count i32 [B]) -> Heard``; only the rows that are read leave the attention."""

    def __init__(self, config: BranchConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.tokens = nn.Parameter(torch.zeros(1, config.tokens, width))
        self.block: AttentionNorm | EncoderLayer = (
            EncoderLayer(width, heads, config.hidden, config.eps)
            if config.hidden
            else AttentionNorm(width, heads, config.eps)
        )
        self.parallel = projection(width, config.parallel_hidden, config.embedding) if config.parallel else None
        self.keywords: Keywords | None = None
        self.cif: Cif | None = None
        if config.keywords:
            assert config.text is not None
            self.keywords = Keywords(width, config.keyword_hidden, config.norms, config.text)
        if config.cif_layers:
            self.cif = Cif(width, config.cif_layers, config.cif_kernel, config.keywords, config.tail)

    def attend(self, frames: Tensor, count: Tensor, every_row: bool) -> Tensor:
        """Rows of the attention block, f32 [B,tokens+T,W], or those of the tokens alone."""
        x = frames
        if self.config.tokens:
            x = torch.cat([self.tokens.expand(frames.shape[0], -1, -1), frames], dim=1)
        valid = inside(count + self.config.tokens, x.shape[1]).to(x.dtype)
        queries = x if every_row else x[:, : self.config.tokens]
        return self.block(queries, x, additive_mask(valid))

    def forward(self, frames: Tensor, count: Tensor, padding: Padding = "exact") -> Heard:
        rows = self.attend(frames, count, every_row=self.cif is not None)
        first = 1 if self.parallel is not None else 0
        parallel = None if self.parallel is None else self.parallel(rows[:, 0])
        if self.keywords is None:
            return Heard(parallel, None, None)
        if self.cif is None:
            return Heard(parallel, self.keywords(rows[:, first:]), None)
        slots = self.cif(rows[:, first:], count, padding)
        return Heard(parallel, self.keywords(slots.values, slots.count), slots)
