"""The report says what was done, in JSON that anyone can read and in a page that nothing can break."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.bundle.entries import FileEntry
from sayclip.bundle.manifest import Manifest
from sayclip_calibration.data import Inputs, Sample
from sayclip_calibration.gates import Gate, Judgement, Limits
from sayclip_calibration.markdown import markdown, ranked, verdict
from sayclip_calibration.report import (
    Outcome,
    describe_precision,
    earlier,
    finite,
    for_manifest,
    to_json,
    versions,
    whole,
)
from sayclip_calibration.retrieval import Retrieval


@dataclass(frozen=True)
class Layer:
    node: str
    op: str
    mean: float
    worst: float


@dataclass(frozen=True)
class Point:
    given_back: int
    int8_share: float
    mean: float
    worst: float
    passed: bool


@dataclass(frozen=True)
class Seen:
    """As the core hands it over."""

    judgement: Judgement
    precision: str = "int8"
    sites: tuple[str, ...] = ("conv_1", "linear_2")
    skipped: dict[str, str] = field(default_factory=lambda: {"linear_3": "given back to fp32", "norm": "no weights"})
    scales: dict[str, tuple[str, float, float]] = field(
        default_factory=lambda: {"hidden": ("mse", 12.7, 6.35), "pixels": ("minmax", 1.0, 1.0)}
    )
    smoothed: dict[str, float] = field(default_factory=lambda: {"norm_1": 0.5})
    ranked: tuple[Layer, ...] = (Layer("linear_3", "Gemm", 0.99, 0.9), Layer("conv_1", "Conv", 0.9999, 0.999))
    given_back: tuple[str, ...] = ("linear_3",)
    seconds: float = 12.5
    points: tuple[Point, ...] = (Point(0, 1.0, 0.97, 0.9, False), Point(1, 0.9, 0.997, 0.99, True))
    int8_share: float = 0.9


NAMES = tuple(f"p{n}.png" for n in range(40))


def gate() -> Gate:
    return Gate(Limits(), Retrieval(), NAMES)


def judgement(noise: float) -> Judgement:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 16)).astype(np.float32)
    two = one + noise * rng.normal(size=one.shape).astype(np.float32)
    return gate().judge({"embedding": one}, {"embedding": two})


def inputs(left_out: tuple[tuple[str, str], ...] = ()) -> Inputs:
    samples = tuple(Sample(f"p{n}.png", frozenset(), {}, f"{n:064x}") for n in range(80))
    return Inputs(samples[:40], samples[40:], (), left_out, 3)


def section(noise: float = 0.01, force: bool = False, **changes: Any) -> dict[str, Any]:
    judged = judgement(noise)
    files = (
        FileEntry("image.int8.onnx", "1" * 64, 1000),
        FileEntry("image.int8.data", "2" * 64, 5000),
        FileEntry("image.int8-u8.onnx", "3" * 64, 1010),
    )
    outcome = Outcome(
        judged.passed or force, judged.passed, force and not judged.passed, judged.failed, files, 0.99, 0.975
    )
    left_out = changes.pop("left_out", (("bad | name.png", "is `empty`\n(0 bytes)"),))
    return describe_precision(
        Seen(judged, **changes), outcome, gate(), inputs(left_out), "--images", 24_040, {"seed": 7, "samples": 40}
    )


def document(**sections: Any) -> dict[str, Any]:
    fp32 = {"file": "image.fp32.onnx", "sha256": "a" * 64, "bytes": 24_040}
    return {
        "schema": 1,
        "encoder": "image",
        "bundle": "tiny",
        "space": "tiny-1",
        "fp32": fp32,
        "precisions": sections,
    }


def test_everything_that_was_done_is_told() -> None:
    found = section()
    assert found["passed"]
    assert found["written"]
    assert found["data"] == {
        "option": "--images",
        "calibration": 40,
        "judged": 40,
        "seed": 7,
        "sha256": inputs().sha256,
        "left_out": [{"name": "bad | name.png", "reason": "is `empty`\n(0 bytes)"}],
        "repeated": 3,
        "search": {"role": "alone", "truth": "what fp32 finds first, or nearly as good", "against": None},
    }
    scale = found["scales"]["hidden"]
    assert scale == {"method": "mse", "absmax_seen": 12.7, "absmax_used": 6.35, "scale": pytest.approx(0.05)}
    assert found["given_back"] == [{"node": "linear_3", "to": "given back to fp32"}]
    assert found["sensitivity"][0] == {"node": "linear_3", "op": "Gemm", "mean": 0.99, "worst": 0.9}
    assert found["smoothed"] == {"norm_1": 0.5}
    assert found["int8_share"] == 0.9
    assert found["points"][1] == {"given_back": 1, "int8_share": 0.9, "mean": 0.997, "worst": 0.99, "passed": True}
    assert found["bytes"] == 6010  # a device loads one of the two forms
    assert found["smaller"] == 0.25
    assert len(found["cosines"]) == 40
    assert found["worst_sample"] in NAMES
    assert found["worst_cosine"] == min(found["cosines"])
    assert {check["gate"] for check in found["gates"]} >= {"mean centred cosine", "change of recall@1"}
    assert found["peak_memory_bytes"] > 1 << 20
    assert found["seconds"] == 12.5
    assert {"python", "numpy", "onnx", "onnxruntime"} <= versions().keys()


def test_the_hash_over_the_inputs_knows_their_order() -> None:
    one = inputs()
    assert one.sha256 == inputs().sha256
    assert Inputs(one.judged, one.calibration, (), (), 0).sha256 != one.sha256
    assert Inputs(one.calibration[:39], (one.calibration[39], *one.judged), (), (), 0).sha256 != one.sha256


@pytest.mark.parametrize(
    ("noise", "force", "words"),
    [
        (0.01, False, "passed"),
        (0.01, True, "passed"),
        (1.0, False, "missed its gates, not written"),
        (1.0, True, "missed its gates, written with --force"),
    ],
)
def test_the_verdict_says_what_became_of_it(noise: float, force: bool, words: str) -> None:
    found = section(noise, force)
    assert verdict(found) == words
    page = markdown(document(int8=found))
    assert f"## int8: {words}" in page
    assert ("- missed: mean centred cosine is" in page) == (noise == 1.0)
    assert ("**no**" in page) == (noise == 1.0)


def test_what_is_no_number_is_null_and_json_stays_json() -> None:
    seen = Seen(judgement(0.01), seconds=math.inf, ranked=(Layer("conv", "Conv", math.nan, -math.inf),))
    outcome = Outcome(False, False, False, ("x",), (), -1.0, 0.0)
    found = describe_precision(seen, outcome, gate(), inputs(), "--images", 0, {})
    text = to_json(document(int8={**found, "seconds": 0.0}))
    again = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert again["precisions"]["int8"]["sensitivity"][0]["worst"] is None
    assert "| `conv` | Conv | – | – |" in markdown(again)


def test_the_page_holds_whatever_names_there_are() -> None:
    page = markdown(document(int8=section()), "image.calibration.png")
    assert "![What each layer costs, and the cosine of every judged sample](image.calibration.png)" in page
    assert "| bad \\| name.png | is `empty` (0 bytes) |" in page
    assert "| `hidden` | mse | 12.7 | 6.35 | 0.05 |" in page
    assert "| 1 | 90 % | 0.9970 | 0.9900 |" in page
    assert "24.0 kB" in page
    assert "25 % of fp32" in page
    for line in page.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            assert line.endswith("|")


def test_a_crosscheck_stands_beside() -> None:
    other = {
        **{"tool": "nvidia-modelopt", "version": "0.47.0", "passed": False, "bytes": 30_000, "seconds": 9.0},
        **{"mean_cosine": 0.9, "worst_cosine": 0.8, "raw_worst_cosine": 0.85, "recall": {"recall@1": -0.1}},
    }
    page = markdown(document(int8={**section(), "crosscheck": other}))
    assert "|  | this int8 | nvidia-modelopt 0.47.0 |" in page
    assert "| bytes | 6.0 kB | 30.0 kB |" in page
    assert "| recall@10 | 0.0000 | – |" in page


def test_the_table_of_layers_begins_with_the_worst() -> None:
    lines = ranked(section(), "int8")
    assert lines[0].split() == ["layer", "op", "mean", "worst", "left", "at"]
    assert lines[1].split() == ["linear_3", "Gemm", "0.990000", "0.900000", "float"]
    assert lines[2].split() == ["conv_1", "Conv", "0.999900", "0.999000", "int8"]
    assert len(ranked(section(), "int8", 1)) == 2
    assert ranked(section(ranked=()), "int8") == []


def test_the_manifest_gets_what_choosing_a_precision_needs() -> None:
    outcome = Outcome(True, True, False, (), (), 0.99, 0.975)
    found = for_manifest(judgement(0.01), outcome)
    assert found["passed"] is True
    assert found["forced"] is False
    assert found["samples"] == 40
    assert found["recall@1"] == 0.0
    assert 0.98 < found["worst_cosine"] <= found["mean_cosine"] < 1
    assert "keywords" not in found


def test_precisions_of_an_earlier_report_stay_while_their_graphs_do(tiny_bundle: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    entry = manifest.entry("image").graphs["int8"]
    files = [{"file": entry.file, "sha256": entry.sha256, "bytes": entry.bytes}]
    before = whole(manifest, "image", {"int8": {**section(), "files": files}}, {})
    path = tiny_bundle / "image.calibration.json"
    path.write_text(to_json(before))
    fp16 = {"fp16": section()}
    assert list(whole(manifest, "image", fp16, earlier(manifest, "image"))["precisions"]) == ["int8", "fp16"]
    other = {**before, "precisions": {"int8": {**before["precisions"]["int8"], "files": [{**files[0], "sha256": "0"}]}}}
    for text in (to_json(other), "{", "[]", '{"schema": 1}', '{"schema": 2, "precisions": {}}', "[" * 100_000):
        path.write_text(text)
        assert list(whole(manifest, "image", fp16, earlier(manifest, "image"))["precisions"]) == ["fp16"]
    path.unlink()
    assert earlier(manifest, "image") == {}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats(width=32).map(np.float32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(plain)
def test_any_figures_become_json(value: Any) -> None:
    json.loads(json.dumps(finite(value), allow_nan=False))
