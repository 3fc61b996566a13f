"""Gates: what a graph at a lower precision may cost, and the judgement on one that was seen.

A gate compares outputs with those of fp32 on samples that the ranges were not taken from. It knows no graph, so it
judges whatever computes the encoder: a candidate of the search, an engine, another tool's graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError

from .agreement import Outputs, centre_of, join, row_cosines, same_boundaries, same_keywords
from .retrieval import Retrieval

__all__ = ["CENTRED_FROM", "Check", "Gate", "Judgement", "Limits", "Outputs", "join"]

OUTPUT = "embedding"
CENTRED_FROM = 32
"""From so many samples on, their mean says what all embeddings have in common; with fewer it would be half of each."""


@dataclass(frozen=True)
class Limits:
    """What is wanted at least: cosines of the mean and of the worst sample, agreement of keywords and of boundaries.

    ``recall`` is what recall@1, 5 and 10 may lose at most; losing one query is allowed however few there are.
    """

    mean: float = 0.995
    worst: float = 0.98
    recall: float = 0.01
    keywords: float = 0.95
    boundaries: float = 0.95
    centred_worst: float = 0.9
    """In place of ``worst`` where embeddings are centred: one that lies near the mean turns far for little."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low = -1.0 if name in ("mean", "worst", "centred_worst") else 0.0
            if not low <= value <= 1.0:  # NaN compares false
                raise InputError(f"the gate {name} is {value}, wanted {low:g} to 1", "give for example 0.98")

    @classmethod
    def of(cls, encoder: str, **changed: float | None) -> Limits:
        """The limits of ``encoder``; what is given and not None takes the place of its default."""
        limits = cls(mean=0.99) if encoder == "speech" else cls()
        changed.setdefault("centred_worst", changed.get("worst"))
        return replace(limits, **{name: value for name, value in changed.items() if value is not None})


@dataclass(frozen=True)
class Check:
    """One gate: its name, what was seen and what is wanted at least, and room, 1 for no loss at all, 0 at the limit."""

    gate: str
    seen: float
    wanted: float
    room: float

    @property
    def met(self) -> bool:
        """NaN is never met."""
        return self.room >= 0.0


@dataclass(frozen=True)
class Judgement:
    """What the gates say of one set of outputs."""

    passed: bool
    score: float
    """Room of the tightest gate: 1 where nothing is lost, 0 at the limit, negative where it is missed."""
    mean: float
    worst: float
    worst_sample: int
    recall: dict[str, float]
    """Change of recall@1, 5 and 10, negative where less is found."""
    keywords: float | None
    """Share of equal keywords; None for an encoder without."""
    boundaries: float | None
    """Share of boundaries within 20 ms of one of fp32; None for an encoder without."""
    failed: tuple[str, ...]
    """A sentence for every gate that was missed."""
    centred: bool = False
    """Whether ``mean`` and ``worst`` are those of embeddings without the mean of the fp32 set."""
    raw_mean: float = math.nan
    raw_worst: float = math.nan
    """Of the embeddings as they are, over every embedding that the graph gives."""
    boundary_seconds: float | None = None
    """Mean distance to the nearest boundary of fp32."""
    checks: tuple[Check, ...] = ()
    cosines: tuple[float, ...] = field(default=(), repr=False)
    """Of each sample, as in ``mean``: of the embedding that is worst there."""


