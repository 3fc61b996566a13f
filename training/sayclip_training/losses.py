"""Losses against a bank of embeddings, and retrieval scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sayclip_training.demo_data.strings import Strings


def bank_loss(logits: Tensor, target: Tensor, ignored: Tensor) -> Tensor:
    """Cross-entropy of logits f32 [B,P] with target distributions [B,P]; ``ignored`` bool [B,P] leaves the softmax."""
    log_probability = torch.log_softmax(logits.masked_fill(ignored, -1e4), dim=-1)
    return -(target * log_probability).sum(-1).mean()


def recall(scores: NDArray[np.float32], right: NDArray[np.bool_], k: int) -> float:
    """Share of rows of scores [N,P] that have a ``right`` column [N,P] among their best ``k``."""
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return float(np.take_along_axis(right, best, axis=1).any(1).mean())


class FrozenSpace:
    """What an utterance of a string should come close to: its pictures and its text, both frozen.

    ``texts`` f32 [S,D] and ``pictures`` f32 [P,D], L2-normalised; ``spoken``: the strings that occur, int [N].
    """

    def __init__(self, strings: Strings, texts: Tensor, pictures: Tensor, spoken: NDArray[np.int64]) -> None:
        self.strings, self.texts, self.pictures = strings, texts, pictures
        self.target, self.ignored = torch.from_numpy(strings.target), torch.from_numpy(strings.ignored)
        self.bank = texts[spoken]
        self.slot = torch.full((len(texts),), -1)
        self.slot[spoken] = torch.arange(len(spoken))

    def loss(self, embedding: Tensor, rows: Tensor, scale: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of embeddings f32 [B,D], L2-normalised, of strings ``rows`` i64 [B], and its parts.

        Two softmaxes of sharpness ``scale``, over pictures and over texts, and the distance to the text.
        """
        to_image = bank_loss(scale * embedding @ self.pictures.T, self.target[rows], self.ignored[rows])
        logits = scale * embedding @ self.bank.T
        to_text = nn.functional.cross_entropy(logits, self.slot[rows], label_smoothing=0.02)
        distance = (1 - (embedding * self.texts[rows]).sum(-1)).mean()
        parts = {"to_image": to_image.item(), "to_text": to_text.item(), "distance": distance.item()}
        return to_image + 0.5 * to_text + 2.0 * distance, parts

    def scores(self, embedded: Tensor, rows: NDArray[np.int32]) -> dict[str, float]:
        """R@1 and R@10 of embeddings f32 [N,D] of strings ``rows`` among all pictures."""
        right = self.strings.target[rows] >= self.strings.target[rows].max(1, keepdims=True)
        similar = (embedded @ self.pictures.T).numpy()
        return {"r1": recall(similar, right, 1), "r10": recall(similar, right, 10)}
