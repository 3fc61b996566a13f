"""Timing candidates against each other, and who wins."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.bundle.entries import AudioPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions import backends, contest, measure, memory
from sayclip.sessions.contest import Attempt, Contest, best_of
from sayclip.sessions.reference import read_reference

U8, FP32, INT8 = ("onnxruntime", "int8-u8"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")


class Altered:
    """A session that takes longer than it needs, or fails after a number of runs; and knows whether it is open."""

    def __init__(self, session: Any, delay: float = 0.0, runs: float = float("inf")) -> None:
        self._session, self._delay, self._runs = session, delay, runs
        self.open = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, feeds: Mapping[str, Any], out: Any = None) -> Any:
        self._runs -= 1
        if self._runs < 0:
            raise BackendError("the device is gone", "look for it")
        time.sleep(self._delay)
        return self._session.run(feeds, out)

    def close(self) -> None:
        self.open = False
        self._session.close()


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, dict[str, float]], list[tuple[str, Altered]]]:
    """How sessions are altered, by precision, and those opened since."""
    how: dict[str, dict[str, float]] = {}
    opened: list[tuple[str, Altered]] = []
    original = backends.open_graph

    def open_graph(manifest: Manifest, name: str, precision: str, **options: Any) -> Any:
        session = Altered(original(manifest, name, precision, **options), **how.get(precision, {}))
        opened.append((precision, session))
        return session

    monkeypatch.setattr(backends, "open_graph", open_graph)
    return how, opened


Alterations = tuple[dict[str, dict[str, float]], list[tuple[str, Altered]]]


def by_precision(attempts: list[Attempt]) -> dict[str, Attempt]:
    return {attempt.precision: attempt for attempt in attempts}


@pytest.mark.parametrize("free", [10**12, 0])
def test_the_quickest_wins(
    free: int, altered: Alterations, tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side by side, and one after another where memory is scarce."""
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    how, opened = altered
    how |= {"fp32": {"delay": 0.004}, "int8-u8": {"delay": 0.003}, "int8": {"delay": 0.006}}
    session, attempts = Contest(Manifest.read(tiny_bundle_master), "image", [U8, FP32, INT8], 1).hold()
    assert [(one.precision, one.used) for one in attempts] == [("int8-u8", True), ("fp32", False), ("int8", False)]
    assert [session is one for _, one in opened if one.open] == [True]
    assert session is not None
    session.run({"pixels": np.ones((1, 3, 16, 16), np.float32)})
    for attempt in attempts:
        assert attempt.p50_ms is not None
        assert attempt.p90_ms is not None
        assert attempt.ratio is not None
        assert how[attempt.precision]["delay"] * 1000 <= attempt.p50_ms <= attempt.p90_ms
        assert attempt.accuracy == pytest.approx(1.0, abs=0.01)
        assert Attempt.from_dict(json.loads(json.dumps(dataclasses.asdict(attempt)))) == attempt
    assert attempts[0].ratio == 1.0
    assert attempts[0].reason.startswith("min cosine to the reference")
    assert attempts[2].reason.startswith("slower, its p90 is ")


