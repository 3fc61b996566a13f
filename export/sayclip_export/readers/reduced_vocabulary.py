"""Which tokens of CLIP the rows of SpeechCLIP's reduced table are, found by comparing the rows themselves.

The list that made the reduction (words of Flickr8k's or SpokenCOCO's captions) is not in the checkpoint, but both
tables are, and a row was copied bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sayclip_export.models.speechclip.keywords import EOT, PAD, SOT
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.state import State

NAMES = {8112: "Flickr8k", 19787: "SpokenCOCO"}  # by their size
REDUCED = "clip.model.token_embedding.weight"
FULL = "clip.original_text_emb_weight"


def token_ids(state: State, reduced: Tensor, full: Tensor) -> Tensor:
    """The id of each row of ``reduced`` [V,W] in ``full`` [N,W], i32 [V].

    Raises CheckpointError where a row is not among them or is there twice, or where padding, start and end of text are
    not the rows 0, 2 and 3.
    """
    if state.shapes_only:
        return torch.arange(reduced.shape[0], dtype=torch.int32)
    known: dict[bytes, int] = {}
    twice: set[bytes] = set()
    for number, row in enumerate(_rows(full)):
        if row in known:
            twice.add(row)
        known[row] = number
    rows = _rows(reduced)
    missing = [number for number, row in enumerate(rows) if row not in known]
    if missing:
        raise refuse(
            f"{state.where}: {len(missing)} of {len(rows)} rows of {REDUCED}, the first of them {missing[0]}, are no "
            f"rows of {FULL}, wanted the reduced vocabulary to be a part of CLIP's",
            "name a checkpoint whose text encoder was frozen",
        )
    unclear = [number for number, row in enumerate(rows) if row in twice]
    if unclear or len(set(rows)) < len(rows):
        raise refuse(
            f"{state.where}: {REDUCED} holds a row that stands for two tokens"
            f"{f', number {unclear[0]}' if unclear else ''}, wanted one row a token"
        )
    ids = torch.tensor([known[row] for row in rows], dtype=torch.int32)
    special = {PAD: 0, SOT: full.shape[0] - 2, EOT: full.shape[0] - 1}
    for place, wanted in special.items():
        seen = int(ids[place]) if place < len(ids) else None
        if seen != wanted:
            raise refuse(f"{state.where}: row {place} of {REDUCED} is token {seen}, wanted {wanted}")
    return ids


def _rows(table: Tensor) -> list[bytes]:
    return [row.tobytes() for row in table.contiguous().numpy()]
