"""One step: what a head makes of a batch, and how far that is from what it should."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental import Heard
from sayclip_training.heads.objective import contrastive, towards_vocabulary
from sayclip_training.heads.settings import Settings

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
    """A head, and what it loses."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def losses(self, batch: Batch, settings: Settings) -> tuple[Losses, Heard]:
        """The parts of the loss by name, weighed already, and what was heard."""
        target = batch.count.float() * (batch.frame_seconds / settings.unit_seconds)
        heard: Heard = self.head(batch.frames, batch.count, target.clamp(min=1.0))
        parts: Losses = {}
        for name, embedding in (("parallel", heard.parallel), ("cascaded", heard.cascaded)):
            if embedding is not None:
                parts[name] = contrastive(unit(embedding), batch.wanted, batch.meaning)
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
