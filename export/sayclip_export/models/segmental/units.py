"""Units: vectors where a text side's token embeddings lie, named by the nearest tokens and read by the text side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from sayclip_export.models.hubert import inside
from sayclip_export.models.layers import MASKED, unit
from sayclip_export.models.segmental.config import HeadConfig
from sayclip_export.models.segmental.norm import UnitNorm
from sayclip_export.models.segmental.precision import single
from sayclip_export.models.text_side import TextSide, TextSizes

Self = TypeVar("Self", bound="UnitReader")


@dataclass(frozen=True)
class Read:
    """``embedding`` f32 [B,D], not normalised; the rest as in ``Heard``.

    ``attended`` f32 [B,K,W_t]: the mean of the token table as the softened cosines weigh it, None where nobody asked.
    """

    embedding: Tensor
    units: Tensor
    ids: Tensor
    scores: Tensor
    attended: Tensor | None


class UnitReader(nn.Module):
    """``forward(vectors f32 [B,K,W], count i32 [B] or None) -> Read``; None: all of them are units.

    A linear layer and a batch norm bring vectors to the width of tokens. Each unit is named by the row of the token
    table with the highest cosine; with ``quantise`` that row takes its place, and when training the gradient is that of
    the table softly attended (SpeechCLIP's straight-through). The frozen text side then reads start, units and
    end, without padding to its context, which would change nothing; where it does not end in the space, a linear layer
    that is learnt follows (``to_space``). Ids are rows of the table, of which special ones are never chosen.
    """

    barred: Tensor

    def __init__(self, config: HeadConfig, places: int, vocabulary: str, text: TextSide | None = None) -> None:
        """``places``: see ``UnitNorm``. ``text``: the trained text side, copied; without, one of random weights.

        Raises ValueError for a ``text`` of other sizes than ``config.text``.
        """
        super().__init__()
        self.vocabulary, self.temperature = vocabulary, config.temperature
        self.projection = nn.Linear(config.width, config.text.width)
        self.norm = UnitNorm(places, config.text.width)
        self.text = config.text.build().requires_grad_(False).eval()
        self.sot, self.eot = config.text.start, config.text.end
        self.register_buffer("barred", torch.zeros(config.text.vocabulary))
        self.bar(config.text.special)
        self.to_space: nn.Linear | None = None
        if not config.text.in_space:
            self.to_space = nn.Linear(config.text.width, config.text.embedding, bias=False)
        if text is not None:
            _require_same(text, config.text)
            self.text.load_state_dict(text.state_dict())
        self.norm.start_at(self.text.token_embedding.weight)

    def bar(self, ids: Iterable[int]) -> None:
        """Never choose these rows of the token table either."""
        self.barred[list(ids)] = MASKED

    def train(self: Self, mode: bool = True) -> Self:
        """As ever, but for the tower, which stays as it is."""
        super().train(mode)
        self.text.eval()
        return self

    def forward(self, vectors: Tensor, count: Tensor | None = None) -> Read:
        valid = None if count is None else inside(count, vectors.shape[1])
        projected = self.projection(vectors)
        table = self.text.token_embedding.weight
        with single(vectors.device):  # names hang on small differences
            units = self.norm(projected.float(), valid)
            cosines = unit(units) @ unit(table).T + self.barred
            scores, rows = cosines.max(-1)
            attended = None
            if self.training and self.vocabulary != "none":
                attended = torch.softmax(cosines / self.temperature, -1) @ table
            read = units
            if self.vocabulary == "quantise":
                read = embedding(rows, table)
                if attended is not None:
                    read = read + (attended - attended.detach())
        ids = rows.to(torch.int32)
        if valid is not None:
            ids, scores = ids * valid, scores * valid
        return Read(self.embed(read, count), units, ids, scores, attended)

    def embed(self, units: Tensor, count: Tensor | None) -> Tensor:
        """What is read, f32 [B,D], in start, the first ``count`` of ``units`` f32 [B,K,W_t], and end."""
        read = self.text.features(*self.between(units, count))
        return read if self.to_space is None else self.to_space(read)

    def between(self, units: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
        """Start, units and end, f32 [B,K+2,W_t], and how many of these are real, i32 [B]."""
        table = self.text.token_embedding.weight
        start, end = (table[row].expand(units.shape[0], 1, -1) for row in (self.sot, self.eot))
        if count is None:
            embedded = torch.cat([start, units, end], dim=1)
            length = torch.full((units.shape[0],), embedded.shape[1], dtype=torch.int32, device=units.device)
            return embedded, length
        places = torch.arange(units.shape[1] + 1, device=count.device, dtype=count.dtype)[None, :]
        is_unit, is_end = (
            (kept[:, :, None]).to(units.dtype) for kept in (places < count[:, None], places == count[:, None])
        )
        body = torch.cat([units, torch.zeros_like(start)], dim=1) * is_unit + is_end * end
        return torch.cat([start, body], dim=1), count + 2

    def fold(self) -> None:
        """Fold the batch norm, in place; for evaluation and export."""
        self.norm.fold()


def _require_same(text: TextSide, config: TextSizes) -> None:
    """Refuse another kind or other sizes, dropout apart, which nothing frozen has. Raises ValueError."""
    seen, wanted = ({"kind": "clip", **sizes.to_dict(), "dropout": 0.0} for sizes in (text.config, config))
    names = ["kind", *sorted(seen.keys() | wanted.keys())]
    odd = [name for name in names if seen.get(name) != wanted.get(name)]
    if odd:
        raise ValueError(f"the text side has {odd[0]} {seen.get(odd[0])}, the head wants {wanted.get(odd[0])}")
