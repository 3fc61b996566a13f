"""The whole speech encoder of SpeechCLIP: HuBERT, the weighted sum of its layers, and one or two heads."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn

from sayclip_export.models.hubert import HOP, Hubert, HubertConfig, Padding
from sayclip_export.models.layers import unit
from sayclip_export.models.speechclip.branch import Branch, BranchConfig, Heard
from sayclip_export.models.speechclip.weighted_sum import WeightedSum

FRAME_SECONDS = HOP / 16000


@dataclass(frozen=True)
class SpeechClipConfig:
    """HuBERT, whether its states are normalised before their sum, and the heads: one, or a parallel and a cascaded."""

    hubert: HubertConfig
    normalise_states: bool
    branches: tuple[BranchConfig, ...]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class SpeechClip(nn.Module):
    """``forward(waveform f32 [B,S] 16 kHz, length i32 [B] samples)`` -> the outputs that ``outputs`` names, in order.

    ``embedding`` f32 [B,D] is the parallel one where there are two; these then follow as ``parallel_embedding`` and
    ``cascaded_embedding``. All are L2-normalised. With keywords: ``keyword_ids`` i32 [B,K] of CLIP's full vocabulary,
    ``keyword_scores`` f32 [B,K] (cosines), and where their number varies ``keyword_count`` i32 [B], past which ids and
    scores are 0, and ``boundaries`` f32 [B,K+1] in seconds: keyword k was heard between boundaries k and k + 1. S and
    lengths from 400 samples.

    ``padding`` is for tests: "upstream" gives what upstream gives for a zero-padded batch.
    """

    padding: Padding = "exact"

    def __init__(self, config: SpeechClipConfig) -> None:
        super().__init__()
        self.config = config
        self.hubert = Hubert(config.hubert)
        self.weighted_sum = WeightedSum(config.hubert.layers + 1, config.normalise_states)
        self.branches = nn.ModuleList(Branch(branch) for branch in config.branches)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` returns."""
        branches = self.config.branches
        names = ["embedding"]
        if any(b.parallel for b in branches) and any(b.keywords for b in branches):
            names += ["parallel_embedding", "cascaded_embedding"]
        if any(b.keywords for b in branches):
            names += ["keyword_ids", "keyword_scores"]
        if any(b.cif_layers for b in branches):
            names += ["keyword_count", "boundaries"]
        return tuple(names)

    def frames(self, waveform: Tensor, length: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """HuBERT's states, their weighted sum f32 [B,T,W], and the count of valid frames i32 [B]."""
        states, count = self.hubert(waveform, length, self.padding)
        return states, self.weighted_sum(states), count

    def heard(self, waveform: Tensor, length: Tensor) -> list[Heard]:
        """What each branch makes of the waves."""
        _, frames, count = self.frames(waveform, length)
        return [branch(frames, count, self.padding) for branch in self.branches]

    def forward(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        for heard in self.heard(waveform, length):
            if heard.parallel is not None:
                found["parallel_embedding"] = unit(heard.parallel)
            if heard.keywords is not None:
                found["cascaded_embedding"] = unit(heard.keywords.embedding)
                found["keyword_ids"], found["keyword_scores"] = heard.keywords.ids, heard.keywords.scores
            if heard.slots is not None:
                found["keyword_count"] = heard.slots.count
                found["boundaries"] = heard.slots.edges * FRAME_SECONDS
        first = "parallel_embedding" if "parallel_embedding" in found else "cascaded_embedding"
        found["embedding"] = found[first]
        return tuple(found[name] for name in self.outputs)
