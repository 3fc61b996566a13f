"""Beside optimum: cold starts in real processes, and the figures that are made of rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sayclip_benchmarks.cold import optimum as cold_optimum
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.report import document as documents
from sayclip_benchmarks.suite import figures, figures_optimum
from sayclip_benchmarks.suite.plan import OPTIMUM

DEMO = read_demo(Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo")
BUNDLE = DEMO.folder / "bundle"


def test_a_bundle_of_another_size_is_not_held_against_optimum(tmp_path: Path) -> None:
    assert cold_optimum.beside_optimum([BUNDLE], DEMO, tmp_path, 1) == []


def test_our_starts_and_a_missing_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own speech encoder stands in for one of full size."""
    monkeypatch.setattr(cold_optimum, "_HUBERT_BASE", (0.0, 1e9))
    monkeypatch.delenv(OPTIMUM, raising=False)
    auto, alike, peer = cold_optimum.beside_optimum([BUNDLE], DEMO, tmp_path, 1)
    assert auto["candidate"].startswith("auto (")
    assert " fp32" in alike["candidate"]
    for start in (auto, alike):
        assert (start["status"], start["why"], start["runs"]) == ("ok", "", 1)
        assert start["total_s"] == pytest.approx(start["import_s"] + start["load_s"] + start["first_s"])
        assert start["rss_bytes"] > 20_000_000
    assert (peer["candidate"], peer["status"]) == ("optimum fp32", "missing")
    assert OPTIMUM in peer["why"]
    assert len({start["what"] for start in (auto, alike, peer)}) == 1


@pytest.mark.skipif(not os.environ.get(OPTIMUM), reason=f"${OPTIMUM} names an environment with optimum")
def test_optimum_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_optimum, "_HUBERT_BASE", (0.0, 1e9))
    *_, peer = cold_optimum.beside_optimum([BUNDLE], DEMO, tmp_path, 1)
    assert (peer["status"], peer["why"]) == ("ok", "")
    assert (tmp_path / "optimum" / "speech" / "onnx" / "model.onnx").stat().st_size > 300_000_000


def session(candidate: str, kind: str, p50: float, rss: int, size: str = "3 s", model: int = 400) -> dict[str, Any]:
    told = {"what": "session", "encoder": "speech", "size": size, "batch": 1, "candidate": candidate, "kind": kind}
    return {**told, "p50_ms": p50, "rss_bytes": rss, "model_bytes": model}


def start(candidate: str, total: float, rss: float) -> dict[str, Any]:
    return {"candidate": candidate, "what": figures_optimum.COLD, "total_s": total, "rss_bytes": rss}


ROWS = [
    session("optimum fp32", "peer", 100.0, 1000, model=377),
    session("auto", "sayclip", 50.0, 400),
    session("onnxruntime fp32", "sayclip", 110.0, 900),
    session("openvino fp32", "sayclip", 80.0, 2000),
    session("direct onnxruntime fp32", "direct", 10.0, 1),
    session("optimum fp32", "peer", 300.0, 1000, "6 s", model=377),
    session("auto", "sayclip", 200.0, 400, "6 s"),
    session("onnxruntime fp32", "sayclip", 200.0, 900, "6 s"),
]
STARTS = [
    start("auto (openvino int8, compiled graph cached)", 1.0, 450e6),
    start("openvino fp32, compiled at every start", 1.5, 986e6),
    start("optimum fp32", 4.5, 845e6),
]


def test_the_worst_case_is_told_of_auto_and_of_fp32() -> None:
    latency, memory, total, peak = figures_optimum.figures(ROWS, STARTS)
    assert latency == (
        "optimum's ORTModel, latency (speech)",
        "ahead, > 1 ×",
        "1.50 × (auto, speech, 6 s); fp32 alone 1.25 × (openvino fp32, speech, 3 s)",
        True,
    )
    # Memory is that of the backend that is quickest, not of another one that needs less.
    assert memory[2] == "2.50 × (auto, speech, 3 s); fp32 alone 0.50 × (openvino fp32, speech, 3 s)"
    assert memory[3] is True
    assert total[2].startswith("4.50 × (1.00 s, auto (openvino int8")
    assert "fp32 alone 3.00 × (1.50 s, openvino fp32" in total[2]
    assert peak[2].startswith("1.88 × (450 MB, auto")
    assert "fp32 alone 0.86 × (986 MB" in peak[2]
    assert [one[3] for one in (latency, memory, total, peak)] == [True, True, True, True]


def test_who_is_behind_misses() -> None:
    slow = [{**row, "p50_ms": 1000.0, "rss_bytes": 5000} if row["candidate"] == "auto" else row for row in ROWS]
    late = [start("auto (onnxruntime int8)", 9.0, 900e6), *STARTS[1:]]
    assert [one[3] for one in figures_optimum.figures(slow, late)] == [False, False, False, False]


def test_models_of_other_sizes_are_not_compared() -> None:
    small = [{**row, "model_bytes": 7} if row["candidate"] == "onnxruntime fp32" else row for row in ROWS]
    assert figures_optimum.figures(small, []) == []
    assert figures_optimum.figures([row for row in ROWS if row["kind"] != "peer"], STARTS[:2]) == []


def test_they_are_among_the_figures_and_do_not_disturb_the_other_start(
    results: Callable[..., dict[str, Any]],
) -> None:
    document = results()
    measured = {"status": "ok", "why": "", "import_s": 0.1, "load_s": 0.1, "first_s": 0.1, "steady_s": 0.01, "runs": 1}
    before = {row[0]: row for row in figures.figures(document)}
    beside = [{**measured, **one, "rss_bytes": int(one["rss_bytes"])} for one in STARTS]
    with_starts = {**document, "cold": [*document["cold"], *beside]}
    documents.check(with_starts)
    after = {row[0]: row for row in figures.figures(with_starts)}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "optimum's ORTModel, cold start",
        "optimum's ORTModel, peak memory at that start",
    }
    assert "| optimum's ORTModel, cold start | ahead, > 1 × | 4.50 × " in figures.markdown(with_starts)


def test_the_quickest_start_is_held_to_and_what_auto_takes_is_told(results: Callable[..., dict[str, Any]]) -> None:
    document = results()
    starts = {one["candidate"]: one for one in document["cold"]}
    starts["openvino"] |= {"import_s": 0.05, "load_s": 0.05, "first_s": 0.05, "total_s": 0.15}
    seen = {row[0]: row for row in figures.figures(document)}
    assert seen["cold start to the first spoken result against PyTorch"][2:] == (
        "18.00 × (0.15 s, openvino); 7.50 × (0.36 s, auto)",
        "holds",
    )
    assert seen["its peak memory"][2:] == ("0.31 × (160 MB); 0.23 × of auto", "holds")
