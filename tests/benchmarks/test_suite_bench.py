"""A whole small run over the demo's bundle: rows for what is here and what is not, figures beside what is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sayclip.cli.main import main
from sayclip_benchmarks.suite.figures import figures

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    words = ["bench", str(DEMO / "bundle"), "--demo", str(DEMO), "--quick", "--no-cold", "--turns", "2"]
    words += ["--vectors", "500", "--minimum-seconds", "0.2", "--work", str(folder / "work")]
    words += ["--encoder", "text", "--encoder", "search", "--out", str(folder / "seen")]
    assert main(words) == 0
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    found["folder"] = str(folder)
    return found


def rows(document: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in document["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_what_is_here_is_timed(document: dict[str, Any]) -> None:
    labels = {row["candidate"] for row in rows(document, what="session", status="ok")}
    assert {"auto", "onnxruntime fp32", "onnxruntime int8", "direct onnxruntime fp32", "openvino int8"} <= labels
    for row in rows(document, status="ok"):
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["timed"]
    [fp32] = rows(document, what="session", candidate="onnxruntime fp32", status="ok")
    assert fp32["cosine"] == pytest.approx(1.0)
    assert fp32["rss_bytes"] > 20e6
    [auto] = rows(document, what="session", candidate="auto")
    assert auto["chosen"] in labels


def test_what_is_not_here_is_a_row_that_says_so(document: dict[str, Any]) -> None:
    missing = {row["candidate"]: row["why"] for row in rows(document, status="missing")}
    assert "engine" in missing["tensorrt_rtx int8"] or "driver" in missing["tensorrt_rtx int8"]
    assert "SAYCLIP_OPTIMUM_PYTHON" in missing["optimum fp32"]
    assert all("\n" not in why for why in missing.values())


def test_pytorch_without_known_sizes_is_a_row(document: dict[str, Any]) -> None:
    [row] = rows(document, candidate="torch fp32")
    assert row["status"] == "failed"
    assert "does not say the sizes" in row["why"]


def test_search_is_timed_against_numpy(document: dict[str, Any]) -> None:
    found = {row["candidate"]: row for row in rows(document, what="search", status="ok")}
    assert {"sayclip", "numpy fp32"} <= found.keys()
    assert found["numpy fp32"]["speedup"] == 1.0


def test_scenarios_say_that_they_are_short(document: dict[str, Any]) -> None:
    [one] = [row for row in document["scenarios"] if row["candidate"] == "auto"]
    assert one["scenario"] == "SingleStream"
    assert not one["valid"]
    assert "of 600 s" in one["why"]


def test_the_run_leaves_pages_and_the_same_document_never_regresses(document: dict[str, Any]) -> None:
    folder = Path(document["folder"])
    assert "| figure | wanted | seen | |" in (folder / "seen.md").read_text(encoding="utf-8")
    assert main(["bench", "compare", str(folder / "seen.json"), str(folder / "seen.json")]) == 0


def test_bad_words_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--turns", "1"]) == 2
    assert main(["bench", "nowhere", "--quick"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert "nowhere" in said[1]


def row(what: str, encoder: str, candidate: str, p50: float, **more: Any) -> dict[str, Any]:
    base = {"what": what, "encoder": encoder, "candidate": candidate, "status": "ok", "batch": 1, "size": "3 s"}
    kind = "direct" if candidate.startswith("direct") else "sayclip"
    base |= {"amount": 3.0, "kind": kind, "p50_ms": p50, "p90_ms": p50, "cosine": 1.0, "speedup": 200 / p50}
    return {**base, "speedup_ci": [1.0, 9.0], "turn_p50_ms": [p50] * 3, **more}


def test_figures_hold_or_are_missed() -> None:
    search = row("search", "", "sayclip", 1.5, size="100,000 vectors")
    good = [row("query", "speech", "auto", 50.0), search]
    bad = [row("query", "speech", "auto", 160.0), {**search, "p90_ms": 2.5}]
    assert [found[3] for found in figures({"rows": good})] == ["holds"] * 3
    assert [found[3] for found in figures({"rows": bad})] == ["missed"] * 3


def test_auto_is_held_against_the_best_of_the_others() -> None:
    seen = [row("session", "speech", "auto", 10.0), row("session", "speech", "direct openvino int8", 9.0)]
    seen.append(row("session", "speech", "onnxruntime int8", 9.8))
    assert [found[3] for found in figures({"rows": seen})] == ["missed", "holds"]
    # A turn in which something else slowed the machine, and so both candidates, decides nothing.
    slowed = [{**one, "p50_ms": 30.0, "turn_p50_ms": [10.0, 30.0, 31.0]} for one in seen[:2]]
    slowed[1] |= {"p50_ms": 10.0, "turn_p50_ms": [9.9, 29.9, 9.0]}
    assert figures({"rows": slowed})[0][2].startswith("0.99 ×")
    wrong = [{**seen[1], "cosine": 0.2}, *seen[:1]]  # fast and wrong is no match
    assert figures({"rows": wrong}) == []
