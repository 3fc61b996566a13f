"""`sayclip bench profile` on the demo's graphs, in ONNX Runtime and OpenVINO as they are."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.errors import SayclipError
from sayclip.sessions.backends import unavailable
from sayclip_benchmarks.profile import add, ceilings, feeds, record, work

BUNDLE = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo" / "bundle"
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(unavailable(name)), reason=unavailable(name)))
    for name in ("onnxruntime", "openvino", "openvino-bf16")
]


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "SIDE", 256)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 22)


def profile(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    chosen = parser.parse_args(["profile", *arguments])
    return int(chosen.run(chosen))


def refused(*arguments: str) -> str:
    with pytest.raises(SayclipError) as caught:
        profile(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    return message


@pytest.fixture(scope="module")
def demo() -> Manifest:
    return Manifest.read(BUNDLE)


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(str(BUNDLE), "--encoder", "text", "--runs", "5", "--out", str(tmp_path / "new" / "out")) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "new" / "out"
    assert (out / "profile.md").read_text(encoding="utf-8").strip() == printed.strip()
    document = json.loads((out / "profile.json").read_text(encoding="utf-8"))
    assert document["schema"] == "sayclip-profile/1"
    assert (document["encoder"], document["size"]) == ("text", "8 tokens")
    events = json.loads((out / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert [name.split()[0] for name in names] == [figures["backend"] for figures in document["backends"]]
    for process, figures in enumerate(document["backends"], start=1):
        complete = [event for event in events if event["pid"] == process and event["ph"] == "X"]
        whole = next(event for event in complete if event["cat"] == "run")
        assert (whole["name"], whole["ts"]) == ("text 8 tokens", 0)
        operators = sorted(
            (event for event in complete if event is not whole), key=lambda event: (event["ts"], event["dur"])
        )
        ends = [event["ts"] + event["dur"] for event in operators]
        assert all(end <= after["ts"] for end, after in zip(ends, operators[1:], strict=False)), (
            "no loops in this graph"
        )
        assert max(ends) <= whole["dur"]
        assert figures["operators_us"] == pytest.approx(sum(row["us"] for row in figures["types"]))
        assert figures["wall_us"] == pytest.approx(figures["operators_us"] + figures["outside_us"])
        assert figures["roofline"]["unmatched"] < 0.05
        assert figures["roofline"]["whole"]["us"] <= figures["operators_us"]


def test_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--encoder", "image", "--backend", "onnxruntime", "--precision", "fp32", "--threads", "1", "--json")
    assert profile(str(BUNDLE), *arguments, "--runs", "3") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    (figures,) = document["backends"]
    assert (figures["backend"], figures["precision"], figures["threads"]) == ("onnxruntime", "fp32", 1)
    assert figures["types"][0]["us"] >= figures["types"][-1]["us"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_times_of_operators_are_those_of_the_run(backend: str, demo: Manifest) -> None:
    given, size = feeds.make(demo, "speech", "3 s")
    precision = record.precision_for(demo, "speech", backend, None)
    recorded = record.record(demo, "speech", backend, precision, given, runs=10)
    assert (size, recorded.backend, recorded.precision) == ("3 s", backend, precision)
    assert precision.startswith("int8")
    within = statistics.median(sum(event.us for event in run) for run in recorded.runs)
    assert 0.3 * statistics.median(recorded.wall_us) < within <= 1.5 * max(recorded.profiled_us)
    kernels = " ".join(event.kernel.lower() for event in recorded.runs[0])
    assert ("bf16" in kernels) == (backend == "openvino-bf16")
    assert "i8" in kernels or "uint8" in kernels


def test_work_is_that_of_the_graph(tiny_bundle: Path) -> None:
    """Average pooling, and [48] times [48, 32]."""
    manifest = Manifest.read(tiny_bundle)
    given, _ = feeds.make(manifest, "image", None)
    for precision in ("fp32", "int8"):
        found = work.of_graph(manifest.path(manifest.entry("image").graphs[precision].file), given[0])
        assert list(found.values()) == [work.Work(48 * 32, 48 + 48 * 32, 32)]


def test_sizes(demo: Manifest) -> None:
    given, size = feeds.make(demo, "speech", "1.5s")
    assert size == "1.5 s"
    assert all(feed["length"].tolist() == [24_000] and feed["waveform"].shape[1] >= 24_000 for feed in given)
    assert len({feed["waveform"].tobytes() for feed in given}) > 1, "inputs rotate"
    given, size = feeds.make(demo, "text", "12 tokens")
    assert {feed["token_ids"].shape for feed in given} == {(1, 12)}
    ends = {(int(feed["token_ids"][0, 0]), int(feed["token_ids"][0, -1])) for feed in given}
    assert len(ends) == 1, "texts begin and end with their marks"
    assert all(np.all(feed["token_ids"][0, 1:-1] < max(next(iter(ends)))) for feed in given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--encoder", "smell"), "smell"),
        (("--encoder", "text", "--backend", "abacus"), "there is no backend 'abacus'"),
        (("--encoder", "text", "--backend", "tensorrt"), "backend 'tensorrt' has no profile here"),
        (("--encoder", "text", "--precision", "int3"), "no 'int3' graph: use one of fp32"),
        (("--encoder", "text", "--size", "many"), "--size is 'many': give 3 to"),
        (("--encoder", "speech", "--size", "900 s"), "--size is '900 s'"),
        (("--encoder", "image", "--size", "64"), "inputs of one size"),
        (("--encoder", "text", "--runs", "0"), "--runs is 0"),
        (("--encoder", "text", "--threads", "0"), "threads is 0"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(str(BUNDLE), *arguments)


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    assert "holds no bundle.json" in refused(str(tmp_path), "--encoder", "text")


def test_torch_is_not_needed(tmp_path: Path) -> None:
    """A device has neither torch nor onnx: only the ceilings of their making are missing, and that is said."""
    code = """
import sys
for name in ("torch", "onnx", "transformers"):
    sys.modules[name] = None
import argparse
from sayclip_benchmarks.profile import add
parser = argparse.ArgumentParser()
add(parser.add_subparsers())
chosen = parser.parse_args(["profile", sys.argv[1], "--encoder", "image", "--runs", "2", "--backend", "onnxruntime"])
sys.exit(chosen.run(chosen))
"""
    done = subprocess.run([sys.executable, "-c", code, str(BUNDLE)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "GOP/s (numpy)" in done.stdout
    assert "int8 not known (wants the onnx package" in done.stdout
    assert "| QLinearConv |" in done.stdout
