"""MLPerf's LoadGen, the real one, drives candidates beside our own loop; where it is missing a row says so."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.cli.main import main
from sayclip.errors import InputError, MissingDependencyError
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.report import document as documents
from sayclip_benchmarks.report.markdown import markdown
from sayclip_benchmarks.suite import inputs
from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.figures import figures
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.loadgen import SCENARIOS, drive
from sayclip_benchmarks.suite.scenarios import percentile, run_scenarios
from sayclip_benchmarks.suite.worker import Worker

needed = pytest.mark.skipif(
    not (sys.platform == "linux" and os.uname().machine == "x86_64"),
    reason="no wheel of LoadGen, so the dev extra does not bring it",
)
DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = DEMO / "bundle"
BATCH = {"SingleStream": 1, "MultiStream": 8, "Offline": 8}
SHORT: dict[str, Any] = {"seconds": 0.1, "least": 8, "expected_ms": 1.0}


def feeds(batch: int) -> list[dict[str, Any]]:
    """Four inputs whose every sample is another one, in two arrays that must stay together."""
    numbers = np.arange(4 * batch, dtype=np.int32).reshape(4, batch)
    return [{"token_ids": np.repeat(row[:, None], 5, 1), "length": row} for row in numbers]


def waits(seconds: float) -> Callable[[Any], None]:
    def run(feed: Any) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    return run


@needed
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_run_is_of_the_samples_asked_for_in_a_whole_batch(scenario: str) -> None:
    seen: list[Any] = []
    batch = BATCH[scenario]

    def run(feed: Any) -> None:
        seen.append({name: array.copy() for name, array in feed.items()})
        time.sleep(0.0005)

    found = drive(run, feeds(batch), batch, scenario, **SHORT)
    assert found["queries"] == len(seen) - 1 == len(found["clocked_ms"]), "one is not timed"
    for feed in seen[1:]:
        assert feed["token_ids"].shape == (batch, 5)
        assert (feed["token_ids"] == feed["length"][:, None]).all()
        assert len(set(feed["length"].tolist())) == batch
    assert {number for feed in seen[1:] for number in feed["length"].tolist()} == set(range(4 * batch))


@needed
def test_our_own_clock_and_loadgen_agree_on_the_same_runs() -> None:
    for scenario in SCENARIOS:
        batch = BATCH[scenario]
        found = drive(waits(0.002), feeds(batch), batch, scenario, seconds=0.6, least=8, expected_ms=2.0)
        clocked = found["clocked_ms"]
        if scenario == "Offline":
            assert found["per_second"] == pytest.approx(1000 * batch * len(clocked) / sum(clocked), rel=0.03)
            assert found["p90_ms"] is None
            continue
        for rank in (50, 90):
            assert found[f"p{rank}_ms"] == pytest.approx(percentile(clocked, rank / 100), rel=0.03), scenario
        assert found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
        assert found["per_second"] <= 1000 * batch / min(clocked)


@needed
def test_least_time_and_least_runs_are_both_met_and_the_verdict_has_its_reason() -> None:
    often = drive(waits(0.0005), feeds(1), 1, "SingleStream", seconds=0.01, least=90, expected_ms=0.5)
    assert often["queries"] >= 90
    assert (often["verdict"], often["why"], often["enough"]) == ("VALID", "", True)
    long = drive(waits(0.02), feeds(1), 1, "SingleStream", seconds=0.4, least=1, expected_ms=20.0)
    assert long["seconds"] >= 0.4
    assert (long["verdict"], long["enough"]) == ("INVALID", False)
    assert "at least 64 queries" in long["why"]
    assert "\n" not in long["why"]


@needed
def test_nothing_is_written_to_the_working_folder_and_nothing_read_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audit.config").write_text("*.SingleStream.min_query_count = 4000\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert drive(waits(0.001), feeds(1), 1, "SingleStream", **SHORT)["queries"] < 2000
    assert [path.name for path in tmp_path.iterdir()] == ["audit.config"]
    assert capfd.readouterr() == ("", "")


@needed
def test_a_run_that_fails_is_raised_and_loadgen_works_again_after_it() -> None:
    calls: list[int] = []

    def run(feed: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("no more of these")

    with pytest.raises(ValueError, match="no more of these"):
        drive(run, feeds(1), 1, "SingleStream", **SHORT)
    assert len(calls) == 4, "nothing is run after it"
    assert drive(waits(0.001), feeds(1), 1, "SingleStream", **SHORT)["queries"] > 8


@needed
def test_inputs_of_several_sizes_are_refused() -> None:
    odd = feeds(1)
    odd[2] = {"token_ids": np.zeros((1, 9), np.int32), "length": np.zeros(1, np.int32)}
    with pytest.raises(InputError, match="differ in form"):
        drive(waits(0.001), odd, 1, "SingleStream", **SHORT)
    with pytest.raises(InputError, match="8 samples each"):
        drive(waits(0.001), feeds(4), 8, "MultiStream", **SHORT)
    with pytest.raises(InputError, match="one sample at a time"):
        drive(waits(0.001), feeds(8), 8, "SingleStream", **SHORT)
    with pytest.raises(InputError, match="name one of"):
        drive(waits(0.001), feeds(1), 1, "Server", **SHORT)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingDependencyError, match="pip install mlcommons-loadgen"):
        drive(waits(0.001), feeds(1), 1, "SingleStream", **SHORT)


def test_percentiles_are_those_that_loadgen_takes() -> None:
    times = [float(value) for value in range(100, 0, -1)]
    assert [percentile(times, rank) for rank in (0.5, 0.9, 0.99)] == [51.0, 91.0, 100.0]
    assert percentile([3.0], 0.99) == 3.0


@pytest.fixture
def candidate(tmp_path: Path) -> Iterator[Callable[[], tuple[Sequence[Case], dict[str, Any], Worker]]]:
    """The demo's text encoder in a process of its own, with inputs of a batch of 1 and of 8."""
    demo, opened = read_demo(DEMO), []

    def make() -> tuple[Sequence[Case], dict[str, Any], Worker]:
        sources = Sources(demo.pictures, demo.names, [])
        cases = [Case("session", "text", "8 tokens", 8, batch) for batch in (1, 8)]
        made = {case.key: inputs.make(Manifest.read(BUNDLE), case, sources, tmp_path) for case in cases}
        told = {"kind": "sayclip", "bundle": str(BUNDLE), "encoder": "text", "backend": "onnxruntime"}
        opened.append(Worker({**told, "precision": "fp32"}))
        return cases, made, opened[-1]

    yield make
    for worker in opened:
        worker.close()


