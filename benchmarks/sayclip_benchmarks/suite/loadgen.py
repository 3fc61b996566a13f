"""MLPerf's LoadGen as the driver of a candidate, inside the candidate's own process.

LoadGen decides which samples are asked for and when, takes the time, and judges; what it times is the same function on
the same prepared inputs as in our own loop. It calls back in the thread that started it. Its facts are those of the
sources of mlcommons-loadgen 6.0: samples that one query of MultiStream or Offline asks for lie next to each other in
the order that they were loaded in, so a batch is a view of them and nothing is copied in the timed region; in
performance mode it reads no answers, so none are handed over.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError, MissingDependencyError
from sayclip_benchmarks.suite.cases import Run

SCENARIOS = ("SingleStream", "MultiStream", "Offline")
_MOST_QUERIES = 2_000_000  # LoadGen makes all queries beforehand, some hundred bytes each
_QUICKER = 1.1  # over the speed that is expected, above LoadGen's own 1.1: Offline is one query, sized beforehand
Feed = Mapping[str, NDArray[Any]]


def drive(
    run: Run, feeds: Sequence[Feed], batch: int, scenario: str, *, seconds: float, least: int, expected_ms: float
) -> dict[str, Any]:
    """Let LoadGen time ``run`` for at least ``seconds`` and ``least`` runs, in performance mode; its log is not kept.

    ``feeds``: arrays by name, each of ``batch`` samples [batch, …]; ``expected_ms``: how long one run takes, from which
    LoadGen finds how many queries to make. A query is one run; of Offline all runs together are one.

    Returns ``queries`` (of Offline: runs), ``seconds``, ``p50_ms``, ``p90_ms``, ``p99_ms`` of a query (of Offline
    None), ``per_second`` (samples), ``verdict`` (VALID or INVALID, of what was asked for here), ``why`` (of INVALID),
    ``enough``: whether LoadGen takes the queries to be enough for its percentile, and ``clocked_ms``: milliseconds of
    the same runs by our own clock.
    Raises MissingDependencyError where LoadGen is not installed, InputError for inputs that cannot be put together or a
    run without a result, and whatever ``run`` raises.
    """
    loadgen = _import()
    if scenario not in SCENARIOS:
        raise InputError(f"LoadGen is not asked for {scenario}", f"name one of {', '.join(SCENARIOS)}")
    if scenario == "SingleStream" and batch != 1:
        raise InputError(f"SingleStream asks for one sample at a time, not {batch}", "give inputs of one sample")
    system = _System(loadgen, run, feeds, batch)
    run(feeds[0])  # untimed, as in our own loop
    with tempfile.TemporaryDirectory(prefix="sayclip-loadgen-") as folder:
        settings = _settings(loadgen, scenario, batch, seconds, least, expected_ms)
        sut = loadgen.ConstructFastSUT(system.issue, _nothing)
        library = loadgen.ConstructQSL(system.count, system.count, system.load, _ignored)
        try:
            # A file audit.config in the working folder would change the settings, so one that is not there is named.
            none = str(Path(folder) / "no-audit")
            loadgen.StartTestWithLogSettings(sut, library, settings, _quiet(loadgen, folder), none)
        finally:
            loadgen.DestroyFastSUT(sut)
            loadgen.DestroyQSL(library)
        if system.error is not None:
            raise system.error
        return _result(_log(Path(folder) / "mlperf_log_detail.txt"), scenario, system, batch)


def _import() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingDependencyError(f"LoadGen is not here ({error})", "pip install mlcommons-loadgen") from None
    return mlperf_loadgen


class _System:
    """The system under test and its samples. Sample ``i`` is row ``i % batch`` of feed ``i // batch``."""

    def __init__(self, loadgen: Any, run: Run, feeds: Sequence[Feed], batch: int) -> None:
        self._loadgen, self._run, self._batch = loadgen, run, batch
        self.count = batch * len(feeds)
        try:
            self._samples = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        except (KeyError, ValueError) as error:
            raise InputError(f"inputs differ in form ({error})", "give inputs of one size") from None
        if any(len(array) != self.count for array in self._samples.values()):
            raise InputError(f"inputs are not of {batch} samples each", "give inputs of one size")
        self._loaded: dict[int, tuple[list[int], Feed]] = {}
        self.times: list[float] = []  # seconds of each run by our own clock
        self.began = self.ended = 0.0
        self.error: Exception | None = None

    def load(self, order: list[int]) -> None:
        """Lay the samples out in the order that LoadGen asks for them in, as a view for each beginning. Untimed."""
        arrays = {name: array[order] for name, array in self._samples.items()}
        for place in range(self.count):  # what LoadGen adds behind them are the first ones again
            end = place + self._batch
            self._loaded[order[place]] = order[place:end], {name: array[place:end] for name, array in arrays.items()}

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """One query: run its samples batch by batch, and tell LoadGen of each batch when it is done."""
        batch = self._batch
        self.began = self.began or time.perf_counter()
        for first in range(0, len(ids), batch):
            if self.error is None:
                try:
                    self._once(indices[first : first + batch])
                except Exception as error:  # through LoadGen it would leave its threads behind
                    self.error = error
            response = self._loadgen.QuerySampleResponse
            self._loadgen.QuerySamplesComplete([response(one, 0, 0) for one in ids[first : first + batch]])
        self.ended = time.perf_counter()

    def _once(self, indices: list[int]) -> None:
        asked, feed = self._loaded[indices[0]]
        if asked != indices:
            raise InputError("LoadGen asked for samples that are not next to each other", "use mlcommons-loadgen 6.0")
        began = time.perf_counter()
        self._run(feed)
        self.times.append(time.perf_counter() - began)


