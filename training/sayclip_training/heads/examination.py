"""What a head finds among all pictures, and how word-like its units are, on utterances that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental import Heard
from sayclip_training.heads.features import Features, LiveFeatures
from sayclip_training.heads.measures import boundaries, overlapping
from sayclip_training.heads.pairs import Pair
from sayclip_training.losses import recall

AT_ONCE = 64
NEIGHBOURS = 5  # tokens that a keyword may stand for, in SpeechCLIP's hit rate
Seconds = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Outcome:
    """What was heard in N utterances: embeddings f32 [N,D] by name, and of each its units.

    ``edges`` in seconds; ``named``, the nearest token of each unit, ``scores``, the cosines to these, and ``nearest``
    i64 [K,5], the nearest ones. What a head does not have is empty.
    """

    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    edges: list[list[float]] = field(default_factory=list)
    named: list[list[int]] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    nearest: list[NDArray[np.int64]] = field(default_factory=list)


@dataclass(frozen=True)
class Examination:
    """Utterances to evaluate on, all pictures f32 [P,D] of length 1, and which is right for each.

    ``tokens``: the ids of a text in the tower's vocabulary; ``seconds(edges, count, samples)``: edges in seconds.
    """

    features: Features | LiveFeatures
    pairs: Sequence[Pair]
    pictures: NDArray[np.float32]
    picture: NDArray[np.int64]
    tokens: Callable[[str], list[int]]
    seconds: Seconds

    def scores(self, head: nn.Module, rows: Sequence[int]) -> dict[str, float]:
        """R@1 and R@10 of utterances ``rows`` by every embedding; of units their boundaries, number and names.

        ``f1``, ``precision``, ``recall`` of boundaries within 40 ms; ``near``: share of utterances with as many units
        as words, give or take one; ``named``: share of units whose token is one of the word's that they lie on;
        ``hit_rate``: share of units with one of the caption's tokens among their 5 nearest (SpeechCLIP's protocol).
        """
        heard = self.hear(head, rows)
        found: dict[str, float] = {}
        for name, embedding in heard.embeddings.items():
            found |= {f"{name}_{depth}": value for depth, value in self.recalled(embedding, rows).items()}
        return found | self.units(heard, [self.pairs[row] for row in rows])

    def recalled(self, embedding: NDArray[np.float32], rows: Sequence[int]) -> dict[str, float]:
        """``r1`` and ``r10`` of the embeddings f32 [N,D] of utterances ``rows`` among all pictures."""
        cosines = embedding @ self.pictures.T
        right = self.picture[rows][:, None] == np.arange(len(self.pictures))
        return {f"r{k}": recall(cosines, right, min(k, len(self.pictures))) for k in (1, 10)}

    def units(self, heard: Outcome, pairs: Sequence[Pair]) -> dict[str, float]:
        """What is measured of units, as far as words and times are known."""
        found: dict[str, float] = {}
        if heard.edges:
            found |= boundaries(heard.edges, [pair.spans for pair in pairs])
            named = [token in said for token, said in self.called(heard, pairs)]
            if named:
                found["named"] = float(np.mean(named))
        if heard.nearest:
            hits: list[bool] = []
            for nearest, pair in zip(heard.nearest, pairs, strict=True):
                said = set(self.tokens(pair.caption))
                hits += [not said.isdisjoint(row) for row in nearest.tolist() if said]
            if hits:
                found["hit_rate"] = float(np.mean(hits))
        return found

    def called(self, heard: Outcome, pairs: Sequence[Pair]) -> list[tuple[int, list[int]]]:
        """The token of each unit of utterances with known words, and those of the word it lies on, if any."""
        return [
            (token, [] if place is None else self.tokens(pair.words[place].text))
            for pair, edges, tokens in zip(pairs, heard.edges, heard.named, strict=True)
            for token, place in zip(tokens, overlapping(edges, pair.spans), strict=True)
            if pair.words
        ]

    def hear(self, head: nn.Module, rows: Sequence[int]) -> Outcome:
        """What ``head`` makes of utterances ``rows``, in evaluation mode."""
        training = head.training
        head.eval()
        order = np.argsort(self.features.counts()[np.asarray(rows)], kind="stable")
        parts: list[tuple[int, Mapping[str, Any]]] = []
        with torch.inference_mode():
            for start in range(0, len(order), AT_ONCE):
                places = order[start : start + AT_ONCE]
                chosen = [rows[place] for place in places]
                frames, count = self.features.batch(chosen)
                heard: Heard = head(frames, count)
                samples = torch.tensor([round(self.features.seconds[row] * 16000) for row in chosen])
                parts += zip(places.tolist(), self._apart(head, heard, count, samples), strict=True)
        head.train(training)
        outcome, found = Outcome(), [one for _, one in sorted(parts, key=lambda part: part[0])]
        outcome.edges = [one["edges"] for one in found if "edges" in one]
        outcome.named = [one["ids"] for one in found if "ids" in one]
        outcome.scores = [one["scores"] for one in found if "scores" in one]
        outcome.nearest = [one["nearest"] for one in found if "nearest" in one]
        for name in ("parallel", "cascaded"):
            embeddings = [one[name] for one in found if name in one]
            if embeddings:
                outcome.embeddings[name] = np.stack(embeddings)
        return outcome

    def _apart(self, head: nn.Module, heard: Heard, count: Tensor, samples: Tensor) -> list[dict[str, Any]]:
        """What was heard, utterance by utterance."""
        found: list[dict[str, Any]] = [{} for _ in range(len(count))]
        for name, embedding in (("parallel", heard.parallel), ("cascaded", heard.cascaded)):
            for one, row in zip(found, [] if embedding is None else unit(embedding).numpy(), strict=False):
                one[name] = row
        if heard.units is None or heard.ids is None or heard.scores is None:
            return found
        numbers = [heard.units.shape[1]] * len(found) if heard.count is None else heard.count.tolist()
        table = head.reader.text.token_embedding.weight  # type: ignore[union-attr]
        cosines = normalize(heard.units, dim=-1) @ normalize(table, dim=-1).T + head.reader.barred  # type: ignore
        nearest = cosines.topk(NEIGHBOURS, -1).indices.numpy()
        edges = None if heard.edges is None else self.seconds(heard.edges, count, samples)
        for place, (one, number) in enumerate(zip(found, numbers, strict=True)):
            one["ids"], one["scores"] = heard.ids[place, :number].tolist(), heard.scores[place, :number].tolist()
            one["nearest"] = nearest[place, :number]
            if edges is not None:
                one["edges"] = edges[place, : number + 1].tolist()
        return found