@needed
def test_both_drivers_run_the_same_process_and_stand_beside_each_other(candidate: Any, results: Any) -> None:
    cases, made, worker = candidate()
    rows = run_scenarios(cases, made, {"auto": worker}, 0.3, loadgen=True, least=20)
    assert [(row["scenario"], row["driver"]) for row in rows] == [(n, d) for n in SCENARIOS for d in ("own", "loadgen")]
    for own, driven in zip(rows[::2], rows[1::2], strict=True):
        assert own["queries"] >= 20
        assert driven["queries"] >= 20
        assert own["seconds"] >= 0.3
        assert driven["difference"] == pytest.approx(driven[driven["compared"]] / own[driven["compared"]] - 1)
        assert 1 <= driven["alternations"] <= 3
        assert abs(driven["overhead"]) < 0.2
        assert "of 600 s" in driven["why"]
    found = {**results(), "scenarios": rows}
    documents.check(found)
    assert "% of p90" in markdown(found)
    assert worker.quit()["rss_bytes"] > 20e6


def test_a_driver_that_is_not_installed_is_a_row(
    candidate: Any, results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "mlperf_loadgen.py").write_text("raise ImportError('no such package')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(absent), os.environ.get("PYTHONPATH", "")]))
    cases, made, worker = candidate()
    own, driven = run_scenarios(cases, made, {"auto": worker}, 0.1, loadgen=True, quick=True)
    assert own["p90_ms"] > 0
    assert driven["driver"] == "loadgen"
    assert "pip install mlcommons-loadgen" in driven["why"]
    assert driven["p90_ms"] is None
    found = {**results(), "scenarios": [own, driven]}
    documents.check(found)
    assert figures({**found, "rows": [], "cold": []}) == []
    assert "pip install mlcommons-loadgen" in markdown(found)


def test_a_candidate_that_is_gone_is_two_rows(candidate: Any) -> None:
    cases, made, worker = candidate()
    os.kill(worker._process.pid, signal.SIGKILL)
    rows = run_scenarios(cases, made, {"auto": worker}, 0.1, loadgen=True, quick=True)
    assert [row["driver"] for row in rows] == ["own", "loadgen"]
    assert all(row["why"] and not row["valid"] for row in rows)


@needed
def test_the_command_has_it(tmp_path: Path) -> None:
    words = ["bench", str(BUNDLE), "--demo", str(DEMO), "--quick", "--no-cold", "--turns", "2", "--loadgen"]
    words += ["--minimum-seconds", "0.2", "--work", str(tmp_path / "work"), "--encoder", "text", "--candidate", "auto"]
    assert main([*words, "--vectors", "200", "--out", str(tmp_path / "seen")]) == 0
    found = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert [row["driver"] for row in found["scenarios"]] == ["own", "loadgen"]
    told = (tmp_path / "seen.md").read_text(encoding="utf-8")
    assert "| LoadGen against our own loop | ≤ 3 % |" in told
    assert "| driver |" in told


def driven(difference: float, **more: Any) -> dict[str, Any]:
    row = {"scenario": "SingleStream", "encoder": "text", "size": "8 tokens", "candidate": "auto", "driver": "loadgen"}
    row |= {"compared": "p90_ms", "difference": difference, "overhead": 0.001, "noisy": False, "alternations": 1}
    return {**row, **more}


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([driven(0.01), driven(-0.03)], ("−3.0 % of p90", "holds")),
        ([driven(0.01), driven(-0.04)], ("−4.0 % of p90", "missed")),
        ([driven(0.01), driven(0.5, noisy=True)], ("+1.0 % of p90", "holds")),
        ([driven(0.01, noisy=True)], ("+1.0 % of p90, noisy", "missed")),
    ],
)
def test_the_figure_is_the_worst_of_what_is_not_noisy(rows: list[dict[str, Any]], wanted: tuple[str, str]) -> None:
    [(figure, limit, seen, holds)] = figures({"rows": [], "scenarios": [{"difference": None}, *rows]})
    assert (figure, limit, holds) == ("LoadGen against our own loop", "≤ 3 %", wanted[1])
    assert seen.startswith(f"{wanted[0]} (SingleStream, text, 8 tokens, auto")


def test_documents_from_before_there_were_drivers_are_read(results: Any) -> None:
    found = results()
    old = {key: value for key, value in found["scenarios"][0].items() if key != "driver"}
    found["scenarios"] = [{**old, "loadgen": None}]
    documents.check(found)
    assert "| driver |" not in markdown(found)
    found["scenarios"][0]["driver"] = "somebody"
    with pytest.raises(InputError, match="own, loadgen"):
        documents.check(found)