@dataclass(frozen=True)
class Gate:
    """The gates of one encoder over one set of samples, whose outputs ``judge`` takes in their order."""

    limits: Limits = field(default_factory=Limits)
    retrieval: Retrieval | None = field(default_factory=Retrieval)
    samples: tuple[str, ...] = ()
    """The samples' names, for sentences; may be empty."""

    def judge(self, reference: Outputs, seen: Outputs) -> Judgement:
        """Compare outputs by name, one row a sample, with those of fp32; see ``agreement.join`` for several runs.

        Raises InputError where names or shapes differ, which is no matter of accuracy.
        """
        names = _embeddings(reference, seen)
        count = len(reference[names[0]])
        centred = count >= CENTRED_FROM
        kept, keywords = same_keywords(reference, seen) if "keyword_ids" in reference else (None, None)
        # An embedding made of keywords jumps where a keyword changes; that is for the gate on keywords to judge.
        jumping = _made_of_keywords(names) if kept is not None else ()
        rows, raw, steady = [], [], []
        for name in names:
            one, two = reference[name], seen[name]
            rows.append(row_cosines(one, two, centre_of(one) if centred else 0.0))
            raw.append(row_cosines(one, two))
            steady.append(np.where(kept, rows[-1], 1.0) if kept is not None and name in jumping else rows[-1])
        mean = float(min(each.mean() for each in rows))
        lowest = np.min(steady, axis=0)
        worst_sample = int(lowest.argmin())
        worst = float(lowest[worst_sample])
        kind = "centred cosine" if centred else "cosine"
        least = self.limits.centred_worst if centred else self.limits.worst
        checks = [_cosine(f"mean {kind}", mean, self.limits.mean), _cosine(f"worst {kind}", worst, least)]
        finite = float(np.mean([np.isfinite(seen[name]).all(axis=1) for name in names]))
        if finite < 1.0:
            checks.append(_cosine("share of embeddings without NaN or infinity", finite, 1.0))
        change = self._recall(reference[names[0]], seen[names[0]], centred, checks)
        if keywords is not None:
            checks.append(_cosine("share of equal keywords", keywords, self.limits.keywords))
        seconds = boundaries = None
        if "boundaries" in reference:
            seconds, boundaries = same_boundaries(reference, seen)
            checks.append(_cosine("share of boundaries within 20 ms", boundaries, self.limits.boundaries))
        return Judgement(
            passed=all(check.met for check in checks),
            score=min(check.room for check in checks),
            mean=mean,
            worst=worst,
            worst_sample=worst_sample,
            recall=change,
            keywords=keywords,
            boundaries=boundaries,
            failed=tuple(self._sentence(check, worst_sample) for check in checks if not check.met),
            centred=centred,
            raw_mean=float(min(each.mean() for each in raw)),
            raw_worst=float(min(each.min() for each in raw)),
            boundary_seconds=seconds,
            checks=tuple(checks),
            cosines=tuple(np.min(rows, axis=0).tolist()),
        )

    def subset(self, rows: Sequence[int]) -> Gate:
        """The same gates over only these of the samples, for a quicker look."""
        retrieval = self.retrieval.subset(rows) if self.retrieval else None
        names = tuple(self.samples[row] for row in rows) if self.samples else ()
        return replace(self, retrieval=retrieval, samples=names)

    def name_of(self, sample: int) -> str:
        """The name of a sample, or its number."""
        return self.samples[sample] if sample < len(self.samples) else f"sample {sample}"

    def _recall(
        self, reference: NDArray[Any], seen: NDArray[Any], centred: bool, checks: list[Check]
    ) -> dict[str, float]:
        if self.retrieval is None or len(reference) < 2:
            return {}
        before, after, queries = self.retrieval.recall(reference, seen, centred=centred)
        change = {}
        for k, value in before.items():
            name, allowed = f"recall@{k}", max(self.limits.recall, 1 / queries) if queries else 1.0
            change[name] = after[k] - value
            checks.append(Check(f"change of {name}", change[name], -allowed, _room(change[name], -allowed, 0.0)))
        return change

    def _sentence(self, check: Check, worst_sample: int) -> str:
        of = f" of {self.name_of(worst_sample)}" if check.gate.startswith("worst") else ""
        digits = 4 if abs(check.seen - check.wanted) > 1e-4 else 8
        return f"{check.gate}{of} is {check.seen:.{digits}f}, wanted at least {check.wanted:.{digits}g}"


def lengths(reference: Outputs) -> NDArray[np.float64]:
    """Length of each embedding, f64 [n], less the mean of all where there are enough of them, as gates take it.

    Of the embedding that is searched by. A row of zeros has the length of the shortest other.
    """
    name = OUTPUT if OUTPUT in reference else next(iter(reference))
    rows = reference[name].reshape(len(reference[name]), -1).astype(np.float64)
    found: NDArray[np.float64] = np.linalg.norm(rows - (centre_of(rows) if len(rows) >= CENTRED_FROM else 0.0), axis=1)
    least = found[found > 0].min(initial=np.inf)
    longer: NDArray[np.float64] = np.maximum(found, least if np.isfinite(least) else 1.0)
    return longer


def _embeddings(reference: Outputs, seen: Outputs) -> list[str]:
    """Names of the embeddings, the one that is searched by first."""
    names = sorted((name for name in reference if name.endswith(OUTPUT)), key=lambda name: (name != OUTPUT, name))
    shapes = {name: list(array.shape) for name, array in reference.items()}
    seen_shapes = {name: list(array.shape) for name, array in seen.items()}
    right = all(shapes[name] == seen_shapes.get(name) and shapes[name][0] > 0 for name in names)
    # How many keywords a graph finds is its own matter; of how many samples is not.
    lengths = {name: shape[:1] for name, shape in shapes.items()}
    if not names or not right or lengths != {name: shape[:1] for name, shape in seen_shapes.items()}:
        raise InputError(
            f"outputs to judge are {seen_shapes}, wanted as fp32 gives them: {shapes}",
            "run the same samples through two graphs of one encoder",
        )
    return names


def _made_of_keywords(names: Sequence[str]) -> tuple[str, ...]:
    """Of a graph that gives keywords, the embeddings made of them: the cascaded branch's, which may be the only one."""
    return ("cascaded_embedding",) if "parallel_embedding" in names else (OUTPUT, "cascaded_embedding")


def _cosine(gate: str, seen: float, wanted: float) -> Check:
    return Check(gate, seen, wanted, _room(seen, wanted, 1.0))


def _room(seen: float, wanted: float, best: float) -> float:
    """How much of the way from the limit to the best there is: 1 at the best, 0 at the limit, less than 0 beyond."""
    if math.isnan(seen):
        return -math.inf
    near = seen - wanted
    if abs(near) < 1e-12:  # at the limit, whatever the last bit of a sum says
        return 0.0
    return near / max(best - wanted, 1e-6)
