"""Joules of real candidates, by meters whose files lie in a folder of the test's own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sayclip.bundle.manifest import Manifest
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.host.energy import Meter, described, idle_watts, open_meters
from sayclip_benchmarks.report.document import check
from sayclip_benchmarks.report.markdown import markdown
from sayclip_benchmarks.suite import inputs, statistics, turns
from sayclip_benchmarks.suite.bench import Options, measure
from sayclip_benchmarks.suite.cases import Case
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.worker import CandidateError, Worker

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = DEMO / "bundle"
WATTS = 10.0
SPOKEN = Case("session", "speech", "3 s", 3.0)
SPEC = {"kind": "sayclip", "bundle": str(BUNDLE), "backend": "onnxruntime", "precision": "fp32"}


@pytest.fixture(scope="module")
def sources() -> Sources:
    demo = read_demo(DEMO)
    return Sources(demo.pictures, demo.names, sorted((DEMO / "queries").glob("*.wav")))


@contextmanager
def package(root: Path) -> Iterator[dict[str, Meter]]:
    """A processor package whose counter of energy rises by ``WATTS`` all the time, as RAPL shows it."""
    folder = root / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")
    (folder / "max_energy_range_uj").write_text(f"{10**15 - 1}\n")
    (folder / "energy_uj").write_text(f"{0:015d}\n")
    stop = threading.Event()

    def rise() -> None:
        started, file = time.monotonic(), os.open(folder / "energy_uj", os.O_WRONLY)
        while not stop.wait(0.001):  # in one write of one length, so that nobody reads half of it
            os.pwrite(file, f"{round(1e6 * WATTS * (time.monotonic() - started)):015d}\n".encode(), 0)
        os.close(file)

    thread = threading.Thread(target=rise)
    thread.start()
    try:
        yield open_meters(root)
    finally:
        stop.set()
        thread.join()


def module(root: Path) -> dict[str, Meter]:
    """A Jetson's rail that shows ``WATTS``."""
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    folder.mkdir(parents=True)
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", round(200 * WATTS))):
        (folder / name).write_text(f"{value}\n")
    return open_meters(root)


def timed(case: Case, made: Any, meters: Any, turn_s: float) -> turns.Timing:
    with Worker({**SPEC, "encoder": case.encoder}) as worker:
        found = turns.in_turns(case, made, {"one": worker}, 3, turn_s, lambda *_: None, meters)["one"]
    assert not found.error
    return found


@pytest.mark.parametrize("kind", ["rapl", "ina3221"])
def test_a_query_takes_what_the_meter_shows_over_its_time(kind: str, sources: Sources, tmp_path: Path) -> None:
    made = inputs.make(Manifest.read(BUNDLE), SPOKEN, sources, tmp_path / "in")
    if kind == "rapl":
        with package(tmp_path) as meters:
            seen = timed(SPOKEN, made, meters, 0.3)
    else:
        seen = timed(SPOKEN, made, module(tmp_path), 0.3)
    taken = statistics.joules(seen.joules, seen.turns)
    spent = sum(map(sum, seen.turns)) / sum(map(len, seen.turns)) / 1000.0
    assert taken is not None
    # A turn is its runs and the way to the candidate and back.
    assert taken == pytest.approx(WATTS * spent, rel=0.3)


def test_quick_queries_are_run_until_a_meter_has_moved(sources: Sources, tmp_path: Path) -> None:
    case = Case("session", "text", "3 tokens", 3.0)
    made = inputs.make(Manifest.read(BUNDLE), case, sources, tmp_path / "in")
    meters = module(tmp_path)
    seen = timed(case, made, meters, 0.3)
    assert all(value is not None for value in seen.joules)
    assert max(map(len, seen.turns)) > turns.MOST_RUNS
    assert max(map(len, timed(case, made, None, 0.3).turns)) <= turns.MOST_RUNS
    assert statistics.joules(seen.joules, seen.turns) == pytest.approx(0.01 * seen.turns[1][0], rel=0.9)


