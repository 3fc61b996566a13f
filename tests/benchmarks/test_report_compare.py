"""Two results against each other: what is beyond the noise is told and ends with 1, what is not is not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.cli.main import main
from sayclip_benchmarks.report import document
from sayclip_benchmarks.report.compare import compare, described

Results = Callable[..., dict[str, Any]]


def row_of(found: dict[str, Any], candidate: str = "openvino int8") -> Any:
    wanted = ("session", "speech", "3 s", candidate)
    [row] = [row for row in found["rows"] if (row["what"], row["encoder"], row["size"], row["candidate"]) == wanted]
    return row


def scale(row: dict[str, Any], factor: float) -> None:
    for name in ("p50_ms", "p90_ms", "p99_ms", "mean_ms"):
        row[name] *= factor
    row["ci_ms"] = [end * factor for end in row["ci_ms"]]


def steady(found: dict[str, Any]) -> dict[str, Any]:
    """The same with narrow intervals, and noise nowhere."""
    for row in found["rows"]:
        if row["status"] == "ok":
            row["noisy"], row["ci_ms"] = False, [row["p50_ms"] * 0.99, row["p50_ms"] * 1.01]
    return found


def told(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["candidate"], entry["figure"]) for entry in entries]


def test_slower_than_the_noise_and_the_threshold_is_a_regression(results: Results) -> None:
    before, after = steady(results()), steady(results())
    scale(row_of(after), 1.12)
    scale(row_of(after, "openvino fp32"), 1 / 1.2)
    scale(row_of(after, "onnxruntime int8"), 1.04)  # disjoint, below the threshold
    found = compare(before, after)
    assert told(found["regressions"]) == [("openvino int8", "p50_ms")]
    assert found["regressions"][0]["percent"] == pytest.approx(12.0)
    assert told(found["improvements"]) == [("openvino fp32", "p50_ms")]
    assert found["improvements"][0]["percent"] == pytest.approx(20.0)
    assert found["unchanged"] == found["compared"] - 2
    assert {name for name, _ in told(compare(before, after, 3.0)["regressions"])} == {
        "openvino int8",
        "onnxruntime int8",
    }
    assert compare(before, after, 15.0)["regressions"] == []


def test_intervals_that_touch_are_noise(results: Results) -> None:
    before, after = steady(results()), steady(results())
    scale(row_of(after), 1.5)
    row_of(after)["ci_ms"][0] = row_of(before)["ci_ms"][1]
    assert compare(before, after)["regressions"] == []
    row_of(after)["ci_ms"][0] *= 1.0001
    assert len(compare(before, after)["regressions"]) == 1


@pytest.mark.parametrize("noisy", ["before", "after"])
def test_times_of_noisy_rows_are_counted_and_not_judged_but_accuracy_is(results: Results, noisy: str) -> None:
    both = {"before": steady(results()), "after": steady(results())}
    row_of(both[noisy])["noisy"] = True
    scale(row_of(both["after"]), 3.0)
    found = compare(both["before"], both["after"])
    assert (found["regressions"], found["noisy"]) == ([], 1)
    assert found["unchanged"] == found["compared"] - 1
    row_of(both["after"])["cosine"] -= 0.01
    assert told(compare(both["before"], both["after"])["regressions"]) == [("openvino int8", "cosine")]


def test_accuracy_that_drops_is_a_regression(results: Results) -> None:
    before, after = results(), results()
    row_of(after)["cosine"] -= 0.0009
    row_of(before)["recall_change"], row_of(after)["recall_change"] = -0.001, -0.0105
    assert compare(before, after)["regressions"] == []
    row_of(after)["cosine"] -= 0.0002
    row_of(after)["recall_change"] = -0.0115
    found = compare(before, after)
    assert told(found["regressions"]) == [("openvino int8", "cosine"), ("openvino int8", "recall_change")]
    row_of(after)["cosine"] = None
    assert told(compare(before, after)["regressions"]) == [("openvino int8", "recall_change")]


def test_what_fails_now_is_a_regression_and_what_is_gone_is_told(results: Results) -> None:
    before, after = results(), results()
    row_of(after).update(status="failed", why="its process ended (signal 11)")
    row_of(after, "optimum fp32").update(status="missing", why="not installed")
    after["rows"].remove(row_of(after, "torch bf16"))
    found = compare(before, after)
    assert told(found["regressions"]) == [("openvino int8", "status")]
    assert [entry["candidate"] for entry in found["gone"]] == ["torch bf16", "optimum fp32"]
    back = compare(after, before)
    assert told(back["improvements"]) == [("openvino int8", "status")]
    assert [entry["candidate"] for entry in back["new"]] == ["optimum fp32", "torch bf16"]
    lines = "\n".join(described(found))
    assert "session speech, 3 s: openvino int8, ok → failed (its process ended (signal 11))" in lines
    assert "optimum fp32 (not installed)" in lines


def test_another_machine_or_graph_is_warned_of(results: Results) -> None:
    before, after = results(), results()
    assert compare(before, after)["warnings"] == []
    after["environment"].update(cpu="Another\nProcessor", cores=4)
    after["environment"].pop("torch")
    after["method"]["threads"] = 4
    after["bundle"]["encoders"]["speech"]["graphs"]["int8"]["sha256"] = "00" * 32
    after["state"]["throttled"] = True
    found = compare(before, after)
    lines = [line for line in described(found) if line.startswith("warning: ")]
    assert len(lines) == 4
    assert "cpu An Imagined Processor 9000 → Another Processor, cores 2 → 4, torch 2.13.0 → absent" in lines[0]
    assert lines[1:3] == ["warning: the methods differ: threads 2 → 4", "warning: the graphs differ: speech int8"]
    assert "throttled during the second run" in lines[3]


def test_the_same_measurement_twice_is_held_against_its_own_place(results: Results) -> None:
    before, after = steady(results()), steady(results())
    for found in (before, after):
        found["rows"].append(copy.deepcopy(row_of(found)))
    scale(after["rows"][-1], 2.0)
    assert len(compare(before, after)["regressions"]) == 1
    assert compare(before, before)["regressions"] == []


factors = st.floats(0.5, 2.0)
changes = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        factors,
        st.sampled_from(["time", "noisy", "cosine", "failed", "missing", "remove"]),
        st.booleans(),
    ),
    max_size=12,
)


def changed(results: Results, what: list[tuple[int, float, str, bool]]) -> tuple[dict[str, Any], dict[str, Any]]:
    both = results(0), results(1)
    for place, factor, kind, second in what:
        rows = both[second]["rows"]
        row = rows[place % len(rows)]
        if row["status"] == "ok" and kind == "time":
            scale(row, factor)
        elif row["status"] == "ok" and kind == "noisy":
            row["noisy"] = not row["noisy"]
        elif row["status"] == "ok" and kind == "cosine":
            row["cosine"] = 1.0 - factor / 100
        elif kind in ("failed", "missing"):
            row["status"] = kind
        elif kind == "remove":
            rows.remove(row)
    return both


@settings(max_examples=40, deadline=None)
@given(what=changes, threshold=st.floats(0, 100))
def test_a_document_against_itself_never_differs(
    results: Results, what: list[tuple[int, float, str, bool]], threshold: float
) -> None:
    for one in changed(results, what):
        found = compare(one, one, threshold)
        assert [found[name] for name in ("regressions", "improvements", "gone", "new", "warnings")] == [[]] * 5
        assert found["compared"] == found["unchanged"] + found["noisy"]


@settings(max_examples=40, deadline=None)
@given(what=changes, threshold=st.floats(0, 100))
def test_the_other_way_round_regressions_are_improvements(
    results: Results, what: list[tuple[int, float, str, bool]], threshold: float
) -> None:
    def plain(entries: list[dict[str, Any]], back: bool = False) -> list[str]:
        swapped = {"before": "after", "after": "before", "ci_before": "ci_after", "ci_after": "ci_before"}
        keys = [{swapped.get(key, key) if back else key: value for key, value in entry.items()} for entry in entries]
        return sorted(json.dumps({k: v for k, v in entry.items() if k != "why"}, sort_keys=True) for entry in keys)

    one, two = changed(results, what)
    there, back = compare(one, two, threshold), compare(two, one, threshold)
    assert plain(there["regressions"]) == plain(back["improvements"], True)
    assert plain(there["improvements"]) == plain(back["regressions"], True)
    assert plain(there["gone"]) == plain(back["new"])
    assert plain(there["new"]) == plain(back["gone"])
    assert [there[name] for name in ("compared", "noisy", "unchanged")] == [
        back[name] for name in ("compared", "noisy", "unchanged")
    ]
    described(there)


@pytest.fixture
def files(results: Results, tmp_path: Path) -> tuple[Path, Path]:
    slower = steady(results())
    scale(row_of(slower), 1.3)
    return document.write(steady(results()), tmp_path / "a.json"), document.write(slower, tmp_path / "b.json")


def test_the_command_ends_with_what_it_found(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one, two = map(str, files)
    assert main(["bench", "compare", one, two]) == 1
    said = capsys.readouterr().out
    assert "regressions (1)\n  session speech, 3 s: openvino int8, " in said
    assert "30.0 % slower" in said
    assert main(["bench", "compare", two, one]) == 0
    assert "improvements (1)" in capsys.readouterr().out
    assert main(["bench", "compare", one, one]) == 0
    assert "nothing differs beyond the noise and 5 %" in capsys.readouterr().out
    assert main(["bench", "compare", one, two, "--threshold", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["threshold_percent"], found["regressions"]) == ("sayclip-bench-compare/1", 40.0, [])


def test_bad_input_ends_with_2_and_one_line(
    files: tuple[Path, Path], results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(files[0])
    (tmp_path / "newer.json").write_text(json.dumps({**results(), "schema": "sayclip-bench/2"}), encoding="utf-8")
    other = {**results(), "rows": results()["rows"][-1:]}
    document.write(other, tmp_path / "other.json")
    document.write({**other, "rows": []}, tmp_path / "empty.json")
    for words, part in (
        ([one, str(tmp_path / "none.json")], "No such file"),
        ([one, str(tmp_path / "newer.json")], "upgrade sayclip"),
        ([str(tmp_path / "empty.json"), str(tmp_path / "other.json")], "no measurement in common"),
        ([one, one, "--threshold", "-1"], "--threshold is -1.0"),
        ([one, one, "--threshold", "nan"], "--threshold is nan"),
        ([one], "B.json"),
    ):
        assert main(["bench", "compare", *words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert part in said.err
