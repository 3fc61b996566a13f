"""RoBERTa (Liu et al. 2019, arXiv 1907.11692) as a text side: units go in where its word embeddings do.

Written from the description of the architecture (BERT's, Devlin et al. 2018, arXiv 1810.04805), after Hugging Face's
``RobertaModel`` (Apache-2.0), which is not needed to run it. A text is read at its first position, ``<s>``: that is the
row that RoBERTa's own pooler and its heads for sentences read, which are learnt on top as ours is. (The mean over
positions is what others take who learn nothing on top.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from sayclip_export.models.hubert import additive_mask, inside
from sayclip_export.models.layers import ACTIVATIONS, PostNorm
from sayclip_export.models.text_side import TextSide


@dataclass(frozen=True)
class RobertaConfig:
    """Sizes of a RoBERTa, those of the base model by default; see ``TextSizes``.

    ``positions``: rows of the table of positions, of which those up to ``padding``, the row of ``<pad>``, are not used.
    Raises ValueError for sizes that do not go together.
    """

    vocabulary: int
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 514
    embedding: int = 768
    start: int = 0
    end: int = 2
    padding: int = 1
    activation: str = "gelu"
    eps: float = 1e-5
    kind: str = field(default="roberta", init=False)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"text width is {self.width} for {self.heads} heads, wanted a multiple")
        for name in ("start", "end", "padding"):
            if not 0 <= getattr(self, name) < self.vocabulary:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted a row of {self.vocabulary}")
        if len(set(self.special)) < 3:
            raise ValueError(f"start, end and padding are {self.special}, wanted three rows")
        if self.units < 1:
            wanted = self.padding + 4
            raise ValueError(f"positions is {self.positions}, wanted at least {wanted}, for start, a unit and end")

    @property
    def special(self) -> tuple[int, ...]:
        return self.start, self.end, self.padding

    @property
    def units(self) -> int:
        return self.positions - (self.padding + 1) - 2

    @property
    def in_space(self) -> bool:
        return False

    def build(self) -> Roberta:
        return Roberta(self)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Roberta(TextSide):
    """See ``TextSide``. Positions count from ``padding + 1`` on; every position sees every real one."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.config = config
        width, eps, activation = config.width, config.eps, ACTIVATIONS[config.activation]
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.positions, width))
        self.segment_embedding = nn.Parameter(torch.empty(width))  # of the first of two texts: there is one
        self.embedding_norm = nn.LayerNorm(width, eps)
        self.layers = nn.ModuleList(
            PostNorm(width, config.heads, config.hidden, eps, activation) for _ in range(config.layers)
        )
        for parameter in (self.token_embedding.weight, self.positional_embedding, self.segment_embedding):
            nn.init.normal_(parameter, std=0.02)

    def features(self, embedded: Tensor, length: Tensor) -> Tensor:
        """Read at the first position, of which alone the last layer is computed."""
        count, first = embedded.shape[1], self.config.padding + 1
        x = embedded + self.segment_embedding + self.positional_embedding[first : first + count]
        x = self.embedding_norm(x)
        mask = additive_mask(inside(length, count).to(x.dtype))
        for layer in self.layers[:-1]:
            x = layer(x, x, mask)
        return self.layers[-1](x[:, :1], x, mask)[:, 0]
