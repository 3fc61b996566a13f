"""A small CLIP4VLA in the layout of its own checkpoints, on torch's MultiheadAttention: what ours is held against.

Its ``state_dict`` has the key names of the published lists, and its forward passes are written apart from ours.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

JOINT = 32
WIDTHS = {"audio": 64, "image": 128, "text": 64}  # 64 to a head
SIDE, PATCH = 32, 16
HALVES = ("conv1.weight", "in_proj_weight", "in_proj_bias", "out_proj", "c_fc", "c_proj", ".proj", "text_projection")


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Resblock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64 or 1, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, 2 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(2 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Resblock(width) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    """CLIP's image tower, and with ``types`` the audio tower."""

    def __init__(self, width: int, layers: int, types: bool) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(width))
        if types:
            self.control_embedding = nn.Parameter(torch.empty(2, width))
        self.positional_embedding = nn.Parameter(torch.empty((SIDE // PATCH) ** 2 + 1 + types, width))
        self.proj = nn.Parameter(torch.empty(width, JOINT))
        self.conv1 = nn.Conv2d(3, width, PATCH, PATCH, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers)

    def forward(self, images: Tensor, mix: Tensor | None = None) -> Tensor:
        x = self.conv1(images).flatten(2).permute(0, 2, 1)
        tokens = [self.class_embedding.repeat(len(x), 1, 1), x]
        if mix is not None:
            tokens.append(torch.lerp(self.control_embedding[0], self.control_embedding[1], mix[:, None])[:, None])
        x = self.transformer(self.ln_pre(torch.cat(tokens, 1) + self.positional_embedding))
        return nn.functional.normalize(self.ln_post(x)[:, 0] @ self.proj, dim=-1)


class Clip(nn.Module):
    def __init__(self, vocabulary: int, context: int) -> None:
        super().__init__()
        width = WIDTHS["text"]
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.text_projection = nn.Parameter(torch.empty(width, JOINT))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.visual = Visual(WIDTHS["image"], 2, types=False)
        self.transformer = Transformer(width, 3)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.ln_final = nn.LayerNorm(width)

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:
        count = ids.shape[1]
        mask = torch.full((count, count), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding[:count], mask)
        rows = self.ln_final(x)[torch.arange(len(x)), length.long() - 1]
        return nn.functional.normalize(rows @ self.text_projection, dim=-1)


class Clip4Vla(nn.Module):
    """``clip.*`` and ``audio.visual.*``, as a checkpoint has them."""

    def __init__(self, vocabulary: int, context: int = 77) -> None:
        super().__init__()
        self.clip = Clip(vocabulary, context)
        self.audio = nn.Module()
        self.audio.visual = Visual(WIDTHS["audio"], 2, types=True)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                norm = ".ln_" in name and name.endswith("weight")
                parameter.copy_((noise + 1 if norm else noise).half())
            self.clip.logit_scale.fill_(4.6)

    def checkpoint(self, cross: str = "CLIP-like") -> dict[str, Tensor]:
        """Its tensors, some of them fp16 as in training, and those of a fusion transformer and a head beside them."""
        state: dict[str, Tensor] = OrderedDict(
            (key, value.half() if any(part in key for part in HALVES) else value)
            for key, value in self.state_dict().items()
        )
        if cross == "CLIP-like":
            for key, value in Transformer(JOINT, 2).state_dict().items():
                state[f"cross.transformer.{key}"] = value
            state["cross.positional_embedding"] = torch.zeros(77, JOINT)
            state["cross.token_type_embeddings.weight"] = torch.zeros(3, JOINT)
            state |= {"similarity_dense.weight": torch.zeros(1, JOINT), "similarity_dense.bias": torch.zeros(1)}
        elif cross == "BERT-like":
            layer = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
            layer += ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
            names = [
                "embeddings.LayerNorm",
                "pooler.dense",
                *(f"encoder.layer.{i}.{name}" for i in (0, 1) for name in layer),
            ]
            for name in names:
                state |= {f"cross.{name}.weight": torch.zeros(JOINT), f"cross.{name}.bias": torch.zeros(JOINT)}
            state["cross.embeddings.position_embeddings.weight"] = torch.zeros(512, JOINT)
            state["cross.embeddings.token_type_embeddings.weight"] = torch.zeros(3, JOINT)
        return state


def write(path: Path, vocabulary: int = 60, cross: str = "CLIP-like") -> Clip4Vla:
    """Save a small checkpoint in ``path`` and return what it was made of."""
    model = Clip4Vla(vocabulary).eval()
    torch.save(model.checkpoint(cross), path)
    return model
