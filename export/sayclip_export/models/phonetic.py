"""From phonemes heard to the embedding: soft segments of a CTC posteriorgram, read by small convolutions.

A frame-wise encoder must learn every word at every tempo and in every voice. Here what a phoneme takes becomes one slot
first, so that what is left to learn is spelling, and a voice matters only as far as its phonemes are misheard. The
segments are soft, after continuous integrate-and-fire (Dong and Xu 2020, arXiv 1905.11235): a score that changes a
little changes the embedding a little, which int8 needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.pools import Pools
from sayclip_export.models.speech import SpeechTower

FAINT = 0.3  # of a frame: slots that gathered less stay faint instead of being blown up
UNCLEAR, CLEAR = 0.05, 0.15  # between these the branch gains its weight


@dataclass(frozen=True)
class PhoneticConfig:
    """Sizes of the branch; ``kernel`` in slots, odd."""

    phonemes: int
    width: int = 128
    layers: int = 3
    kernel: int = 5
    pools: int = 4
    embedding: int = 128


def segments(posteriors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slots f32 [B,S,P-1], S = ceil(T/2), from phoneme posteriors f32 [B,T,P], blank first; empty ones are 0.

    ``mask`` f32 [B,T,1] is 1 on real frames. With the slots come two masks f32 [B,S,1]: 1 on slots that onsets reach,
    falling to 0 without a leap, and 1 on as many as there can be. What grows from one frame to the next counts as
    onset. A frame goes to the slots whose numbers are next to the sum of onsets so far, by linear shares, as heavy as
    it is no blank.
    """
    heard = posteriors[..., 1:] * mask
    before = nn.functional.pad(heard[:, :-1], (0, 0, 1, 0))
    onsets = nn.functional.relu(heard - before).sum(-1).cumsum(1)
    number = torch.arange(1, (posteriors.shape[1] + 1) // 2 + 1, device=heard.device).to(heard.dtype)
    share = nn.functional.relu(1 - (onsets[:, None, :] - number[:, None]).abs()) * heard.sum(-1)[:, None, :]
    share = share / share.sum(-1, keepdim=True).clamp(min=FAINT)
    possible = (number < mask.sum(1) / 2 + 1).to(heard.dtype)[..., None]
    reached = (2 * (onsets[:, -1:] + 1.75 - number)).clamp(0, 1)[..., None] * possible
    return (share @ heard) * possible, reached, possible


class Windows(nn.Module):
    """A convolution over slots [B,S,W] as one product over ``kernel`` neighbours: int8 kernels like a MatMul better."""

    def __init__(self, width: int, output: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.linear = nn.Linear(kernel * width, output)

    def forward(self, x: Tensor) -> Tensor:
        count, edge = x.shape[1], self.kernel // 2
        padded = nn.functional.pad(x, (0, 0, edge, edge))
        return self.linear(torch.cat([padded[:, i : i + count] for i in range(self.kernel)], dim=-1))


class PhoneticLayer(nn.Module):
    """Pre-norm residual: a window of slots, GELU, back to the slot."""

    def __init__(self, config: PhoneticConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.expand = Windows(config.width, config.width, config.kernel)
        self.contract = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.contract(nn.functional.gelu(self.expand(self.norm(x) * mask)))


class PhoneticBranch(nn.Module):
    """``forward(posteriors f32 [B,T,P], mask f32 [B,T,1]) -> (f32 [B,D], f32 [B,1])``.

    What was read, not normalised, and how clearly: the share that a slot's phonemes have of themselves, 1 where each
    slot holds one phoneme, mostly less than 0.1 in noise, more than 0.25 in speech.
    """

    def __init__(self, config: PhoneticConfig) -> None:
        super().__init__()
        self.config = config
        self.first = Windows(config.phonemes - 1, config.width, config.kernel)
        self.layers = nn.ModuleList(PhoneticLayer(config) for _ in range(config.layers))
        self.pools = Pools(config.width, config.pools, config.embedding)

    def forward(self, posteriors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        slots, reached, possible = segments(posteriors, mask)
        clarity = (slots * slots).sum((1, 2)) / slots.sum((1, 2)).clamp(min=FAINT)
        x = nn.functional.gelu(self.first(slots))
        for layer in self.layers:
            x = layer(x, reached)
        return self.pools(x * reached, possible), clarity[:, None]


class SpeechEncoder(nn.Module):
    """``forward(waveform f32 [B,S] 16 kHz, length i32 [B] samples) -> f32 [B,D]``, L2-normalised; S >= 400.

    What the tower's parallel path hears and, as far as phonemes are clear, what the phonetic branch reads: in equal
    parts in speech, the first alone in noise, where the phonemes of the moment mean nothing.
    """

    def __init__(self, tower: SpeechTower, branch: PhoneticBranch) -> None:
        super().__init__()
        self.tower, self.branch = tower, branch

    def embedding(self, log_mel: Tensor, valid: Tensor) -> Tensor:
        """L2-normalised embedding [B,D] from log-mel frames [B,T,M]."""
        direct, states = self.tower.features(log_mel, valid)
        posteriors = torch.softmax(self.tower.phoneme_scores(states), dim=-1)
        read, clarity = self.branch(posteriors, self.tower.frame_mask(valid))
        weight = ((clarity - UNCLEAR) / (CLEAR - UNCLEAR)).clamp(0, 1)
        return unit(unit(direct) + weight * unit(read))

    def forward(self, waveform: Tensor, length: Tensor) -> Tensor:
        return self.embedding(*self.tower.front(waveform, length))

    def fold(self) -> SpeechEncoder:
        """Fold both batch norms, in place; for evaluation and export only."""
        self.eval()
        self.tower.fold()
        self.branch.pools.fold()
        return self
