"""What is made of profiles: events that never overlap, sums that add up, multiplications counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip_benchmarks.profile import operators, roofline, trace
from sayclip_benchmarks.profile.ceilings import Ceilings
from sayclip_benchmarks.profile.events import Event, Recording, nested
from sayclip_benchmarks.profile.record import by_run, mean_us
from sayclip_benchmarks.profile.work import Work, matched, of_node

times = st.integers(0, 500)
some_events = st.lists(
    st.builds(
        lambda number, kind, start, us: Event(f"node{number}", kind, "CPU float", float(start), float(us)),
        st.integers(0, 9),
        st.sampled_from(["MatMul", "Add", "Loop", "If"]),
        times,
        times,
    ),
    max_size=40,
)


def recording(*runs: tuple[Event, ...], wall: tuple[float, ...] = (100.0,), **options: Any) -> Recording:
    return Recording("onnxruntime", "fp32", "CPU", 2, runs, wall, wall * len(runs), real_starts=True, **options)


def apart_or_within(spans: list[tuple[float, float]]) -> bool:
    """Whether no two of (start, end) cross."""
    open_ends: list[float] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        if open_ends and end > open_ends[-1]:
            return False
        open_ends.append(end)
    return True


@given(some_events)
def test_any_two_events_lie_apart_or_one_within_the_other(events: list[Event]) -> None:
    placed = nested(events)
    assert sorted(event.name for event, _ in placed) == sorted(event.name for event in events)
    assert apart_or_within([(event.start_us, event.end_us) for event, _ in placed])
    assert all(0 <= own <= event.us for event, own in placed)
    assert all(event.us >= 0 for event, _ in placed)


@given(st.lists(some_events.filter(bool), min_size=1, max_size=3))
@settings(max_examples=50)
def test_traces_are_chrome_s_format_and_hold_every_event(tmp_path_factory: pytest.TempPathFactory, runs: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "trace.json"
    records = [recording(tuple(run)) for run in runs]
    trace.write(path, records, "text 8 tokens")
    told = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    for process, run in enumerate(runs, start=1):
        own = [one for one in told if one["pid"] == process]
        complete = [one for one in own if one["ph"] == "X"]
        assert {one["name"] for one in own if one["ph"] == "M"} >= {"process_name", "thread_name"}
        assert len(complete) == len(run) + 1
        assert apart_or_within([(one["ts"], one["ts"] + one["dur"]) for one in complete])
        whole = next(one for one in complete if one["cat"] == "run")
        assert all(one["ts"] + one["dur"] <= whole["dur"] for one in complete)


def test_a_loop_is_not_counted_twice() -> None:
    loop, first, second = (
        Event("l", "Loop", "", 0, 50),
        Event("a", "MatMul", "", 5, 20),
        Event("a", "MatMul", "", 30, 10),
    )
    figures = operators.table(recording((loop, first, second, Event("b", "Add", "", 49, 11))))
    assert {row["name"]: (row["us"], row["count"]) for row in figures["types"]} == {
        "MatMul": (30.0, 2),
        "Loop": (20.0, 1),
        "Add": (11.0, 1),
    }
    assert figures["outside_us"] == 39.0
    assert [row["name"] for row in figures["slowest"]] == ["a", "l", "b"]


def test_shares_add_up_to_a_run_or_to_the_operators() -> None:
    for wall in (100.0, 40.0):
        figures = operators.table(
            recording((Event("a", "MatMul", "x", 0, 50), Event("b", "Add", "y|z", 50, 30)), wall=(wall,))
        )
        whole = sum(row["share"] for row in figures["types"]) + figures["outside_share"]
        assert whole == pytest.approx(1.0 if wall == 100.0 else 0.5)
        text = operators.markdown(figures)
        assert ("Below zero" in text) == (wall == 40.0)
        assert "y\\|z" in text


def test_medians_are_taken_over_runs() -> None:
    runs = tuple((Event("a", "MatMul", "", 0, us),) for us in (10.0, 1000.0, 12.0))
    assert operators.table(recording(*runs, wall=(20.0, 21.0, 900.0)))["types"][0]["us"] == 12.0
    recorded = Recording("x", "fp32", "CPU", 1, runs, (20.0,), (30.0, 1010.0, 31.0), real_starts=True)
    assert trace.median_run(recorded) == (31.0, runs[2])


def test_runs_are_told_apart_in_onnx_runtime_s_profile() -> None:
    def node(name: str, ts: int, dur: int) -> dict[str, Any]:
        about = {"op_name": "MatMul", "provider": "CPUExecutionProvider", "input_type_shape": [{"uint8": [1, 2]}]}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": about}

    def run(ts: int, dur: int) -> dict[str, Any]:
        return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}

    told = [node("a", 110, 5), node("b", 115, 5), run(100, 30), node("a", 210, 7), node("b", 220, 5), run(200, 30)]
    found = by_run(told)
    assert [[(event.name, event.start_us, event.us) for event in run] for run in found] == [
        [("a", 10, 5), ("b", 15, 5)],
        [("a", 10, 7), ("b", 20, 5)],
    ]
    assert found[0][0].kernel == "CPU uint8"


@given(st.lists(st.integers(0, 10_000), min_size=4, max_size=30), st.integers(1, 3))
def test_means_of_the_warm_runs_are_taken_off(durations: list[int], warm: int) -> None:
    """OpenVINO's means are whole numbers, cut off."""
    count = len(durations)
    whole, early = sum(durations) // count, sum(durations[:warm]) // warm
    wanted = sum(durations[warm:]) / (count - warm)
    assert abs(mean_us(whole, count, early, warm) - wanted) <= (count + warm) / (count - warm)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "multiplications"),
    [
        ("MatMul", [[1, 8, 128], [128, 64]], [1, 8, 64], 8 * 128 * 64),
        ("MatMul", [[2, 4, 8, 32], [2, 4, 32, 8]], [2, 4, 8, 8], 2 * 4 * 8 * 32 * 8),
        ("Gemm", [[5, 128], [128, 64], [64]], [5, 64], 5 * 128 * 64),
        ("Gemm", [[128, 5], [64, 128]], [5, 64], 5 * 128 * 64),  # both transposed
        ("Conv", [[1, 3, 64, 64], [16, 3, 3, 3], [16]], [1, 16, 32, 32], 16 * 32 * 32 * 3 * 3 * 3),
        ("Conv", [[1, 64, 100], [64, 1, 9]], [1, 64, 92], 64 * 92 * 9),  # a group for each channel
    ],
)
def test_multiplications(kind: str, inputs: list[list[int]], output: list[int], multiplications: int) -> None:
    assert of_node(kind, inputs, output).multiplications == multiplications


