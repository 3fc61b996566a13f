"""Recall@10 and cosines of candidates: known numbers, and int8 against fp32 of a real bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.suite import inputs
from sayclip_benchmarks.suite.cases import Case, cases_of
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.recall import REFERENCE, Accuracy, least_cosine, recall_change
from sayclip_benchmarks.suite.worker import Worker

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = DEMO / "bundle"


@pytest.fixture(scope="module")
def sources() -> Sources:
    demo = read_demo(DEMO)
    return Sources(demo.pictures, demo.names, sorted((DEMO / "queries").glob("*.wav")))


@contextmanager
def workers(bundle: Path, encoder: str) -> Iterator[dict[str, Worker]]:
    with ExitStack() as stack:
        found = {}
        for label, precision in ((REFERENCE, "fp32"), ("onnxruntime int8", "int8-u8")):
            told = {"kind": "sayclip", "bundle": str(bundle), "encoder": encoder, "backend": "onnxruntime"}
            found[label] = stack.enter_context(Worker({**told, "precision": precision}))
        yield found


def on_a_circle(degrees: Any) -> Any:
    angles = np.radians(np.asarray(degrees, np.float64))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_what_is_found_is_counted() -> None:
    gallery = on_a_circle(np.arange(0, 360, 10))  # 36 of them
    wanted = on_a_circle([2.0, 92.0])  # of the first the nearest are 0, 10, -10, 20, -20 … -40, 50
    assert recall_change(wanted, wanted, gallery) == 0.0
    assert recall_change(wanted, 3 * wanted, gallery) == 0.0, "lengths do not count"
    # Turned by 20 degrees, two of the ten are others; by 180, all of them.
    assert recall_change(wanted, on_a_circle([22.0, 112.0]), gallery) == pytest.approx(-0.2)
    assert recall_change(wanted, on_a_circle([22.0, 92.0]), gallery) == pytest.approx(-0.1)
    assert recall_change(wanted, -wanted, gallery) == -1.0
    assert recall_change(wanted, wanted[::-1], gallery, k=1) == -1.0


def test_what_is_as_near_as_the_tenth_is_found() -> None:
    gallery = on_a_circle([0.0] * 30 + [90.0] * 30)
    wanted, seen = on_a_circle([1.0]), on_a_circle([1.5])
    assert recall_change(wanted, seen, gallery) == 0.0, "of thirty alike any ten are right"
    assert recall_change(wanted, on_a_circle([89.0]), gallery) == -1.0


def test_what_is_not_finite_finds_nothing_and_stays_a_number() -> None:
    rng = np.random.default_rng(0)
    wanted, gallery = rng.normal(size=(8, 16)), rng.normal(size=(200, 16))
    broken = np.full_like(wanted, np.nan)
    assert recall_change(wanted, broken, gallery) < -0.8
    assert least_cosine(wanted, broken) == 0.0
    assert least_cosine(wanted, -wanted) == pytest.approx(-1.0)


def test_noise_costs_recall_by_how_much_it_is() -> None:
    rng = np.random.default_rng(0)
    wanted, gallery = rng.normal(size=(64, 32)), rng.normal(size=(256, 32))
    noise = rng.normal(size=wanted.shape)
    changes = [recall_change(wanted, wanted + size * noise, gallery) for size in (0.0, 0.01, 0.1, 1.0)]
    assert changes[0] == 0.0
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < -0.3


@pytest.mark.parametrize("encoder", ["image", "text", "pronunciation", "speech"])
def test_int8_of_a_real_bundle_finds_almost_what_fp32_finds(encoder: str, sources: Sources, tmp_path: Path) -> None:
    manifest = Manifest.read(BUNDLE)
    case = cases_of(encoder, quick=True)[0]
    made = inputs.make(manifest, case, sources, tmp_path / "in")
    accuracy = Accuracy(manifest, tmp_path, sources)
    with workers(BUNDLE, encoder) as running:
        found = accuracy.of(case, made, running, recall=True)
        alone = accuracy.of(case, made, running, recall=False)
        none = accuracy.of(case, made, {"onnxruntime int8": running["onnxruntime int8"]}, recall=True)
    assert found[REFERENCE]["recall_change"] == 0.0
    assert found[REFERENCE]["cosine"] == pytest.approx(1.0)
    assert -0.1 < found["onnxruntime int8"]["recall_change"] < 0.0
    assert 0.99 < found["onnxruntime int8"]["cosine"] < 1.0
    assert alone == {label: {"cosine": values["cosine"]} for label, values in found.items()}
    assert none == {}
    assert {path.name for path in tmp_path.iterdir()} == {"in"}, "inputs are put away again"


def test_without_an_image_encoder_inputs_are_searched_among_others_of_their_kind(
    sources: Sources, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in (*BUNDLE.glob("text.*"), BUNDLE / "tokenizer.txt"):
        shutil.copy(path, bundle)
    document = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    document["encoders"] = {"text": document["encoders"]["text"]}
    (bundle / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    manifest, case = Manifest.read(bundle), Case("session", "text", "8 tokens", 8)
    made = inputs.make(manifest, case, sources, tmp_path / "in")
    with workers(bundle, "text") as running:
        found = Accuracy(manifest, tmp_path, sources).of(case, made, running, recall=True)
    assert -0.1 < found["onnxruntime int8"]["recall_change"] < 0.0


def test_who_gives_something_else_or_fails_has_no_figures(sources: Sources, tmp_path: Path) -> None:
    manifest, case = Manifest.read(BUNDLE), Case("session", "text", "8 tokens", 8)
    made = inputs.make(manifest, case, sources, tmp_path / "in")
    with workers(BUNDLE, "text") as running, workers(BUNDLE, "speech") as others:
        running["another encoder"] = others[REFERENCE]
        running["gone"] = others["onnxruntime int8"]
        running["gone"]._process.kill()
        found = Accuracy(manifest, tmp_path, sources).of(case, made, running, recall=True)
    assert found.keys() == {REFERENCE, "onnxruntime int8"}


def test_outputs_are_of_the_inputs_that_are_named(sources: Sources, tmp_path: Path) -> None:
    manifest, case = Manifest.read(BUNDLE), Case("session", "text", "8 tokens", 8)
    with workers(BUNDLE, "text") as running:
        seen = []
        for first in (0, 8):
            made = inputs.make(manifest, case, sources, tmp_path / str(first), count=8, first=first)
            running[REFERENCE].outputs(case.to_dict(), made, tmp_path / "seen.npy")
            seen.append(np.load(tmp_path / "seen.npy"))
    both = np.concatenate(seen)
    assert both.shape == (16, manifest.width)
    assert len(np.unique(both.round(4), axis=0)) == 16


@pytest.mark.parametrize("encoder", ["text", "pronunciation", "speech"])
def test_there_are_enough_different_inputs(encoder: str, sources: Sources, tmp_path: Path) -> None:
    case = cases_of(encoder, quick=True)[0]
    made = inputs.make(Manifest.read(BUNDLE), case, sources, tmp_path, count=64)
    [name] = {"text": ["token_ids"], "pronunciation": ["phoneme_ids"], "speech": ["waveform"]}[encoder]
    rows = {feed[name].tobytes() for feed in inputs.load(made)}
    assert len(rows) > 50, "few of them are said twice"
