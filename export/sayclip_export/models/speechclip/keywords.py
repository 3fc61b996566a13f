"""Keywords: vectors snapped to rows of CLIP's token table, and read by CLIP's text tower (arXiv 2210.00705, 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sayclip_export.models.clip import ClipText, ClipTextConfig
from sayclip_export.models.hubert import inside
from sayclip_export.models.layers import MASKED
from sayclip_export.models.speechclip.attention import projection

# Rows of the reduced table that are no words: padding ("!"), and with it start and end of text.
PAD, SOT, EOT = 0, 2, 3


@dataclass(frozen=True)
class Read:
    """``keywords``: rows of the table f32 [B,K,D]. ``ids`` of the full vocabulary i32 [B,K], ``scores`` f32 [B,K].

    ``rows``: ids of the reduced vocabulary i64 [B,K]. ``embedding``: f32 [B,D], not normalised.
    """

    embedding: Tensor
    ids: Tensor
    scores: Tensor
    rows: Tensor
    keywords: Tensor


class Keywords(nn.Module):
    """Vectors f32 [B,K,W] to keywords and their embedding.

    The batch norm before the quantiser is a scale and a shift here, [K,D] or [1,D]. The quantiser takes the row of the
    highest cosine; training's temperature plays no part in that. ``text`` is CLIP's tower over the reduced table, and
    sees start, keywords and end alone: under its causal mask the padding to 77 tokens changes nothing.
    """

    clip_ids: Tensor
    directions: Tensor
    barred: Tensor

    def __init__(self, width: int, hidden: int, norms: int, text: ClipTextConfig) -> None:
        super().__init__()
        self.projection = projection(width, hidden, text.width)
        self.scale = nn.Parameter(torch.ones(norms, text.width))
        self.shift = nn.Parameter(torch.zeros(norms, text.width))
        self.text = ClipText(text)
        self.register_buffer("clip_ids", torch.zeros(text.vocabulary, dtype=torch.int32))
        self.register_buffer("directions", torch.zeros(text.width, text.vocabulary))
        self.register_buffer("barred", torch.zeros(text.vocabulary))

    @staticmethod
    def search_tables(table: Tensor) -> tuple[Tensor, Tensor]:
        """``directions`` [D,V], the rows of ``table`` [V,D] at length 1, and ``barred`` [V], what they start with."""
        barred = torch.zeros(table.shape[0], device=table.device)
        barred[[PAD, SOT, EOT]] = MASKED
        return normalize(table, dim=-1, eps=1e-8).T.contiguous(), barred

    def cosines(self, vectors: Tensor) -> Tensor:
        """Cosine with every row of the table, f32 [B,K,V]."""
        return normalize(self.projection(vectors) * self.scale + self.shift, dim=-1, eps=1e-8) @ self.directions

    def forward(self, vectors: Tensor, count: Tensor | None = None) -> Read:
        """``count`` i32 [B]: how many of the vectors are keywords; past them ids, scores and rows are 0."""
        scores, rows = (self.cosines(vectors) + self.barred).max(-1)
        keywords = self.text.token_embedding(rows)
        ids = torch.index_select(self.clip_ids, 0, rows.flatten()).view_as(rows)
        table = self.text.token_embedding.weight
        start, end = (table[row].expand(vectors.shape[0], 1, -1) for row in (SOT, EOT))
        if count is None:
            embedded = torch.cat([start, keywords, end], dim=1)
            length = torch.full((vectors.shape[0],), embedded.shape[1], dtype=torch.int32, device=vectors.device)
        else:
            valid = inside(count, vectors.shape[1])
            ids, rows, scores = ids * valid, rows * valid, scores * valid
            words = (keywords * valid.to(keywords.dtype)[:, :, None], torch.zeros_like(start))
            places = torch.arange(vectors.shape[1] + 1, device=count.device, dtype=count.dtype)
            ends = (places[None, :] == count[:, None]).to(keywords.dtype)[:, :, None] * end
            body = torch.cat(words, dim=1) + ends
            embedded = torch.cat([start, body], dim=1)
            length = count + 2
        return Read(self.text.features(embedded, length), ids, scores, rows, keywords)
