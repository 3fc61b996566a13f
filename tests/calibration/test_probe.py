"""Switching layers to int8 and back in one graph, and the search for the fewest to give back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip_calibration import Placement, Site, place
from sayclip_calibration.agreement import Outputs
from sayclip_calibration.gates import Gate, Judgement
from sayclip_calibration.graph import load_model
from sayclip_calibration.minmax import ranges_of
from sayclip_calibration.probe import Probe
from sayclip_calibration.qdq import insert_qdq
from sayclip_calibration.search import give_back, rank
from sayclip_calibration.sensitivity import LayerDamage
from sayclip_calibration.session import Runner


def quiet(what: str, done: int, total: int | None) -> None:
    pass


def test_switches_give_what_the_graph_with_these_layers_gives(encoder: Any) -> None:
    model = load_model(encoder.path)
    placement = place(model, conv_outputs=True)
    ranges = ranges_of(model, encoder.feeds, placement.tensors)
    probe = Probe(model, model, placement, ranges, {}, encoder.feeds)
    plain = Runner(model)
    wanted = np.concatenate([plain.run(feed, ["embedding"])[0] for feed in encoder.feeds])
    assert np.array_equal(probe.reference["embedding"], wanted)
    np.testing.assert_allclose(probe([])["embedding"], wanted, atol=2e-6)
    names = placement.nodes
    for chosen in (names, names[:1], names[-1:], names[::2], names[1:3]):
        away = [name for name in names if name not in chosen]
        left = placement.without(away, "away")
        runner = Runner(insert_qdq(model, left, ranges))
        wanted = np.concatenate([runner.run(feed, ["embedding"])[0] for feed in encoder.feeds])
        seen = probe(left.parts)["embedding"]
        # A value halfway between two levels may fall to either: a row or two, but not most.
        apart = np.square(seen - wanted).sum(axis=1)
        cost = np.square(wanted - probe.reference["embedding"]).sum(axis=1)
        assert np.median(apart) <= 0.01 * np.median(cost)
        assert apart.sum() <= 0.2 * cost.sum()
    assert len(probe(placement.parts, 1)["embedding"]) == len(next(iter(encoder.feeds[0].values())))


def test_fragile_feeds_hold_the_samples_nearest_to_the_mean(encoder: Any) -> None:
    model = load_model(encoder.path)
    placement = place(model)
    probe = Probe(model, model, placement, ranges_of(model, encoder.feeds, placement.tensors), {}, encoder.feeds)
    rows = probe.reference["embedding"].copy()
    first = len(next(iter(encoder.feeds[0].values())))
    rows[first] *= 1e-3
    probe.reference = {"embedding": rows}
    feeds, found = probe.fragile(1)
    assert feeds == [1]
    assert found == list(range(first, first + len(next(iter(encoder.feeds[1].values())))))
    assert len(probe([], feeds)["embedding"]) == len(found)


@dataclass
class Sum:
    """Stands in for a probe: every layer in int8 costs what ``costs`` says, together their sum."""

    costs: dict[str, float]
    placement: Placement = field(init=False)
    reference: Outputs = field(init=False)
    seen: list[frozenset[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        sites = [Site(name, "MatMul", name, f"{name}.y", f"{name}.w", 1, 64, 64) for name in self.costs]
        self.placement = Placement(tuple(sites))
        self.reference = {"embedding": np.array([[1.0, 0.0]])}

    def fragile(self, count: int) -> tuple[list[int], list[int]]:
        return [0], [0]

    def __call__(self, parts: Collection[str], feeds: int | Sequence[int] | None = None) -> Outputs:
        self.seen.append(frozenset(parts))
        return {"embedding": np.array([[1.0, sum(self.costs[part] for part in parts)]])}


class Below(Gate):
    """Passes where the error is below a limit."""

    def __new__(cls, limit: float) -> Below:
        made = object.__new__(cls)
        object.__setattr__(made, "limit", limit)
        return made

    def __init__(self, limit: float) -> None:
        pass

    def judge(self, reference: Outputs, seen: Outputs) -> Judgement:
        error = float(seen["embedding"][0, 1])
        limit: float = self.limit  # type: ignore[attr-defined]
        return Judgement(error <= limit, limit - error, 1 - error, 1 - error, 0, {}, None, None, ())


@given(st.lists(st.integers(0, 100).map(lambda value: value / 64), min_size=2, max_size=12), st.floats(0.0, 6.0))
@settings(deadline=None)
def test_the_fewest_are_given_back(values: list[float], limit: float) -> None:
    costs = {f"layer{index}": value for index, value in enumerate(values)}
    probe, gate = Sum(costs), Below(limit)
    ranked = rank(probe, 1, quiet)
    assert [costs[layer.node] for layer in ranked] == sorted(values, reverse=True)
    found = give_back(probe, gate, ranked, {}, 1, quiet)
    largest_first = sorted(values, reverse=True)
    possible = [count for count in range(len(values)) if sum(largest_first[count:]) <= limit]
    if not possible:
        assert not found.judgement.passed
        assert found.given_back == ()
    else:
        assert found.judgement.passed
        assert len(found.given_back) == possible[0]
    judged = [point for point in found.points if point.given_back == len(found.given_back)]
    assert any(point.passed == found.judgement.passed for point in judged)


def test_a_layer_that_helps_others_is_taken_back() -> None:
    """The most damaging layer alone is not always one that has to go."""

    class Rescued(Sum):
        def __call__(self, parts: Collection[str], feeds: int | Sequence[int] | None = None) -> Outputs:
            error = 0.0 if "b" not in parts else 1.0
            return {"embedding": np.array([[1.0, error]])}

    probe = Rescued({"a": 0.9, "b": 0.5, "c": 0.1})
    ranked = [LayerDamage(name, "MatMul", 1.0, 1.0) for name in ("a", "b", "c")]
    assert give_back(probe, Below(0.5), ranked, {}, 1, quiet).given_back == ("b",)


def test_one_layer_alone_cannot_be_given_back() -> None:
    probe = Sum({"only": 1.0})
    found = give_back(probe, Below(0.5), rank(probe, 1, quiet), {}, 1, quiet)
    assert found.given_back == ()
    assert not found.judgement.passed


def test_every_choice_is_judged_once() -> None:
    probe = Sum({f"layer{index}": 1.0 for index in range(9)})
    ranked = rank(probe, 1, quiet)
    probe.seen.clear()
    give_back(probe, Below(3.5), ranked, {}, 1, quiet)
    assert len(probe.seen) == len(set(probe.seen))


@pytest.mark.parametrize("limit", [0.0, 100.0])
def test_points_tell_the_share_of_products_in_int8(limit: float) -> None:
    probe = Sum({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0})
    found = give_back(probe, Below(limit), rank(probe, 1, quiet), dict.fromkeys("abcd", 1.0), 1, quiet)
    assert all(point.int8_share == pytest.approx(1 - point.given_back / 4) for point in found.points)
