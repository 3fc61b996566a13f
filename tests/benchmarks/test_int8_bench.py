"""The figures of `sayclip bench int8`: what they measure, on numbers whose answer is known, and what the table says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.int8 import measure, table

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"


def crowded(seed: int, count: int = 300, spread: float = 0.05) -> NDArray[np.float32]:
    """Embeddings in a narrow cone, as those of random networks are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(64) + spread * rng.standard_normal((count, 64))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_the_same_embeddings_agree() -> None:
    seen = measure.agreement(crowded(0), crowded(0))
    assert seen["mean_cosine"] == pytest.approx(1.0)
    assert seen["top10_overlap"] == 1.0


def test_centring_sees_what_crowding_hides() -> None:
    reference = crowded(0)
    other = reference + np.random.default_rng(1).normal(0, 0.003, reference.shape).astype(np.float32)
    seen = measure.agreement(reference, other)
    assert seen["raw_worst_cosine"] > 0.999
    assert 0.5 < seen["mean_cosine"] < 0.95
    assert seen["worst_cosine"] < seen["mean_cosine"]
    assert seen["top10_overlap"] < 0.9


def test_other_embeddings_share_no_neighbours() -> None:
    seen = measure.agreement(crowded(0), crowded(5))
    assert abs(seen["mean_cosine"]) < 0.3
    assert seen["top10_overlap"] < 0.15


def test_inputs_have_the_sizes_that_the_figures_are_for() -> None:
    from sayclip_benchmarks.int8.making import Inputs

    demo = read_demo(DEMO)
    waves = tuple(sorted((DEMO / "queries").glob("*.wav"))[:2])
    given = Inputs(demo.pictures[:2], demo.names[:2], waves, {})
    image, text, speech = (measure.feeds(DEMO / "bundle", name, given, 2) for name in ("image", "text", "speech"))
    assert {feed["pixels"].shape[0] for feed in image} == {1}
    assert {feed["token_ids"].shape for feed in text} == {(1, 77)}
    assert {feed["waveform"].shape for feed in speech} == {(1, 48_000)}
    assert not np.array_equal(text[0]["token_ids"], text[1]["token_ids"]), "inputs rotate"


def test_speeds_are_of_every_candidate_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "torch_models", lambda name, device: {})  # of full size, for other pictures
    from sayclip_benchmarks.int8.making import Inputs

    demo = read_demo(DEMO)
    given = Inputs(demo.pictures[:4], demo.names[:4], (), {})
    seen = measure.speed(DEMO / "bundle", "image", given, turns=2)
    assert {"onnxruntime fp32", "onnxruntime int8"} <= seen.keys()
    assert all(0 < row["p50_ms"] <= row["p90_ms"] for row in seen.values())
    assert seen["onnxruntime fp32"]["cosine"] == pytest.approx(1.0)
    assert 0.99 < seen["onnxruntime int8"]["cosine"] < 0.999999


def test_without_a_gpu_nothing_is_timed_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    from sayclip_benchmarks.int8.making import Inputs

    demo = read_demo(DEMO)
    given = Inputs(demo.pictures[:4], demo.names[:4], (), {})
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert measure.speed(DEMO / "bundle", "image", given, turns=1, device="cuda") == {}
    said = capsys.readouterr().err
    assert "onnxruntime-cuda fp32 is left out" in said
    assert "tensorrt int8 is left out" in said


def report(mean: float, speedup: float, given_back: int) -> dict[str, Any]:
    point = {"given_back": given_back, "int8_share": 0.97, "mean": mean, "worst": 0.9, "passed": True}
    return {
        "items": 1000,
        "environment": {"cpu": "some processor", "cores": 2},
        "encoders": {
            "image": {
                "sha256": "ab" * 32,
                "agreement": {"openvino": {"mean_cosine": mean, "worst_cosine": 0.9, "top10_overlap": 0.95}},
                "speed": {"openvino int8": {"p50_ms": 10.0, "p90_ms": 11.0, "speedup": speedup}},
                "engine_bytes": {"fp32": 100, "int8": 28},
                "calibration": {"seconds": 60.0, "peak_memory_bytes": 3e9, "samples": 64},
                "points": [point],
                "int8_share": 0.97,
            }
        },
    }


def test_the_table_says_what_holds_and_what_does_not() -> None:
    good, bad = (table.markdown(report(mean, gain, 1)) for mean, gain in ((0.996, 6.5), (0.994, 5.0)))
    assert good.count("| holds |") == 4
    assert "missed" not in good
    assert bad.count("| missed |") == 2
    assert "| image | 1 | 97.0% | 0.9940 | 0.9000 |" in bad
    assert "image abababababab" in good


def test_one_bundles_figures_stand_beside_the_others(tmp_path: Path) -> None:
    image, speech = report(0.996, 6.5, 1), report(0.991, 4.0, 2)
    speech["encoders"] = {"speech": speech["encoders"]["image"]}
    path = tmp_path / "int8.json"
    assert table.beside(path, image) == image
    path.write_text(json.dumps(speech), encoding="utf-8")
    assert list(table.beside(path, image)["encoders"]) == ["image", "speech"]
    path.write_text(json.dumps({**speech, "items": 10}), encoding="utf-8")
    assert table.beside(path, image) == image
