"""HuBERT (Hsu et al. 2021, arXiv 2106.07447) as fairseq builds it: base and large, one hidden state per layer.

Two things are ours. The wave's normalisation is part of the graph, and padding is exact: a recording gives the same
states alone and zero-padded in a batch, because the group norm of the base model counts only frames of the recording.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from sayclip_export.models.layers import MASKED, Attention

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
HOP = 320  # samples from frame to frame
SHORTEST = 400  # samples that give one frame
EPS = 1e-5
# "upstream" is how fairseq treats a zero-padded batch: group norm counts the padding, and a frame is valid with its
# first valid sample. It is there to be held against upstream's own results, never for a graph.
Padding = Literal["exact", "upstream"]


@dataclass(frozen=True)
class HubertConfig:
    """Sizes of a HuBERT. ``large`` is the other layout: layer norms in the extractor, norms before each sub-layer.

    ``normalise``: whether waves are brought to mean 0 and variance 1 first.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    channels: int = 512
    position_kernel: int = 128
    position_groups: int = 16
    large: bool = False
    conv_bias: bool = False
    normalise: bool = False

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def inside(count: Tensor, size: int) -> Tensor:
    """Bool [B,size]: positions below ``count`` i32 [B]."""
    return torch.arange(size, device=count.device, dtype=count.dtype)[None, :] < count[:, None]


def additive_mask(valid: Tensor) -> Tensor:
    """What attention adds to its scores, f32 [B,1,1,T], for ``valid`` f32 [B,T]."""
    return ((1 - valid) * MASKED)[:, None, None, :]


def normalise_wave(waveform: Tensor, valid: Tensor, length: Tensor) -> Tensor:
    """Layer norm of each wave over its own samples (biased variance); 0 past ``length``, where the wave must be 0."""
    count = length.to(waveform.dtype)[:, None]
    centred = (waveform - waveform.sum(1, keepdim=True) / count) * valid
    return centred / torch.sqrt((centred * centred).sum(1, keepdim=True) / count + EPS)


class MaskedGroupNorm(nn.Module):
    """Group norm with one group a channel, over the first ``count`` frames of x [B,C,T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        valid = inside(count, x.shape[2]).to(x.dtype)[:, None, :]
        frames = count.to(x.dtype)[:, None, None]
        centred = x - (x * valid).sum(2, keepdim=True) / frames
        variance = (centred * centred * valid).sum(2, keepdim=True) / frames
        return centred * (self.weight[:, None] / torch.sqrt(variance + EPS)) + self.bias[:, None]


class Extractor(nn.Module):
    """Seven convolutions, waveform f32 [B,S] to f32 [B,T,C] with T = (S - 80) // 320."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        channels = config.channels
        self.convs = nn.ModuleList(
            nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=config.conv_bias)
            for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True))
        )
        self.group_norm = None if config.large else MaskedGroupNorm(channels)
        self.layer_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in KERNELS) if config.large else None

    def forward(self, waveform: Tensor, length: Tensor) -> Tensor:
        x = waveform[:, None, :]
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if self.layer_norms is not None:
                x = self.layer_norms[i](x.transpose(1, 2)).transpose(1, 2)
            elif i == 0 and self.group_norm is not None:
                x = self.group_norm(x, whole_steps(length - KERNELS[0], STRIDES[0]) + 1)
            x = gelu(x)
        return x.transpose(1, 2)


def whole_steps(samples: Tensor, step: int) -> Tensor:
    """``samples // step`` for what is not negative."""
    return samples // step


class HubertLayer(nn.Module):
    """A transformer layer on x [B,T,W]: norms after each sub-layer (base) or before it (large)."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.large = config.large
        self.attention = Attention(config.width, config.heads)
        self.attention_norm, self.final_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.expand, self.contract = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.large:
            y = self.attention_norm(x)
            x = x + self.attention(y, y, mask)
            return x + self.feed_forward(self.final_norm(x))
        x = self.attention_norm(x + self.attention(x, x, mask))
        return self.final_norm(x + self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.contract(gelu(self.expand(x)))


class Hubert(nn.Module):
    """``forward(waveform f32 [B,S] 16 kHz, length i32 [B] samples) -> (states, count i32 [B])``; S and length >= 400.

    ``states``: input of the first layer and output of each, f32 [B,T,W]; of large, the last before the final norm,
    which is left out as nothing reads it. ``count``: frames of each recording, one in 20 ms.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.config = config
        width, kernel = config.width, config.position_kernel
        self.extractor = Extractor(config)
        self.norm, self.projection = nn.LayerNorm(config.channels), nn.Linear(config.channels, width)
        self.position = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.position_groups)
        self.encoder_norm = None if config.large else nn.LayerNorm(width)
        self.layers = nn.ModuleList(HubertLayer(config) for _ in range(config.layers))

    def forward(self, waveform: Tensor, length: Tensor, padding: Padding = "exact") -> tuple[list[Tensor], Tensor]:
        samples = waveform.shape[1]
        valid = inside(length, samples)
        wave = torch.where(valid, waveform, torch.zeros_like(waveform))
        if self.config.normalise:
            wave = normalise_wave(wave, valid.to(wave.dtype), length)
        counted = length if padding == "exact" else torch.full_like(length, samples)
        x = self.projection(self.norm(self.extractor(wave, counted)))
        encoder_count, count = frame_counts(length, samples, x.shape[1], padding)
        frames = inside(encoder_count, x.shape[1]).to(x.dtype)
        x = x * frames[:, :, None]
        position = gelu(self._cut(self.position(x.transpose(1, 2)))).transpose(1, 2)
        x = x + position if self.encoder_norm is None else self.encoder_norm(x + position)
        mask = additive_mask(frames)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return states, count

    def _cut(self, x: Tensor) -> Tensor:
        """An even kernel with padding on both sides gives one frame too many."""
        return x if self.config.position_kernel % 2 else x[:, :, :-1]


def frame_counts(length: Tensor, samples: int, frames: int, padding: Padding) -> tuple[Tensor, Tensor]:
    """Valid frames i32 [B] of ``frames``, for HuBERT's own layers and for the heads; the same unless "upstream"."""
    if padding == "exact":
        count = whole_steps(length - (SHORTEST - HOP), HOP).clamp(min=1)
        return count, count
    step = samples // frames
    rounded = torch.round(length.double() / HOP).to(length.dtype)  # half to even, as Python rounds
    return whole_steps(length + step - 1, step), rounded.clamp(max=frames)
