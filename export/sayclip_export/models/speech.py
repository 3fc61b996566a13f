"""A small speech encoder with SpeechCLIP's parallel head (Shih et al. 2022, arXiv 2210.00705, section 3.2).

Waveform in: the log-mel front is part of the graph (a DFT as a convolution), so that the runtime needs no signal code.
Every stage masks what lies past ``length``, so padding a batch changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import MASKED, Attention, unit
from sayclip_export.models.pools import Pools

STRIDE = 3  # log-mel frames to one frame of the layers
FLOOR = 11.0  # nats (48 dB) under the peak
SMOOTH = 9  # mel bins


@dataclass(frozen=True)
class SpeechConfig:
    """Sizes of the speech encoder. Frames are 25 ms every 10 ms at 16 kHz; layers see one frame in 30 ms."""

    sample_rate: int = 16000
    window: int = 400
    hop: int = 160
    mels: int = 80
    width: int = 192
    layers: int = 4
    heads: int = 4
    hidden: int = 384
    kernel: int = 3
    head_heads: int = 8
    head_hidden: int = 1536
    pools: int = 4
    embedding: int = 128
    phonemes: int = 0
    phoneme_layer: int = 3
    dropout: float = 0.0

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def mel_matrix(bins: int, mels: int, sample_rate: int, low: float = 60.0, high: float = 7600.0) -> Tensor:
    """Triangular filters f32 [bins,mels] on the HTK mel scale (mel = 2595 log10(1 + f/700)), peak 1."""
    frequencies = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    edges = torch.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), mels + 2).double()
    edges = 700 * (10 ** (edges / 2595) - 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    up = (frequencies[:, None] - left) / (centre - left)
    down = (right - frequencies[:, None]) / (right - centre)
    return torch.minimum(up, down).clamp(min=0).float()


class LogMel(nn.Module):
    """``forward(waveform f32 [B,S], length i32 [B]) -> (log-mel f32 [B,T,M], valid bool [B,T])``, T = (S-400)//160 + 1.

    Natural logarithm of mel power; frame i is valid where it lies whole inside ``length``.
    """

    turns: Tensor
    dft: Tensor
    mel: Tensor

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.window, self.hop = config.window, config.hop
        n = torch.arange(config.window)
        k = torch.arange(config.window // 2 + 1)
        self.register_buffer("turns", (k[:, None] * n % config.window).half(), persistent=False)  # exact up to 2048
        self.register_buffer("dft", self.basis(), persistent=False)
        self.register_buffer("mel", mel_matrix(len(k), config.mels, config.sample_rate), persistent=False)

    def basis(self) -> Tensor:
        """Cosines, then sines, under a Hann window, f32 [2K,1,N], K = N/2 + 1.

        A graph holds the whole numbers ``turns`` (N-ths of a turn, fp16) and computes this once, when it is loaded: a
        quarter of the bytes.
        """
        step = 2 * math.pi / self.window
        hann = 0.5 - 0.5 * torch.cos(self.turns[1].float() * step)
        angle = self.turns.float() * step
        return torch.cat([torch.cos(angle) * hann, torch.sin(angle) * hann])[:, None, :]

    def power(self, waveform: Tensor) -> Tensor:
        """Mel power f32 [B,T,M]."""
        dft = self.basis() if torch.compiler.is_exporting() else self.dft
        spectrum = nn.functional.conv1d(waveform[:, None, :], dft, stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        return (real * real + imaginary * imaginary).transpose(1, 2) @ self.mel

    def forward(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        # A clamp and no sum: exporters take adding 1e-8 for adding nothing, and log 0 is NaN where padding is masked.
        log_mel = torch.log(self.power(waveform).clamp(min=1e-8))
        start = torch.arange(log_mel.shape[1], device=waveform.device, dtype=length.dtype) * self.hop
        return log_mel, (start + self.window)[None, :] <= length[:, None]


def normalise(log_mel: Tensor, valid: Tensor) -> Tensor:
    """Features free of level and of the voice's mean spectrum, f32 [B,T,M], mostly in [-1, 1]; 0 if invalid.

    Relative to the utterance's peak, softly floored 11 nats lower (``log(exp(x) + exp(-11))``: rounding of a DFT shows
    first in bins far under the peak). Then the mean over frames, the louder the weightier, smoothed over the mel axis,
    is taken away where there is sound (cepstral mean normalisation, Atal 1974, of the low cepstra only).
    """
    mask = valid[:, :, None].to(log_mel.dtype)
    loudest = (log_mel * mask + MASKED * (1 - mask)).amax(dim=(1, 2), keepdim=True)
    level = nn.functional.softplus(log_mel - loudest + FLOOR)
    weight = (level.amax(dim=2, keepdim=True) - FLOOR / 3).clamp(min=0.0) * mask
    mean = (level * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-3)
    mean = nn.functional.avg_pool1d(mean, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)
    mean = mean - mean.mean(2, keepdim=True)
    return ((level - mean * level / (level + 1.0)) / (FLOOR / 2) - 1.0) * mask


class Layer(nn.Module):
    """Pre-norm attention, then a feed-forward part whose first product sees a frame and its two neighbours.

    (The convolutional feed-forward of FastSpeech, Ren et al. 2019, arXiv 1905.09263, written as one MatMul.)
    """

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        width = config.width
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, config.heads)
        self.expand, self.contract = nn.Linear(3 * width, config.hidden), nn.Linear(config.hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, attention_mask: Tensor, valid: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.dropout(self.attention(y, y, attention_mask))
        y = nn.functional.pad(self.ln_2(x) * valid, (0, 0, 1, 1))
        y = torch.cat([y[:, :-2], y[:, 1:-1], y[:, 2:]], dim=-1)
        y = nn.functional.gelu(self.expand(y))
        return x + self.dropout(self.contract(y))


class ParallelHead(nn.Module):
    """SpeechCLIP's parallel branch: a CLS token in front of the frames, one post-norm layer, LayerNorm, projection.

    Only the CLS row leaves the layer, so only that query is computed.
    """

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        width = config.width
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = Attention(width, config.head_heads)
        self.linear1, self.linear2 = nn.Linear(width, config.head_hidden), nn.Linear(config.head_hidden, width)
        self.norm1, self.norm2, self.norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(width, config.embedding)

    def forward(self, frames: Tensor, attention_mask: Tensor) -> Tensor:
        cls = self.cls.expand(frames.shape[0], -1, -1)
        mask = nn.functional.pad(attention_mask, (1, 0))
        x = self.norm1(cls + self.dropout(self.attention(cls, torch.cat([cls, frames], dim=1), mask)))
        x = self.norm2(x + self.dropout(self.linear2(nn.functional.gelu(self.linear1(x)))))
        return self.projection(self.norm(x)[:, 0])


class SpeechTower(nn.Module):
    """``forward(waveform f32 [B,S] 16 kHz, length i32 [B] samples) -> f32 [B,D]``, L2-normalised; S >= 400.

    Beside SpeechCLIP's head, pooled frames go straight to the embedding: the CLS row starts as a mean over all frames,
    in which utterances hardly differ, and stays so for a third of a short training.
    """

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.front = LogMel(config)
        self.conv_1 = nn.Conv1d(config.mels, width, 5, STRIDE, 2)
        self.conv_2 = nn.Conv1d(width, width, 3, 1, 1)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.position = nn.Conv1d(width, width, 15, padding=7, groups=16)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.layer_weights = nn.Parameter(torch.zeros(config.layers + 1))
        self.head, self.shortcut = ParallelHead(config), Pools(width, config.pools, config.embedding)
        self.phonemes = nn.Linear(width, config.phonemes) if config.phonemes else None

    def hidden_states(self, log_mel: Tensor, valid: Tensor, layers: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Input of layer 0 and output of each (of the first ``layers``), f32 [B,ceil(T/3),W], and the additive mask."""
        x = normalise(log_mel, valid)
        mask = self.frame_mask(valid)
        x = self.ln_1(nn.functional.gelu(self.conv_1(x.transpose(1, 2))).transpose(1, 2)) * mask
        x = nn.functional.gelu(self.conv_2(x.transpose(1, 2))).transpose(1, 2) * mask
        x = self.ln_2(x + nn.functional.gelu(self.position(x.transpose(1, 2))).transpose(1, 2))
        attention_mask = ((1 - mask) * MASKED).transpose(1, 2)[:, None]
        states = [x]
        for layer in self.layers[:layers]:
            states.append(layer(states[-1], attention_mask, mask))
        return states, attention_mask

    @staticmethod
    def frame_mask(valid: Tensor) -> Tensor:
        """f32 [B,ceil(T/3),1]: 1 on real frames of the layers, for real log-mel frames [B,T]."""
        return valid[:, ::STRIDE, None].float()

    def phoneme_scores(self, states: Sequence[Tensor]) -> Tensor:
        """Logits [B,ceil(T/3),phonemes] of CTC, the blank first."""
        return self.phoneme_head()(states[self.config.phoneme_layer])

    def hear(self, log_mel: Tensor, valid: Tensor) -> Tensor:
        """The same from log-mel frames [B,T,M], without the layers above."""
        return self.phoneme_scores(self.hidden_states(log_mel, valid, self.config.phoneme_layer)[0])

    def phoneme_head(self) -> nn.Linear:
        """The layer that scores phonemes; a config without ``phonemes`` has none, and AssertionError is raised."""
        assert self.phonemes is not None, "SpeechConfig.phonemes is 0"
        return self.phonemes

    @staticmethod
    def frames(counts: Tensor) -> Tensor:
        """How many frames the layers see, for counts of log-mel frames."""
        return (counts + STRIDE - 1) // STRIDE

    def mix(self, states: Sequence[Tensor]) -> Tensor:
        """The learnt mixture of the hidden states, f32 [B,T,W].

        As in SpeechCLIP large, each state is layer-normalised without affine before the weighted sum.
        """
        weights = torch.softmax(self.layer_weights, 0)
        return torch.stack([nn.functional.layer_norm(x, x.shape[-1:]) for x in states], -1) @ weights

    def mixed(self, log_mel: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What heads read, f32 [B,ceil(T/3),W], from log-mel frames [B,T,M], and the additive mask of its frames."""
        states, attention_mask = self.hidden_states(log_mel, valid)
        return self.mix(states), attention_mask

    def features(self, log_mel: Tensor, valid: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Un-normalised embedding [B,D] and the hidden states, from log-mel frames."""
        states, attention_mask = self.hidden_states(log_mel, valid)
        mixed = self.mix(states)
        return self.head(mixed, attention_mask) + self.shortcut(mixed, self.frame_mask(valid)), states

    def embedding(self, log_mel: Tensor, valid: Tensor) -> Tensor:
        """L2-normalised embedding [B,D] from log-mel frames [B,T,M]."""
        return unit(self.features(log_mel, valid)[0])

    def forward(self, waveform: Tensor, length: Tensor) -> Tensor:
        return self.embedding(*self.front(waveform, length))

    def fold(self) -> SpeechTower:
        """Fold the shortcut's batch norm into its projection, in place; for evaluation and export only."""
        self.eval().shortcut.fold()
        return self