def test_products_are_found_by_what_backends_make_of_their_names() -> None:
    work = {name: Work(1, 1, 1) for name in ("conv", "conv_1", "matmul", "linear", "lost", "conv_12")}
    executed = [
        ("conv_1_token_5",),
        ("matmul/MatMulScaleFusion/",),
        ("conv_13",),
        ("add", "bias"),
        ("conv_12/WithoutBiases", "conv_12"),
        ("conv_quant", "conv_1"),
    ]
    assert matched(executed, work, {"bias": "linear"}) == [
        [],
        ["matmul"],
        [],
        ["linear"],
        ["conv_12"],
        ["conv_1", "conv"],
    ]


def test_the_roofline_is_the_slower_of_products_and_copies() -> None:
    ceilings = Ceilings({"fp32": {"numpy": 100.0}, "int8": {"x": 400.0}}, copied=10.0)
    # 1e6 operations at 1e11 a second take 10 µs; 4e5 bytes at 1e10 a second 40 µs.
    work = {
        "a": Work(500_000, 1000, 0),
        "b": Work(500, 100_000, 0),
        "c": Work(1_000_000, 0, 0),
        "unseen": Work(500, 0, 0),
    }
    run = (Event("a", "Gemm", "f32", 0, 20), Event("b", "Gemm", "f32", 20, 50), Event("c", "Gemm", "avx512_i8", 70, 10))
    figures = roofline.roofline(recording(run), work, ceilings)
    shares = {row["numbers"]: row["share"] for row in figures["rows"]}
    assert shares == {"fp32": pytest.approx((10 + 40) / 70), "int8": pytest.approx(0.5)}
    assert figures["whole"]["share"] == pytest.approx(55 / 80)
    assert figures["unmatched"] == pytest.approx(1000 / 3_002_000)
    assert "No operator was found" not in roofline.markdown({**figures, "unmatched": 0.0})
    assert "for 3.0% of its operations" in roofline.markdown({**figures, "unmatched": 0.03})


def test_without_a_ceiling_there_is_no_share() -> None:
    run = (Event("a", "Gemm", "bf16", 0, 20),)
    figures = roofline.roofline(
        recording(run), {"a": Work(10, 10, 10)}, Ceilings({"fp32": {"numpy": 9.0}}, 1.0, {"bf16": "no"})
    )
    assert figures["rows"][0]["share"] is None
    assert figures["whole"]["share"] is None
    assert "bf16 not known (no)" in roofline.markdown(figures)
    json.dumps(figures, allow_nan=False)


def test_the_paths_in_traces_are_text(tmp_path: Path) -> None:
    trace.write(tmp_path / "t.json", [recording((Event("ɡ→", "Add", "", 0, 1),))], "é")
    assert "ɡ→" in (tmp_path / "t.json").read_text(encoding="utf-8")
