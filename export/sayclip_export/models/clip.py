"""CLIP's two towers at the sizes of published checkpoints (Radford et al. 2021, arXiv 2103.00020, section 2.4).

Written from the description of the architecture, after OpenAI's CLIP (MIT) and Hugging Face's CLIPModel (Apache-2.0),
neither of which is needed to run them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import ACTIVATIONS as ACTIVATIONS
from sayclip_export.models.layers import Block, first_row, unit
from sayclip_export.models.text import TextConfig, TextTower


@dataclass(frozen=True)
class ClipImageConfig:
    """Sizes of the vision transformer; ``embedding`` is the width of the joint space, ``size`` the side in pixels."""

    size: int = 224
    patch: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    embedding: int = 512
    activation: str = "quick_gelu"
    eps: float = 1e-5

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes of the text transformer; ``embedding`` is the width of the joint space, ``context`` counts tokens."""

    vocabulary: int = 49408
    context: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    hidden: int = 2048
    embedding: int = 512
    activation: str = "quick_gelu"
    eps: float = 1e-5

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class ClipImage(nn.Module):
    """``forward(pixels f32 [B,3,size,size]) -> f32 [B,D]``, L2-normalised, read at the class token."""

    def __init__(self, config: ClipImageConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.width, (config.size // config.patch) ** 2 + 1
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width, config.eps), nn.LayerNorm(width, config.eps)
        activation = ACTIVATIONS[config.activation]
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.hidden, activation=activation, eps=config.eps)
            for _ in range(config.layers)
        )
        self.projection = nn.Linear(width, config.embedding, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return unit(self.projection(self.ln_post(first_row(self.blocks, x))))


class ClipText(TextTower):
    """``forward(token_ids i32 [B,L], length i32 [B]) -> f32 [B,D]``, L2-normalised, read at position ``length - 1``."""

    def __init__(self, config: ClipTextConfig) -> None:
        sizes = TextConfig(
            vocabulary=config.vocabulary,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            hidden=config.hidden,
            context=config.context,
            embedding=config.embedding,
            activation=config.activation,
            eps=config.eps,
        )
        super().__init__(sizes)