def test_turns_that_are_too_short_have_no_energy(sources: Sources, tmp_path: Path) -> None:
    case = Case("session", "text", "3 tokens", 3.0)
    made = inputs.make(Manifest.read(BUNDLE), case, sources, tmp_path / "in")
    seen = timed(case, made, module(tmp_path), 1e-4)
    assert seen.joules == [None] * 3
    assert statistics.joules(seen.joules, seen.turns) is None


def test_without_a_meter_there_is_none(sources: Sources, tmp_path: Path) -> None:
    made = inputs.make(Manifest.read(BUNDLE), SPOKEN, sources, tmp_path / "in")
    assert timed(SPOKEN, made, open_meters(tmp_path), 0.1).joules == [None] * 3


def test_it_is_the_median_of_the_turns_that_were_measured_by_item() -> None:
    runs = [[1.0] * 2, [1.0] * 4, [1.0] * 2, [1.0] * 2]
    assert statistics.joules([4.0, 40.0, None, 6.0], runs) == 3.0
    assert statistics.joules([4.0, 40.0, None, 6.0], runs, batch=8) == 3.0 / 8
    assert statistics.joules([None] * 4, runs) is None


def test_a_candidate_that_dies_under_the_meter_is_an_error_and_the_meter_stops(
    sources: Sources, tmp_path: Path
) -> None:
    made = inputs.make(Manifest.read(BUNDLE), SPOKEN, sources, tmp_path / "in")
    threads = threading.active_count()
    with Worker({**SPEC, "encoder": "speech"}) as worker:
        run = worker.run
        calls = []

        def killed(*told: Any) -> list[float]:
            calls.append(told)
            if len(calls) == 3:  # the first two warm up
                worker._process.kill()
            return run(*told)

        worker.run = killed  # type: ignore[method-assign]
        found = turns.in_turns(SPOKEN, made, {"one": worker}, 2, 0.1, lambda *_: None, module(tmp_path))["one"]
        with pytest.raises(CandidateError):
            run(SPOKEN.to_dict(), made, [0])
    assert "signal 9" in found.error
    assert threading.active_count() == threads


def test_idle_power_is_told(tmp_path: Path) -> None:
    meters = module(tmp_path)
    assert idle_watts(meters["cpu"], 0.1) == pytest.approx(WATTS, rel=0.1)
    found = described(meters, "none")
    assert found["meter"] == "ina3221", "a Jetson's meter is one, whatever runs"
    assert found["idle_watts"]["ina3221"] == pytest.approx(WATTS, rel=0.1)
    assert "VDD_IN" in found["note"]
    assert described({}, "no meter") == {"meter": None, "note": "no meter", "idle_watts": {}}


def test_rows_of_a_run_have_joules_and_so_have_its_tables(sources: Sources, tmp_path: Path) -> None:
    only = {"quick": True, "encoders": ("pronunciation", "search"), "only": ("onnxruntime fp32", "numpy")}
    options = Options(turns=2, turn_s=0.2, vectors=200, scenario_s=0.0, compiled=False, **only)  # type: ignore[arg-type]
    with package(tmp_path) as meters:
        found = measure([BUNDLE], tmp_path / "work", sources, options, print, lambda *_: None, meters)
    found |= {"command": "sayclip bench", "cold": []}
    check(found)
    rows = [row for row in found["rows"] if row["status"] == "ok"]
    assert {row["what"] for row in rows} == {"session", "search"}
    for row in rows:
        assert row["joules"] == pytest.approx(WATTS * row["mean_ms"] / 1000.0, rel=0.9)
    text = markdown(found)
    assert "J a query" in text
    assert "Energy: measured by rapl (1 processor package, with whatever else it did, " in text
    assert found["energy"]["idle_watts"]["rapl"] == pytest.approx(WATTS, rel=0.2)
