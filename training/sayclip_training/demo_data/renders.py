"""Augmented views of the pictures for training the image encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from sayclip_training.demo_data.names import Emoji
from sayclip_training.demo_data.pictures import SIDE, emoji_font

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def layers(emoji: Sequence[Emoji]) -> Tensor:
    """Premultiplied colour and alpha of every picture, f32 [P,4,96,96] in [0,1], from the font itself."""
    font = emoji_font()
    rows = []
    for item in emoji:
        cell = Image.new("RGBA", (136, 136), (255, 255, 255, 0))
        ImageDraw.Draw(cell).text((0, 4), item.text, font=font, embedded_color=True)
        values = np.asarray(cell.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32) / 255
        values[..., :3] *= values[..., 3:]
        rows.append(torch.from_numpy(values).permute(2, 0, 1))
    return torch.stack(rows)


def views(pictures: Tensor, size: int) -> Tensor:
    """Random views f32 [B,3,size,size], normalised, of layers [B,4,96,96].

    Rotation, scale, shift and a little shear (no mirror image: arrows would lie), plain and graded backgrounds,
    brightness, contrast and tint, blur, noise, and an erased rectangle.
    """
    count = len(pictures)
    warped = functional.grid_sample(
        pictures, _warps(count, size), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    colour, alpha = warped[:, :3], warped[:, 3:]
    image = colour + (1 - alpha) * _backgrounds(count, size)
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.25)
    image = (image - 0.5) * contrast + 0.5 + torch.empty(count, 1, 1, 1).uniform_(-0.12, 0.12)
    image = image * torch.empty(count, 3, 1, 1).uniform_(0.9, 1.1)
    blurred = functional.interpolate(
        functional.avg_pool2d(image, 2), size=(size, size), mode="bilinear", align_corners=False
    )
    image = torch.lerp(image, blurred, (torch.rand(count, 1, 1, 1) < 0.3).float() * torch.rand(count, 1, 1, 1))
    image = image + torch.randn_like(image) * (torch.rand(count, 1, 1, 1) * 0.06)
    for row in torch.nonzero(torch.rand(count) < 0.25).flatten().tolist():
        h, w = torch.randint(size // 8, size // 3, (2,)).tolist()
        y, x = torch.randint(0, size - h, ()).item(), torch.randint(0, size - w, ()).item()
        image[row, :, y : y + h, x : x + w] = torch.rand(3, 1, 1)
    return normalised(image.clamp(0, 1))


def normalised(image: Tensor) -> Tensor:
    """CLIP's mean and standard deviation on f32 [B,3,H,W] in [0,1]."""
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _warps(count: int, size: int) -> Tensor:
    angle = torch.randn(count) * math.radians(9)
    scale = torch.exp(torch.empty(count).uniform_(math.log(0.8), math.log(1.5)))
    shear = torch.randn(count) * 0.06
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = torch.empty(count, 2).uniform_(-0.15, 0.15)
    matrix = torch.stack([torch.stack([cos, -sin + shear, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    return functional.affine_grid(matrix, [count, 1, size, size], align_corners=False)


def _backgrounds(count: int, size: int) -> Tensor:
    corner = torch.rand(count, 3, 2, 2)
    flat = corner.mean((2, 3), keepdim=True).expand_as(corner)
    corner = torch.lerp(flat, corner, (torch.rand(count, 1, 1, 1) < 0.4).float())
    graded = functional.interpolate(corner, size=(size, size), mode="bilinear", align_corners=True)
    white = (torch.rand(count, 1, 1, 1) < 0.5).float()
    return torch.lerp(graded, torch.ones(()), white)
