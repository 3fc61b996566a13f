"""The whole speech encoder: the frames of a SpeechTower, frozen unless it is to learn, and a head of any kind."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental.head import SegmentalHead
from sayclip_export.models.segmental.heads import BranchHead
from sayclip_export.models.segmental.heard import Heard
from sayclip_export.models.speech import STRIDE, SpeechConfig, SpeechTower

Self = TypeVar("Self", bound="SegmentalSpeech")


def frames_alone(tower: SpeechTower, *, frozen: bool = True) -> SpeechTower:
    """A copy of ``tower`` in evaluation mode that ends at its frames: only ``front`` and ``mixed`` are left.

    Its weights get gradients only where it is not ``frozen``.
    """
    listener = copy.deepcopy(tower)
    del listener.head, listener.shortcut, listener.phonemes
    return listener.requires_grad_(not frozen).eval()


def seconds(edges: Tensor, count: Tensor, length: Tensor, config: SpeechConfig) -> Tensor:
    """Edges f32 [B,K+1] in frames, of recordings with ``count`` frames and ``length`` samples, in seconds f32 [B,K+1].

    The window of frame i is centred at i * 30 ms + 12.5 ms, and a frame stands for 15 ms on either side of that. So the
    edge in front of frame i lies at i * 30 ms - 2.5 ms, the first at 0, and one behind the last frame at the end.
    """
    step, rate = STRIDE * config.hop, config.sample_rate
    end = length.to(edges.dtype)[:, None] / rate
    at = (edges * (step / rate) + (config.window - step) / (2 * rate)).clamp(min=0)
    return torch.where(edges >= count.to(edges.dtype)[:, None], end, torch.minimum(at, end))


class SegmentalSpeech(nn.Module):
    """``forward(waveform f32 [B,S] 16 kHz, length i32 [B] samples)`` -> the outputs that ``outputs`` names, in order.

    ``embedding`` f32 [B,D] is the parallel one where there are two; these then follow as ``parallel_embedding`` and
    ``cascaded_embedding``. All are L2-normalised. With units: ``keyword_ids`` i32 [B,K], rows of the token table,
    ``keyword_scores`` f32 [B,K] (cosines), and where their number varies ``keyword_count`` i32 [B], past which ids and
    scores are 0, and ``boundaries`` f32 [B,K+1] in seconds: unit k was heard between boundaries k and k + 1, and those
    past the last lie at the end. S and lengths from 400 samples. Only the head learns where the tower is
    ``frozen``.
    """

    def __init__(self, tower: SpeechTower, head: BranchHead | SegmentalHead, *, frozen: bool = True) -> None:
        super().__init__()
        self.tower, self.head = frames_alone(tower, frozen=frozen), head

    @property
    def kind(self) -> str:
        return "segmental" if isinstance(self.head, SegmentalHead) else self.head.kind

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` returns."""
        names = ["embedding"]
        if self.kind == "hybrid":
            names += ["parallel_embedding", "cascaded_embedding"]
        if self.kind != "parallel":
            names += ["keyword_ids", "keyword_scores"]
        if self.kind in ("cif", "segmental"):
            names += ["keyword_count", "boundaries"]
        return tuple(names)

    def frames(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """What heads are given: f32 [B,T,W], one frame in 30 ms, and how many are real i32 [B]."""
        log_mel, valid = self.tower.front(waveform, length)
        count = self.tower.frame_mask(valid).sum((1, 2)).to(torch.int32)
        return self.tower.mixed(log_mel, valid)[0], count

    def heard(self, waveform: Tensor, length: Tensor) -> tuple[Heard, Tensor]:
        """What the head makes of the waves, and the count of their frames i32 [B]."""
        frames, count = self.frames(waveform, length)
        return self.head(frames, count), count

    def forward(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        heard, count = self.heard(waveform, length)
        found: dict[str, Tensor] = {}
        if heard.parallel is not None:
            found["parallel_embedding"] = unit(heard.parallel)
        if heard.cascaded is not None:
            found["cascaded_embedding"] = unit(heard.cascaded)
        if heard.ids is not None and heard.scores is not None:
            found["keyword_ids"], found["keyword_scores"] = heard.ids, heard.scores
        if heard.count is not None and heard.edges is not None:
            found["keyword_count"] = heard.count
            found["boundaries"] = seconds(heard.edges, count, length, self.tower.config)
        first = "parallel_embedding" if "parallel_embedding" in found else "cascaded_embedding"
        found["embedding"] = found[first]
        return tuple(found[name] for name in self.outputs)

    def train(self: Self, mode: bool = True) -> Self:
        """As ever, but for the tower, which learns in evaluation mode too.

        Nothing up to its frames has a batch norm, and a tower out of a graph has no dropout, which graphs do not tell.
        So heads learn on, and are evaluated on, the very frames that the exported encoder gives.
        """
        super().train(mode)
        self.tower.eval()
        return self

    def fold(self) -> SegmentalSpeech:
        """Fold the head's batch norm, in place; for evaluation and export only."""
        self.eval().head.fold()
        return self
