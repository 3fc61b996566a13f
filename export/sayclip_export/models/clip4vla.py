"""CLIP4VLA's audio encoder: CLIP's vision transformer over log-mel images (Ruan et al. 2023, arXiv 2303.06591, sec. 3).

Written from a description of the model. It differs from CLIP's image tower in one more token at the end of the
sequence, which tells the encoder what kind of sound to listen for. How segments become one vector: ``sayclip.pooling``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import Block, QuickGELU, unit


@dataclass(frozen=True)
class ClipAudioConfig:
    """Sizes of the transformer; ``size`` counts frames and mel bands of an image, ``embedding`` the joint width."""

    size: int = 224
    patch: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    embedding: int = 512
    eps: float = 1e-5

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class ClipAudio(nn.Module):
    """``forward(segments f32 [B,3,size,size], type_mix f32 [B]) -> f32 [B,D]``, L2-normalised, at the class token.

    Segments are images [channel, time, mel] of left, middle and right; ``type_mix`` is 0 for speech and 1 for any other
    sound: the type token is ``(1 - type_mix) * row 0 + type_mix * row 1`` of the table.
    """

    def __init__(self, config: ClipAudioConfig) -> None:
        super().__init__()
        self.config = config
        width, patches = config.width, (config.size // config.patch) ** 2
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.type_embedding = nn.Parameter(torch.zeros(2, width))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width, config.eps), nn.LayerNorm(width, config.eps)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.hidden, activation=QuickGELU, eps=config.eps)
            for _ in range(config.layers)
        )
        self.projection = nn.Linear(width, config.embedding, bias=False)

    def forward(self, segments: Tensor, type_mix: Tensor) -> Tensor:
        return unit(self.read_out(segments, self.type_tokens(type_mix)))

    def type_tokens(self, type_mix: Tensor) -> Tensor:
        """[B] to [B,1,W]."""
        speech, sound = self.type_embedding
        mix = type_mix[:, None, None]
        return (1 - mix) * speech + mix * sound

    def read_out(self, segments: Tensor, types: Tensor, position: int = 0) -> Tensor:
        """Projected state [B,D], not normalised, at ``position``: 0 is the class token, the patches follow, then types.

        ``types`` [B,K,W]: each of the K tokens stands at the table's last position.
        """
        patches = self.patches(segments).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        table, last = self.positional_embedding[:-1], self.positional_embedding[-1]
        x = self.ln_pre(torch.cat([torch.cat([first, patches], dim=1) + table, types + last], dim=1))
        for block in self.blocks[:-1]:
            x = block(x)
        final = self.blocks[-1]
        assert isinstance(final, Block)
        # One row is read, so the last block computes the query and the feed-forward part of that row alone.
        y = final.ln_1(x)
        here = slice(position, position + 1)
        row = x[:, here] + final.attention(y[:, here], y)
        row = row + final.mlp(final.ln_2(row))
        return self.projection(self.ln_post(row[:, 0]))
