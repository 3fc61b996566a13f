"""What a head is taught by: which picture an utterance means, or which other utterance means the same.

The masked contrastive loss of SpeechCLIP (Shih et al. 2022, arXiv 2210.00705, section 3.3; the code's
``MaskedContrastiveLoss`` without margin): both directions, and what means the same is no negative.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

SCALE = 1 / 0.07  # of the logits, as SpeechCLIP base has it
NONE = -1  # a name where there is no unit
SHARP = 0.05  # of the cosines of units with tokens
_NOWHERE = -1e4


def contrastive(ours: Tensor, theirs: Tensor, meaning: Tensor, scale: float = SCALE) -> Tensor:
    """The mean of both directions for embeddings f32 [B,D] of length 1 that belong together row by row.

    ``meaning`` i64 [B]: rows of the same number mean the same; off the diagonal they are left out.
    """
    logits = scale * ours @ theirs.T
    same = meaning[:, None] == meaning[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, _NOWHERE)
    right = torch.arange(len(ours), device=ours.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def towards_names(units: Tensor, names: Tensor, table: Tensor, barred: Tensor) -> Tensor:
    """The mean cross entropy of units f32 [B,K,D] with the rows ``names`` i64 [B,M] of the token table f32 [V,D].

    Logits are cosines by ``SHARP``; ``barred`` bool [V]: rows that are no words. Where M is less than K, or a name is
    ``NONE``, there is no unit, and 0 comes of it where there are none at all.
    """
    cosines = normalize(units[:, : names.shape[1]], dim=-1, eps=1e-8) @ normalize(table, dim=-1, eps=1e-8).T
    logits = cosines.masked_fill(barred, -2.0) / SHARP
    total = cross_entropy(logits.flatten(0, 1), names.flatten(), ignore_index=NONE, reduction="sum")
    return total / (names != NONE).sum().clamp(min=1)


def towards_vocabulary(units: Tensor, count: Tensor, table: Tensor, barred: Tensor) -> Tensor:
    """How far units f32 [B,K,D] are from the nearest row of the token table f32 [V,D]: the mean of 1 - cosine.

    ``count`` i32 [B]: how many units there are; ``barred`` bool [V]: rows that are no words.
    """
    cosines = normalize(units, dim=-1, eps=1e-8) @ normalize(table, dim=-1, eps=1e-8).T
    nearest = cosines.masked_fill(barred, -2.0).amax(-1)
    valid = (torch.arange(units.shape[1], device=units.device)[None, :] < count[:, None]).to(units.dtype)
    return ((1 - nearest) * valid).sum() / valid.sum().clamp(min=1)
