"""Augmentation of log-mel batches: warps, noise, babble, equalisation and masks (SpecAugment, arXiv 1904.08779)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = -18.0
STEP = 24  # lengths are rounded up to this, so that few shapes occur


def augment(log_mel: Tensor, counts: Tensor, strength: float = 0.0) -> tuple[Tensor, Tensor]:
    """A new batch f32 [B,T',M] and its frame counts, from natural log-mel power [B,T,M] padded with ``FLOOR``.

    ``strength`` from 0 (mild, under which words are learnt quickly) to 1 (under which unheard voices are understood).
    """
    batch, frames, mels = log_mel.shape
    stretch = torch.empty(batch).uniform_(0.95 - 0.08 * strength, 1.22 + 0.1 * strength)
    lead = torch.randint(0, 15, (batch,))
    body = (counts * stretch).round().clamp(min=8).long()
    total = lead + body + torch.randint(0, 15, (batch,))
    length = int(-(-int(total.max()) // STEP) * STEP)
    at = (torch.arange(length)[None, :] - lead[:, None] + 0.5) / body[:, None] * counts[:, None] / frames * 2 - 1
    warp = torch.empty(batch, 1).uniform_(0.93 - 0.08 * strength, 1.07 + 0.1 * strength)
    mel = (torch.arange(mels)[None, :] + 0.5) / mels * warp * 2 - 1
    grid = torch.stack([mel[:, None, :].expand(-1, length, -1), at[:, :, None].expand(-1, -1, mels)], dim=-1)
    shifted = functional.grid_sample((log_mel - FLOOR)[:, None], grid, padding_mode="zeros", align_corners=False)
    speech = shifted[:, 0] + FLOOR
    frame = torch.arange(length)[None, :, None]
    inside = (frame >= lead[:, None, None]) & (frame < (lead + body)[:, None, None])
    speech = torch.where(inside, speech, FLOOR)
    speech = speech + _curve(batch, 6, mels, 0.6 + 0.7 * strength)[:, None, :]
    speech = _smooth(speech, 0.5 * strength)
    speech = _add_noise(speech, total)
    for _ in range(2 if strength > 0.5 else 1):
        speech = _mask(speech, total)
    return speech, total


def rounded(log_mel: Tensor) -> Tensor:
    """Pad the frames to a multiple of ``STEP``."""
    return functional.pad(log_mel, (0, 0, 0, -log_mel.shape[1] % STEP), value=FLOOR)


def _smooth(log_mel: Tensor, share: float) -> Tensor:
    """Blur ``share`` of the batch along the mel axis, which hides the harmonics of the voice's pitch."""
    blurred = functional.avg_pool1d(log_mel, 5, 1, 2, count_include_pad=False)
    return torch.where((torch.rand(len(log_mel)) < share)[:, None, None], blurred, log_mel)


def _add_noise(speech: Tensor, total: Tensor) -> Tensor:
    batch, length, mels = speech.shape
    loud = torch.logsumexp(speech, dim=(1, 2)) - torch.log(total * mels)
    level = torch.empty(batch).uniform_(10, 50) * 0.2303  # SNR in dB to nats of power
    level = torch.where(torch.rand(batch) < 0.35, torch.full((batch,), 14.0), level)
    shape = _curve(batch, 4, mels, 1.3) + torch.linspace(0.5, -0.5, mels)[None, :] * torch.randn(batch, 1) * 2.0
    flicker = torch.randn(batch, length, mels) * 0.6
    noise = flicker + (shape + (loud - level)[:, None])[:, None, :]
    speech = torch.logaddexp(speech, noise)
    other = speech.roll(1, 0) - (torch.empty(batch).uniform_(8, 22) * 0.2303)[:, None, None]
    return torch.where((torch.rand(batch) < 0.06)[:, None, None], torch.logaddexp(speech, other), speech)


def _curve(batch: int, points: int, mels: int, scale: float) -> Tensor:
    """Smooth random curves over the mel axis, f32 [B,M], in nats."""
    knots = torch.randn(batch, 1, points) * scale
    return functional.interpolate(knots, size=mels, mode="linear", align_corners=True)[:, 0]


def _mask(log_mel: Tensor, total: Tensor) -> Tensor:
    batch, length, mels = log_mel.shape
    start, width = torch.randint(0, mels, (batch, 1)), torch.randint(0, 10, (batch, 1))
    band = torch.arange(mels)[None, :]
    hidden = ((band >= start) & (band < start + width))[:, None, :]
    first = (torch.rand(batch, 1) * total[:, None]).long()
    span = torch.randint(0, 7, (batch, 1)) * (torch.rand(batch, 1) < 0.4)
    frame = torch.arange(length)[None, :]
    silent = ((frame >= first) & (frame < first + span))[:, :, None]
    quiet = log_mel.amin(dim=(1, 2), keepdim=True)
    return torch.where(hidden | silent, quiet, log_mel)
