"""One step: what a head makes of a batch, and how far that is from what it should."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental import Heard
from sayclip_training.heads.objective import contrastive, towards_vocabulary
from sayclip_training.heads.settings import Settings

UNIT_SECONDS = 0.4  # what CIF is told a unit takes, as SpeechCLIP+ does: 20 of HuBERT's frames
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Frames f32 [B,T,W] and their count i32 [B], of ``frame_seconds`` each; ``meaning`` i64 [B].

    ``wanted`` f32 [B,D], of length 1: the pictures' embeddings.
    """

    frames: Tensor
    count: Tensor
    meaning: Tensor
    wanted: Tensor
    frame_seconds: float


class Learner(nn.Module):
    """A head, and what only training needs: ``votes``, which lets single frames mean something.

    The detector looks for leaps between neighbouring frames. For leaps to come where meanings change, frames are
    projected so that their mean is near to the picture: each then votes for what is said around it. The loss on that is
    the detector's only teacher, since a hard comparison passes no gradient.
    """

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        detector = getattr(head, "detector", None)
        self.votes = nn.Linear(detector.out_features, width, bias=False) if isinstance(detector, nn.Linear) else None

    def losses(self, batch: Batch, settings: Settings) -> tuple[Losses, Heard]:
        """The parts of the loss by name, weighed already, and what was heard."""
        target = batch.count.float() * (batch.frame_seconds / UNIT_SECONDS)
        heard: Heard = self.head(batch.frames, batch.count, target.clamp(min=1.0))
        parts: Losses = {}
        for name, embedding in (("parallel", heard.parallel), ("cascaded", heard.cascaded)):
            if embedding is not None:
                parts[name] = contrastive(unit(embedding), batch.wanted, batch.meaning)
        if self.votes is not None and settings.votes:
            parts["votes"] = settings.votes * contrastive(self.vote(batch), batch.wanted, batch.meaning)
        if "alpha_sum" in heard.extras and settings.quantity:
            parts["quantity"] = settings.quantity * (heard.extras["alpha_sum"] - target).abs().mean()
        if settings.vocabulary == "regularise":
            assert heard.units is not None
            assert heard.count is not None
            reader = self.head.reader
            assert isinstance(reader, nn.Module)
            table = reader.text.token_embedding.weight  # type: ignore[union-attr]
            away = towards_vocabulary(heard.units, heard.count, table, reader.barred < 0)  # type: ignore
            parts["vocabulary"] = settings.regular * away
        return parts, heard

    def means(self, batch: Batch) -> Tensor:
        """What the head itself makes of utterances that mean the same as others, f32 [B,D], of length 1."""
        heard: Heard = self.head(batch.frames, batch.count)
        embedding = heard.cascaded if heard.parallel is None else heard.parallel
        assert embedding is not None
        return unit(embedding)

    def vote(self, batch: Batch) -> Tensor:
        """The mean of all frames' votes, f32 [B,D], of length 1."""
        assert self.votes is not None
        detector = self.head.detector
        assert isinstance(detector, nn.Module)
        valid = torch.arange(batch.frames.shape[1])[None, :] < batch.count[:, None]
        voted = unit(detector(batch.frames)) * valid[:, :, None]
        return unit(self.votes(voted.sum(1) / batch.count[:, None]))
