"""The whole recipe on small encoders: what is written, how near it stays, and that it is the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sayclip.errors import BundleError, InputError
from sayclip_calibration.agreement import join
from sayclip_calibration.batching import in_batches, padded
from sayclip_calibration.gates import Gate, Limits
from sayclip_calibration.graph import load_model
from sayclip_calibration.recipe import EncoderReport, Options, calibrate_encoder, halve_encoder
from sayclip_calibration.session import Runner, run_as_written

Feeds = list[dict[str, Any]]


def quiet(what: str, done: int, total: int | None) -> None:
    pass


def singles(feeds: Feeds) -> Feeds:
    """One sample a feed, as the command gives them."""
    return [{key: value[row : row + 1] for key, value in feed.items()} for feed in feeds for row in range(_rows(feed))]


def _rows(feed: dict[str, Any]) -> int:
    return len(next(iter(feed.values())))


def calibrate(encoder: Any, out: Path, gate: Gate, **options: Any) -> EncoderReport:
    return calibrate_encoder(
        encoder.path,
        out,
        encoder.name,
        singles(encoder.feeds),
        singles(encoder.others),
        gate,
        Options(**options),
        quiet,
    )


@pytest.mark.parametrize("options", [{}, {"scales": "entropy"}, {"smooth": False, "scales": "minmax"}])
def test_graphs_are_written_that_meet_the_gate(encoder: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    gate = Gate(Limits(0.995, 0.99))
    report = calibrate(encoder, tmp_path, gate, **options)
    assert report.judgement.passed
    assert set(report.sites) | set(report.skipped) >= {
        layer.node for layer in report.ranked if layer.op != "Conv output"
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{encoder.name}.{end}" for end in ("int8.onnx", "int8-u8.onnx", "int8.data")
    )
    judged = padded(singles(encoder.others), 8)
    plain = Runner(encoder.path)
    reference = join([plain.run_all(feed) for feed in judged])
    for end in ("int8.onnx", "int8-u8.onnx"):
        seen = gate.judge(reference, join(run_as_written(tmp_path / f"{encoder.name}.{end}", judged, 1)))
        assert seen.passed
        assert abs(seen.mean - report.judgement.mean) < 2e-4, "the report tells of the graph that was written"


def test_the_same_seed_gives_the_same_files(encoder: Any, tmp_path: Path) -> None:
    gate = Gate(Limits(0.9999, 0.999))
    one, two = (calibrate(encoder, tmp_path / place, gate, seed=3) for place in "ab")
    assert one.scales == two.scales
    assert one.given_back == two.given_back
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_what_is_given_back_is_in_float_in_the_graph(text: Any, tmp_path: Path) -> None:
    free = calibrate(text, tmp_path / "free", Gate(Limits(0.5, 0.5)))
    strict = calibrate(text, tmp_path / "strict", Gate(Limits(free.judgement.mean + 1e-6, 0.5)))
    assert free.given_back == ()
    assert len(strict.given_back) >= 1
    assert strict.judgement.passed
    graph = onnx.load(str(tmp_path / "strict" / "text.int8.onnx"), load_external_data=False).graph
    fed = {node.name: node.input[0] for node in graph.node}
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert all(fed[name] in dequantised for name in strict.sites)
    assert not any(fed[name] in dequantised for name in strict.given_back)
    assert all(strict.skipped[name].startswith("given back") for name in strict.given_back)
    assert {point.given_back for point in strict.points} >= {0, len(strict.given_back)}


def test_a_gate_that_cannot_be_met_is_said_and_nothing_is_given_back(text: Any, tmp_path: Path) -> None:
    report = calibrate(text, tmp_path, Gate(Limits(1.0, 1.0)))
    assert not report.judgement.passed
    assert report.judgement.failed
    assert report.given_back == ()


def test_excluded_layers_stay_and_weights_are_stored_as_int8(text: Any, tmp_path: Path) -> None:
    first = calibrate(text, tmp_path / "all", Gate(Limits(0.9, 0.9))).sites[0]
    report = calibrate(text, tmp_path / "less", Gate(Limits(0.9, 0.9)), exclude=(first,))
    assert report.skipped[first] == "excluded by name"
    graph = onnx.load(str(tmp_path / "less" / "text.int8.onnx"), load_external_data=False).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kinds]
    assert len(weights) == len(report.sites)
    assert {kinds[name] for name in weights} == {TensorProto.INT8}
    scales = [name for name in kinds if name.endswith(".scale")]
    assert scales
    assert all(list(tensor.dims) == [] for tensor in graph.initializer if tensor.name in scales), "per tensor"


def test_fp16_is_written_and_judged(encoder: Any, tmp_path: Path) -> None:
    report = halve_encoder(
        encoder.path, tmp_path, encoder.name, singles(encoder.others), Gate(Limits(0.9999, 0.999)), quiet
    )
    assert report.judgement.passed
    assert report.precision == "fp16"
    assert len(report.sites) >= 4
    load_model(tmp_path / f"{encoder.name}.fp16.onnx")


def test_bad_requests_are_refused_before_anything_is_written(text: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no way 'best' to choose scales"):
        Options(scales="best")
    with pytest.raises(BundleError, match="has no layer to quantise"):
        calibrate(text, tmp_path / "none", Gate(), exclude=(".*",))
    with pytest.raises(InputError, match="no calibration feeds"):
        calibrate_encoder(text.path, tmp_path / "none", "text", [], singles(text.others), Gate(), Options(), quiet)
    assert not (tmp_path / "none").exists()


def test_batches_keep_order_and_lengths(text: Any) -> None:
    feeds = singles([*text.feeds, *text.others])
    together = padded(feeds, 4)
    assert [len(feed["length"]) for feed in together] == [4] * (len(feeds) // 4) + [len(feeds) % 4] * bool(
        len(feeds) % 4
    )
    assert np.concatenate([feed["length"] for feed in together]).tolist() == [int(feed["length"][0]) for feed in feeds]
    assert all(feed["token_ids"].shape[1] == feed["length"].max() for feed in together)
    same = in_batches(feeds)
    assert sum(len(feed["length"]) for feed in same) == len(feeds)
    assert all((feed["length"] == feed["token_ids"].shape[1]).all() for feed in same), "nothing is padded"
