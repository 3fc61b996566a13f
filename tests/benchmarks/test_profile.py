"""Where the time goes inside a graph: real sessions of the demo's bundle, tables that add up, traces that load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sayclip.cli.main import main

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = str(DEMO / "bundle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profile")
    assert main(["bench", "profile", BUNDLE, "--encoder", "text", "--runs", "5", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
    return found


def test_the_trace_holds_what_perfetto_reads(folder: Path) -> None:
    events = json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    named = {event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "process_name"}
    assert any("onnxruntime" in name for name in named)
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["name"]
            lanes.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
    assert lanes
    for spans in lanes.values():
        open_until: list[float] = []
        for start, length in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_until and open_until[-1] <= start + 0.5:
                open_until.pop()
            assert not open_until or start + length <= open_until[-1] + 0.5, "events of one thread follow or nest"
            open_until.append(start + length)


def test_the_document_has_every_backend_that_is_here(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert document["schema"] == "sayclip-profile/1"
    assert "onnxruntime" in text
    assert "openvino" in text


def test_the_page_has_shares_and_a_roofline(folder: Path) -> None:
    page = (folder / "profile.md").read_text(encoding="utf-8")
    assert "not in any operator" in page
    assert "of the roofline" in page
    shares: list[float] = []
    for line in page.splitlines():  # the first table alone: operators by kind
        if line.startswith("| slowest"):
            break
        if line.startswith("|") and line.rstrip("| ").endswith("%"):
            shares.append(max(0.0, float(line.rstrip("| %").rsplit("|", 1)[1])))
    assert 95.0 < sum(shares) < 105.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--encoder", "nose"], "nose"),
        (["--encoder", "text", "--backend", "abacus"], "abacus"),
        (["--encoder", "text", "--backend", "tensorrt"], "tensorrt"),
        (["--encoder", "text", "--precision", "fp4"], "fp4"),
        (["--encoder", "text", "--runs", "0"], "--runs is 0"),
        (["--encoder", "text", "--size", "a mile"], "a mile"),
    ],
)
def test_what_cannot_be_profiled_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "profile", BUNDLE, *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
