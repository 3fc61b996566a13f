"""DINO's vision transformer (Caron et al. 2021, arXiv 2104.14294): the class token behind the last layer norm.

Written from the description of the architecture (ViT, Dosovitskiy et al. 2020, arXiv 2010.11929), after Hugging Face's
``ViTModel`` (Apache-2.0), which is not needed to run it. Nothing projects: its own width is that of the space.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import ACTIVATIONS, Block, first_row, unit


@dataclass(frozen=True)
class DinoConfig:
    """Sizes of the vision transformer, those of DINO's ViT-S/16 by default; ``size`` is the side in pixels."""

    size: int = 224
    patch: int = 16
    width: int = 384
    layers: int = 12
    heads: int = 6
    hidden: int = 1536
    activation: str = "gelu"
    eps: float = 1e-12

    @property
    def embedding(self) -> int:
        """The width of the space."""
        return self.width

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Dino(nn.Module):
    """``forward(pixels f32 [B,3,size,size]) -> f32 [B,W]``, L2-normalised, read at the class token."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.width, (config.size // config.patch) ** 2 + 1
        self.patches = nn.Conv2d(3, width, config.patch, config.patch)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, width))
        activation = ACTIVATIONS[config.activation]
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.hidden, activation=activation, eps=config.eps)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = torch.cat([first, patches], dim=1) + self.positional_embedding
        return unit(self.norm(first_row(self.blocks, x)))
