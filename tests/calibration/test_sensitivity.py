"""Which layers are given back, and the report that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import helper

from sayclip_calibration import CosineReport, Placement, Site, choose_exclusions, place
from sayclip_calibration.cosine import cosines, embeddings
from sayclip_calibration.graph import load_model
from sayclip_calibration.minmax import ranges_of
from sayclip_calibration.sensitivity import Probe, give_back, rank_layers
from sayclip_calibration.session import Runner

Write = Callable[..., Path]
NODE = helper.make_node


@pytest.fixture
def outlier(write: Write) -> tuple[Path, list[dict[str, NDArray[np.float32]]]]:
    """Three layers in a row; the second reads a tensor whose one huge channel, weighted by zero, takes all levels."""
    rng = np.random.default_rng(0)

    def w(gain: float = 1.0) -> NDArray[np.float32]:
        return (rng.standard_normal((32, 32)) * gain / np.sqrt(32)).astype(np.float32)

    spread, blind = np.ones(32, np.float32), w()
    spread[7] = 1000.0
    blind[7] = 0.0
    nodes = [
        NODE("MatMul", ["x", "w1"], ["a"], "first"),
        NODE("Mul", ["a", "spread"], ["b"]),
        NODE("MatMul", ["b", "blind"], ["c"], "second"),
        NODE("MatMul", ["c", "w3"], ["d"], "third"),
        NODE("MatMul", ["d", "w4"], ["projected"], "projection"),
        NODE("ReduceMean", ["projected", "axis"], ["embedding"], keepdims=0),
    ]
    constants = {"w1": w(), "spread": spread, "blind": blind, "w3": w(), "w4": w(), "axis": np.array([1])}
    path = write(nodes, constants, {"x": ["batch", "time", 32]})
    return path, [{"x": rng.standard_normal((batch, 3, 32)).astype(np.float32)} for batch in (1, 4, 3)]


def test_the_layer_behind_an_outlier_is_ranked_first_and_given_back_alone(outlier: Any) -> None:
    path, feeds = outlier
    report = choose_exclusions(path, feeds, 0.998)
    assert report.before.worst < 0.98
    assert report.ranked[0].node == "second"
    assert {layer.node for layer in report.ranked} == {"first", "second", "third"}
    assert [layer.worst for layer in report.ranked] == sorted(layer.worst for layer in report.ranked)
    assert report.given_back == ("second",)
    assert report.after.worst >= 0.998
    assert report.met
    table = report.table().splitlines()
    assert len(table) == 5
    assert table[1].split()[0::4] == ["second", "fp32"]
    assert table[2].endswith("int8")


def test_a_gate_that_holds_costs_no_layer_and_no_ranking(outlier: Any, text: Any) -> None:
    path, feeds = outlier
    assert choose_exclusions(path, feeds, -1.0).ranked == ()
    report = choose_exclusions(text.path, text.feeds, 0.995)
    assert (report.given_back, report.before) == ((), report.after)


def test_a_gate_of_one_gives_everything_back_and_says_whether_it_held(outlier: Any) -> None:
    path, feeds = outlier
    report = choose_exclusions(path, feeds, 1.0)
    assert set(report.given_back) == {"first", "second", "third"}
    assert report.after.worst == pytest.approx(1.0, abs=1e-12)


def test_nothing_is_given_back_that_was_left_out_by_hand(outlier: Any) -> None:
    path, feeds = outlier
    assert choose_exclusions(path, feeds, 0.998, exclude=["second"]).given_back == ()


class Damage:
    """A measure in which every layer takes its own amount off the cosine of every sample."""

    def __init__(self, damage: NDArray[np.float64]) -> None:
        self.damage = damage
        sites = [Site(f"n{i}", "MatMul", f"t{i}", f"t{i + 1}", f"w{i}", 1, 32, 32) for i in range(len(damage))]
        self.placement = Placement(tuple(sites))

    def __call__(self, placement: Placement) -> CosineReport:
        rows = 1.0 - self.damage[[int(node[1:]) for node in placement.nodes]].sum(axis=0)
        worst = int(rows.argmin())
        return CosineReport(float(rows.mean()), float(rows[worst]), worst, worst, len(rows))


def test_a_layer_given_back_in_vain_is_taken_back() -> None:
    """n0 hurts most, but alone on its sample; n1 and n2 together break the other one."""
    measure = Damage(np.array([[0.0020, 0.0], [0.0, 0.0018], [0.0, 0.0015]]))
    report = give_back(measure, measure.placement, 0.9975)
    assert [layer.node for layer in report.ranked] == ["n0", "n1", "n2"]
    assert report.given_back == ("n1",)
    assert report.after == measure(measure.placement.without(["n1"], ""))


@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(0.0, 0.01)), st.floats(0.96, 0.9999))
def test_the_gate_holds_and_every_layer_given_back_is_needed(damage: NDArray[np.float64], gate: float) -> None:
    measure = Damage(damage)
    report = give_back(measure, measure.placement, gate)
    assert report.met
    assert report.after == measure(measure.placement.without(report.given_back, ""))
    for node in report.given_back:
        fewer = [other for other in report.given_back if other != node]
        assert measure(measure.placement.without(fewer, "")).worst < gate


def test_damage_is_that_of_one_layer_alone(outlier: Any) -> None:
    path, feeds = outlier
    model = load_model(path)
    placement = place(model)
    ranges = ranges_of(model, feeds, placement.tensors)
    ranked = rank_layers(Probe(model, feeds, ranges), placement)
    alone = {layer.node: layer.worst for layer in ranked}
    assert alone["second"] < 0.98 < 0.999 < min(alone["first"], alone["third"])


def test_cosines_count_rows_over_feeds(outlier: Any) -> None:
    path, feeds = outlier
    found = embeddings(Runner(path), feeds)
    turned = [value.copy() for value in found]
    turned[1][2] *= -1.0
    report = cosines(found, turned)
    assert (report.samples, report.worst_sample, report.worst_feed) == (8, 3, 1)
    assert (report.mean, report.worst) == pytest.approx(((7 - 1) / 8, -1.0))
    assert "worst -1.00000 (sample 3 in feed 1, of 8)" in str(report)
    turned[2][0] = np.nan
    broken = cosines(found, turned)
    assert (broken.worst, broken.worst_sample, broken.worst_feed) == (-1.0, 5, 2)
