"""Which layers are given back, and the report that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from sayclip_calibration import choose_exclusions, place
from sayclip_calibration.cosine import cosines, embeddings
from sayclip_calibration.graph import load_model
from sayclip_calibration.minmax import ranges_of
from sayclip_calibration.sensitivity import Probe, rank_layers
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
        NODE("MatMul", ["d", "w4"], ["embedding"], "projection"),
    ]
    constants = {"w1": w(), "spread": spread, "blind": blind, "w3": w(), "w4": w()}
    path = write(nodes, constants, {"x": ["batch", "time", 32]}, outputs=("tokens",))
    nodes.append(NODE("ReduceMean", ["projected", "axis"], ["embedding"], keepdims=0))
    nodes[4] = NODE("MatMul", ["d", "w4"], ["projected"], "projection")
    path = write(nodes, {**constants, "axis": np.array([1])}, {"x": ["batch", "time", 32]})
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


def test_layers_taken_in_vain_are_taken_back(outlier: Any) -> None:
    """With the outlier's reader excluded by hand nothing more is needed; and every layer kept in float is necessary."""
    path, feeds = outlier
    assert choose_exclusions(path, feeds, 0.998, exclude=["second"]).given_back == ()
    gate = 0.99995
    report = choose_exclusions(path, feeds, gate)
    model = load_model(path)
    placement = place(model)
    probe = Probe(model, feeds, ranges_of(model, feeds, placement.tensors))
    assert probe(placement.without(report.given_back, "")).worst >= gate
    for node in report.given_back:
        fewer = [other for other in report.given_back if other != node]
        assert probe(placement.without(fewer, "")).worst < gate


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
    turned[2][0] = np.nan
    report = cosines(found, turned)
    assert (report.samples, report.worst, report.worst_sample, report.worst_feed) == (8, -1.0, 3, 1)
    assert report.mean == pytest.approx((6 - 2) / 8)
    assert "worst -1.00000 (sample 3 in feed 1, of 8)" in str(report)