def _settings(loadgen: Any, scenario: str, batch: int, seconds: float, least: int, expected_ms: float) -> Any:
    found = loadgen.TestSettings()
    found.scenario = getattr(loadgen.TestScenario, scenario)
    found.mode = loadgen.TestMode.PerformanceOnly
    found.min_duration_ms = round(1000 * seconds)
    found.min_query_count = least
    expected_ns = max(1e6 * expected_ms, 2e9 * seconds / _MOST_QUERIES)
    found.single_stream_expected_latency_ns = expected_ns
    found.multi_stream_expected_latency_ns = expected_ns
    found.multi_stream_samples_per_query = batch
    if scenario == "Offline":  # one query of whole batches; LoadGen takes the larger of the two numbers
        rate = _QUICKER * batch * 1e9 / expected_ns
        found.offline_expected_qps = rate
        found.min_query_count = batch * max(least, math.ceil(1.1 * seconds * rate / batch) + 1)
    return found


def _quiet(loadgen: Any, folder: str) -> Any:
    """Settings of LoadGen's log: files in ``folder``, nothing printed, no trace."""
    found, output = loadgen.LogSettings(), loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    found.log_output, found.enable_trace = output, False
    return found


def _log(path: Path) -> dict[str, Any]:
    """Values by key of LoadGen's detailed log: lines of ``:::MLLOG`` and JSON, of which the last of a key counts."""
    found: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line.partition(" ")[2])
        except ValueError:
            continue
        found[str(entry["key"])] = entry["value"]
    return found


def _result(log: Mapping[str, Any], scenario: str, system: _System, batch: int) -> dict[str, Any]:
    if "result_validity" not in log:
        raise InputError("LoadGen left no result in its log", "use mlcommons-loadgen 6.0")
    samples, spent = len(system.times) * batch, system.ended - system.began
    found: dict[str, Any] = {"queries": len(system.times), "seconds": spent, "per_second": samples / spent}
    found |= dict.fromkeys(("p50_ms", "p90_ms", "p99_ms"))
    if scenario == "Offline":  # the latency of its samples counts from the start of all
        found["per_second"] = float(log["result_samples_per_second"])
    else:
        of = "per_query_" if scenario == "MultiStream" else ""
        found |= {f"p{rank}_ms": log[f"result_{rank}.00_percentile_{of}latency_ns"] / 1e6 for rank in (50, 90, 99)}
    told = [str(log.get("result_invalid_reason", ""))]
    if not log.get("early_stopping_met", True):
        told.append(str(log.get("early_stopping_result", "")).replace(" * ", " "))
    why = " ".join(" ".join(told).split()) if log["result_validity"] != "VALID" else ""
    found |= {"verdict": str(log["result_validity"]), "why": why, "enough": bool(log.get("early_stopping_met", True))}
    return {**found, "clocked_ms": [1000.0 * value for value in system.times]}


def _nothing() -> None: ...


def _ignored(samples: list[int]) -> None:
    del samples
