"""The whole way: fp32 encoder in, two int8 graphs and their cosines out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.errors import BackendError, BundleError, InputError
from sayclip_calibration import compare, quantise_encoder


@pytest.mark.parametrize("conv_outputs", [False, True])
def test_int8_stays_close_on_shapes_it_never_saw(encoder: Any, tmp_path: Path, conv_outputs: bool) -> None:
    report = quantise_encoder(encoder.path, tmp_path, encoder.name, encoder.feeds, conv_outputs=conv_outputs)
    assert len(report.placement.sites) >= 3
    assert report.sensitivity is not None
    assert report.sensitivity.met
    assert min(report.master.worst, report.unsigned.worst) >= 0.9975
    assert report.master.samples == sum(len(next(iter(feed.values()))) for feed in encoder.feeds)
    for path in (report.files.master, report.files.unsigned):
        seen = compare(encoder.path, path, encoder.others)
        assert 0.995 <= seen.worst < 1.0
    assert f"{len(report.placement.sites)} layers int8" in str(report)


def test_padding_changes_nothing_in_int8(text: Any, tmp_path: Path) -> None:
    """Scales are fixed, so what stands in padded positions cannot reach a sample."""
    from sayclip_calibration.session import Runner

    files = quantise_encoder(text.path, tmp_path, "text", text.feeds, gate=None).files
    ids = np.random.default_rng(5).integers(0, 300, (1, 6)).astype(np.int32)
    padded = np.concatenate([ids, np.full((1, 20), 299, np.int32)], axis=1)
    for path in (files.master, files.unsigned):
        runner = Runner(path, optimise=True)
        short, long = (
            runner.run({"token_ids": value, "length": np.array([6], np.int32)}, ["embedding"])[0]
            for value in (ids, padded)
        )
        assert np.abs(short - long).max() < 1e-5


def test_excluded_and_given_back_layers_are_named_with_their_reason(text: Any, tmp_path: Path) -> None:
    free = quantise_encoder(text.path, tmp_path, "text", text.feeds, gate=None)
    assert free.sensitivity is None
    assert free.given_back == ()
    first = free.placement.nodes[0]
    strict = quantise_encoder(text.path, tmp_path, "text", text.feeds, exclude=[first, "nowhere"], gate=0.99999)
    assert strict.placement.skipped[first] == "excluded by name"
    assert strict.placement.unmatched == ("nowhere",)
    assert len(strict.given_back) >= 1
    assert all(strict.placement.skipped[node].startswith("given back") for node in strict.given_back)
    assert set(strict.placement.nodes).isdisjoint(strict.given_back)
    assert strict.master.worst >= 0.99998


def test_weights_stored_as_fp16_quantise_to_the_same_numbers_in_less_space(text: Any, tmp_path: Path) -> None:
    """A graph whose weights are all fp16 values gives the same int8 graph whether it stores them as fp16 or fp32."""
    import onnx
    from onnx import TensorProto, numpy_helper

    from sayclip_calibration.session import Runner
    from sayclip_export.halves import store_halves

    model = onnx.load(text.path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
    whole, halved = tmp_path / "whole.onnx", tmp_path / "halved.onnx"
    onnx.save(model, whole)
    onnx.save(model, halved)
    assert store_halves(halved) > 0
    first = quantise_encoder(text.path, tmp_path, "text", text.feeds, gate=None).placement.nodes[0]
    one = quantise_encoder(whole, tmp_path / "one", "text", text.feeds, exclude=[first], gate=None)
    two = quantise_encoder(halved, tmp_path / "two", "text", text.feeds, exclude=[first], gate=None)
    assert two.placement.nodes == one.placement.nodes
    assert two.files.data.stat().st_size < one.files.data.stat().st_size - 2 * 64 * 64
    for a, b in ((one.files.master, two.files.master), (one.files.unsigned, two.files.unsigned)):
        for feed in text.others:
            wanted, got = (Runner(path, optimise=True).run(feed, ["embedding"])[0] for path in (a, b))
            assert np.array_equal(wanted, got)


def test_the_same_feeds_give_the_same_files(image: Any, tmp_path: Path) -> None:
    one = quantise_encoder(image.path, tmp_path / "a", "image", image.feeds)
    two = quantise_encoder(image.path, tmp_path / "b", "image", image.feeds)
    assert one.ranges == two.ranges
    assert one.files.data.read_bytes() == two.files.data.read_bytes()
    assert one.files.master.read_bytes() == two.files.master.read_bytes()


def test_bad_requests_are_refused_before_anything_is_written(image: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"gate is 1\.5, wanted a cosine"):
        quantise_encoder(image.path, out, "image", image.feeds, gate=1.5)
    with pytest.raises(InputError, match="no calibration feeds"):
        quantise_encoder(image.path, out, "image", [])
    with pytest.raises(InputError, match="NaN or infinite"):
        quantise_encoder(image.path, out, "image", [{"pixels": np.full((1, 3, 64, 64), np.nan, np.float32)}])
    with pytest.raises(BundleError, match=r"outputs \['embedding'\], wanted 'keywords'"):
        quantise_encoder(image.path, out, "image", image.feeds, output="keywords")
    with pytest.raises(BackendError, match=r"refuses the feed pixels \[1, 3, 8\]"):
        quantise_encoder(image.path, out, "image", [{"pixels": np.zeros((1, 3, 8), np.float32)}])
    assert not out.exists()


def test_a_bundle_without_its_data_file_is_one_line(image: Any, tmp_path: Path) -> None:
    files = quantise_encoder(image.path, tmp_path, "image", image.feeds, gate=None).files
    files.data.unlink()
    with pytest.raises(BundleError, match="ONNX Runtime cannot load image") as error:
        compare(image.path, files.master, image.feeds)
    assert "\n" not in str(error.value)


def test_graphs_of_two_encoders_cannot_be_compared(image: Any, text: Any) -> None:
    with pytest.raises(InputError, match="wanted"):
        compare(image.path, text.path, image.feeds)
