"""One step: what a head makes of a batch, and how far that is from what it should."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental import Heard
from sayclip_export.models.segmental.units import UnitReader
from sayclip_training.heads.objective import contrastive, towards_names, towards_vocabulary
from sayclip_training.heads.settings import Settings

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Frames f32 [B,T,W] and their count i32 [B], of ``frame_seconds`` each; ``meaning`` i64 [B].

    ``wanted`` f32 [B,D], of length 1: the pictures' embeddings. ``names`` i64 [B,M]: tokens of units, see ``naming``.
    """

    frames: Tensor
    count: Tensor
    meaning: Tensor
    wanted: Tensor
    frame_seconds: float
    names: Tensor | None = None


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
        away = None if settings.vocabulary == "none" else self._away(heard, batch, settings)
        if away is not None:
            parts["vocabulary"] = settings.regular * away
        return parts, heard

    def _away(self, heard: Heard, batch: Batch, settings: Settings) -> Tensor | None:
        """How far units are from their names; where these are not known and units are not snapped, from any token."""
        reader = self.head.reader
        assert isinstance(reader, UnitReader)
        assert heard.units is not None
        assert heard.count is not None
        table, barred = reader.text.token_embedding.weight, reader.barred < 0
        if batch.names is not None:
            return towards_names(heard.units, batch.names, table, barred)
        if settings.vocabulary == "regularise":
            return towards_vocabulary(heard.units, heard.count, table, barred)
        return None

    def means(self, batch: Batch) -> Tensor:
        """What the head itself makes of utterances that mean the same as others, f32 [B,D], of length 1."""
        heard: Heard = self.head(batch.frames, batch.count)
        embedding = heard.cascaded if heard.parallel is None else heard.parallel
        assert embedding is not None
        return unit(embedding)
