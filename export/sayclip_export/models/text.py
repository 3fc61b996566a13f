"""CLIP's text tower (Radford et al. 2021, section 2.4), for BPE tokens and, IPA-CLIP-style, for phonemes.

Under the causal mask nothing after the end of text matters, so the tower takes the real token count L and the true
lengths; padding to 77 is never needed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import ACTIVATIONS, MASKED, Block, unit
from sayclip_export.models.text_side import TextSide


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text tower; ``embedding`` is the width of the joint space, ``activation`` one of ``ACTIVATIONS``."""

    vocabulary: int
    width: int = 128
    layers: int = 3
    heads: int = 4
    hidden: int = 512
    context: int = 77
    embedding: int = 128
    dropout: float = 0.0
    activation: str = "quick_gelu"
    eps: float = 1e-5

    @property
    def start(self) -> int:
        return self.vocabulary - 2

    @property
    def end(self) -> int:
        return self.vocabulary - 1

    @property
    def special(self) -> tuple[int, ...]:
        return self.start, self.end

    @property
    def units(self) -> int:
        return self.context - 2

    @property
    def in_space(self) -> bool:
        return True

    def build(self) -> TextTower:
        return TextTower(replace(self, dropout=0.0))

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def causal_mask(context: int) -> Tensor:
    """f32 [context,context] to add to scores: every position sees itself and what is before it."""
    return torch.full((context, context), MASKED).triu(1)


class TextTower(TextSide):
    """``forward(token_ids i32 [B,L], length i32 [B]) -> f32 [B,D]``, L2-normalised, read at position ``length - 1``."""

    causal_mask: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        activation, eps = ACTIVATIONS[config.activation], config.eps
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.hidden, config.dropout, activation, eps)
            for _ in range(config.layers)
        )
        self.ln_final = nn.LayerNorm(config.width, eps)
        self.projection = nn.Linear(config.width, config.embedding, bias=False)
        self.register_buffer("causal_mask", causal_mask(config.context), persistent=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def features(self, embedded: Tensor, length: Tensor) -> Tensor:
        """Read where the text ends."""
        count = embedded.shape[1]
        x = embedded + self.positional_embedding[:count]
        mask = self.causal_mask[:count, :count]
        for block in self.blocks[:-1]:
            x = block(x, mask)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        # Only the end of text is read, so the last block computes the query and the feed-forward part of that row.
        positions = torch.arange(count, device=x.device, dtype=length.dtype)[None, :]
        at_end = (positions == (length - 1)[:, None]).to(x.dtype)
        row = (x * at_end[:, :, None]).sum(1, keepdim=True)
        beyond = (positions >= length[:, None]).to(x.dtype) * MASKED
        row = last.finish(row, last.attention(last.ln_1(row), last.ln_1(x), beyond[:, None, None, :]))
        return self.projection(self.ln_final(row[:, 0]))

    def forward(self, token_ids: Tensor, length: Tensor) -> Tensor:
        return unit(self.features(self.token_embedding(token_ids), length))


class PhonemeEmbedding(nn.Module):
    """``E[p] = A[p] W + R[p]``: the IPA chart's attributes A [V,K] as a prior, plus a residual that begins at zero.

    After IPA-CLIP's abstract (Matsuhira et al. 2023, arXiv 2303.03144); the form of the prior is ours."""

    attributes: Tensor

    def __init__(self, attributes: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("attributes", attributes)
        self.attribute_projection = nn.Parameter(torch.randn(attributes.shape[1], width) * 0.02)
        self.residual = nn.Parameter(torch.zeros(attributes.shape[0], width))

    def table(self) -> Tensor:
        """The whole embedding table [V,W], which export folds into one constant."""
        return self.attributes @ self.attribute_projection + self.residual

    def forward(self, phoneme_ids: Tensor) -> Tensor:
        return nn.functional.embedding(phoneme_ids, self.table())


class PronunciationTower(nn.Module):
    """A text tower over phonemes: ``forward(phoneme_ids i32 [B,L], length i32 [B]) -> f32 [B,D]``, L2-normalised."""

    def __init__(self, config: TextConfig, attributes: Tensor) -> None:
        super().__init__()
        self.config = config
        self.phonemes = PhonemeEmbedding(attributes, config.width)
        self.tower = TextTower(config)
        self.tower.token_embedding = nn.Embedding(1, config.width)  # unused: phonemes bring their own table

    def start_from(self, text: TextTower) -> None:
        """Take over the teacher's weights except for its token table."""
        state = {k: v for k, v in text.state_dict().items() if not k.startswith("token_embedding")}
        self.tower.load_state_dict(state, strict=False)

    def forward(self, phoneme_ids: Tensor, length: Tensor) -> Tensor:
        return unit(self.tower.features(self.phonemes(phoneme_ids), length))

    def folded(self) -> TextTower:
        """The same function as one TextTower with a constant token table, ready for export."""
        folded = TextTower(self.config)
        state = self.tower.state_dict()
        state["token_embedding.weight"] = self.phonemes.table().detach()
        folded.load_state_dict(state)
        return folded.eval()