def test_one_graph_at_a_time_where_memory_is_scarce(
    altered: Alterations, tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    _, opened = altered
    together: list[int] = []
    original = backends.open_graph

    def counted(*arguments: Any, **options: Any) -> Any:
        together.append(sum(session.open for _, session in opened))
        return original(*arguments, **options)

    monkeypatch.setattr(backends, "open_graph", counted)
    session, _ = Contest(Manifest.read(tiny_bundle_master), "image", [U8, FP32, INT8], 1).hold()
    assert session is not None
    assert together == [0, 0, 0, 0]  # three to be measured, and the winner once more


def test_what_is_far_slower_is_not_timed_to_the_end(altered: Alterations, tiny_bundle_master: Path) -> None:
    how, opened = altered
    how |= {"fp32": {"delay": 0.002}, "int8-u8": {"delay": 0.06}}
    start = time.monotonic()
    _, attempts = Contest(Manifest.read(tiny_bundle_master), "image", [U8, FP32], 1).hold()
    assert time.monotonic() - start < 1.0  # 24 runs of the slow one would be more
    slow = by_precision(attempts)["int8-u8"]
    assert "times as long as the best's, so it was not timed further" in slow.reason
    assert slow.ratio is not None
    assert slow.ratio > 3
    assert [session.open for precision, session in opened if precision == "int8-u8"] == [False]


@pytest.mark.parametrize("runs", [0, 2, 6])
def test_what_fails_is_told_and_the_next_is_taken(runs: int, altered: Alterations, tiny_bundle_master: Path) -> None:
    """When it is checked, when it is probed, and while it is timed."""
    how, opened = altered
    how |= {"int8-u8": {"runs": runs}}
    session, attempts = Contest(Manifest.read(tiny_bundle_master), "image", [U8, FP32], 1).hold()
    assert session is not None
    assert [(one.precision, one.used) for one in attempts] == [("fp32", True), ("int8-u8", False)]
    assert attempts[1].reason == "the device is gone"
    assert [one.open for precision, one in opened if precision == "int8-u8"] == [False]


def test_runs_stay_within_the_budget(altered: Alterations, tiny_bundle_master: Path) -> None:
    how, _ = altered
    how |= {"fp32": {"delay": 0.3}, "int8-u8": {"delay": 0.3}}
    start = time.monotonic()
    _, attempts = Contest(Manifest.read(tiny_bundle_master), "image", [U8, FP32], 1).hold()
    # Two checks, and two runs each to probe, come before; then rounds of 1.2 s in what is left of the budget.
    assert time.monotonic() - start < 0.6 + measure.BUDGET_S + 0.7
    assert all(one.p90_ms is not None and one.p90_ms >= 300 for one in attempts)


PAIRS = st.dictionaries(
    st.tuples(st.sampled_from(backends.PREFERRED), st.sampled_from(["fp32", "fp16", "int8", "int8-u8"])),
    st.floats(0.01, 1000.0),
    min_size=1,
)


@given(PAIRS)
def test_the_winner_is_quick_and_of_the_quick_ones_the_most_accurate(p90: dict[tuple[str, str], float]) -> None:
    winner = best_of(p90)
    limit = min(p90.values()) * contest.NOISE
    assert p90[winner] <= limit
    near = [pair for pair, value in p90.items() if value <= limit]
    rank = contest.accuracy_rank(winner[1])
    assert rank == min(contest.accuracy_rank(precision) for _, precision in near)
    assert winner == next(pair for pair in near if contest.accuracy_rank(pair[1]) == rank)


def test_a_tie_goes_to_accuracy_then_to_preference() -> None:
    assert best_of({U8: 1.0, FP32: 1.04}) == FP32
    assert best_of({U8: 1.0, FP32: 1.06}) == U8
    assert best_of({("openvino", "int8"): 1.04, U8: 1.0}) == ("openvino", "int8")
    assert best_of({U8: 1.0, ("openvino", "int8"): 1.04}) == U8


def some(queries: measure.Queries, count: int) -> Iterator[dict[str, Any]]:
    return itertools.islice(iter(queries), count)


def test_pictures_and_texts_come_round_again(tiny_bundle_master: Path) -> None:
    manifest = Manifest.read(tiny_bundle_master)
    for name in ("image", "text", "pronunciation"):
        inputs, _ = read_reference(manifest, name)
        queries = measure.Queries(manifest.entry(name), inputs)
        feeds = list(some(queries, 8))
        for row, (first, again) in enumerate(zip(feeds[:4], feeds[4:], strict=True)):
            for key, array in first.items():
                np.testing.assert_array_equal(array, again[key])
                whole = inputs[key][row : row + 1]
                cut = whole[:, : inputs["length"][row]] if "length" in inputs and whole.ndim > 1 else whole
                np.testing.assert_array_equal(array, cut)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    st.sampled_from([(), (2.0,), (0.05, 1.6, 4.0)]),
    st.sampled_from([15.0, 2.0]),
)
def test_recordings_are_as_long_as_queries(
    tiny_bundle_master: Path, lengths: list[int], buckets: tuple[float, ...], longest: float
) -> None:
    entry = Manifest.read(tiny_bundle_master).entry("speech")
    how = AudioPreprocessing(max_seconds=longest, buckets=buckets)
    waves = np.arange(1, 3001, dtype=np.float32) * np.ones((len(lengths), 1), np.float32)
    inputs: dict[str, Any] = {"waveform": waves, "length": np.array(lengths, np.int32)}
    queries = measure.Queries(dataclasses.replace(entry, preprocessing=how), inputs)
    whole = round(min(longest, 2.5) * 16000)
    seen = set()
    for number, feeds in enumerate(some(queries, 40)):
        length = int(feeds["length"][0])
        assert whole // 2 <= length <= whole
        assert feeds["waveform"].shape == (1, how.padded(length))
        said = np.resize(waves[0, : lengths[number % len(lengths)]], length)
        np.testing.assert_array_equal(feeds["waveform"][0, :length], said)
        assert not feeds["waveform"][0, length:].any()
        seen.add(length)
    assert len(seen) >= 38


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"p50_ms": float("nan")}, ValueError),
        ({"p90_ms": "fast"}, ValueError),
        ({"used": 1}, ValueError),
        ({"backend": None}, ValueError),
        ({"ratio": True}, ValueError),
        (None, KeyError),
    ],
)
def test_damaged_records_are_refused(change: dict[str, Any] | None, error: type[Exception]) -> None:
    whole = dataclasses.asdict(Attempt("onnxruntime", "fp32", True, "best", 1.0, 1.0, 2.0, 1.0))
    assert Attempt.from_dict(whole).p90_ms == 2.0
    with pytest.raises(error):
        Attempt.from_dict({} if change is None else {**whole, **change})


MEMORY = {
    "no limit": ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   1000 kB\n"}, 1_024_000),
    "version 2": (
        {
            "proc/meminfo": "MemAvailable: 1000 kB",
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/b/memory.max": "max",
            "sys/fs/cgroup/a/b/memory.current": "10",
            "sys/fs/cgroup/a/memory.max": "5000",
            "sys/fs/cgroup/a/memory.current": "1000",
        },
        4000,
    ),
    "version 1, used up": (
        {
            "proc/meminfo": "MemAvailable: 1000 kB",
            "proc/self/cgroup": "4:memory:/x\n3:cpu:/y",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "5000",
            "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "6000",
        },
        0,
    ),
    "rubbish": ({"proc/meminfo": "MemAvailable: many kB\n:::", "proc/self/cgroup": "x\n::"}, None),
    "none": ({}, None),
}


@pytest.mark.parametrize("case", MEMORY)
def test_available_memory(case: str, tmp_path: Path) -> None:
    files, wanted = MEMORY[case]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory.available_memory(tmp_path) == wanted
    assert (memory.available_memory() or 0) > 1_000_000
