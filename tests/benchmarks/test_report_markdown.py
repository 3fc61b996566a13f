"""The tables of a run: every row is in them, what is missing says why, and nothing in a name breaks a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sayclip_benchmarks.report.document import check
from sayclip_benchmarks.report.markdown import markdown
from sayclip_benchmarks.report.wording import change, cosine, figure

Results = Callable[..., dict[str, Any]]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Rows of every table by the heading and bold title over it."""
    found: dict[str, list[dict[str, str]]] = {}
    heading = title = ""
    head: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            heading, title, head = line.lstrip("# "), "", []
        elif line.startswith("**"):
            title, head = line.split("**")[1], []
        elif line.startswith("|---"):
            assert line.count("---|") == len(head)
        elif line.startswith("|") and not head:
            head = cells(line)
        elif line.startswith("|"):
            assert len(cells(line)) == len(head), line
            found.setdefault(f"{heading}/{title}", []).append(dict(zip(head, cells(line), strict=True)))
        else:
            head = []
    return found


def test_every_row_is_in_one_table(results: Results) -> None:
    found = results()
    seen = tables(markdown(found))
    assert sum(map(len, seen.values())) == len(found["rows"]) + len(found["scenarios"]) + len(found["cold"])
    assert {"A whole query/spoken query, 3 s", "A whole query/typed query, 8 tokens"} <= seen.keys()
    assert {"Search alone/100,000 vectors", "Encoder: image/batch 8", "Encoder: speech/6.4 s"} <= seen.keys()


def test_a_row_has_its_figures_and_the_quickest_is_first(results: Results) -> None:
    found = results()
    rows = tables(markdown(found))["Encoder: speech/3 s"]
    torch = next(row for row in rows if row["candidate"] == "torch fp32")
    assert torch["against torch fp32"] == "1.00 × (0.98–1.02)"
    [wanted] = [
        row
        for row in found["rows"]
        if (row["what"], row["size"], row["candidate"]) == ("session", "3 s", "onnxruntime int8")
    ]
    int8 = next(row for row in rows if row["candidate"] == "onnxruntime int8")
    assert float(int8["p90, ms"]) == pytest.approx(wanted["p90_ms"], rel=0.01)
    assert int8["against torch fp32"].startswith(f"{wanted['speedup']:.2f} ×")
    assert int8["cosine"] == "0.9989"
    assert (int8["memory, MB"], int8["model, MB"]) == ("300", "96.0")
    times = [float(row["p50, ms"].replace(",", "")) for row in rows]
    assert times == sorted(times)
    assert "auto (openvino int8)" in {row["candidate"] for row in rows}


def test_noisy_missing_and_failed_rows_say_so(results: Results) -> None:
    found = results()
    for row in found["rows"]:
        row["noisy"] = row["candidate"] == "openvino int8"
    seen = tables(markdown(found))
    noisy = {row["candidate"] for row in seen["Encoder: speech/3 s"] if row[""] == "noisy"}
    assert noisy == {"openvino int8"}
    last = seen["Encoder: speech/1 s"][-2:]
    assert {row["candidate"]: row[""] for row in last} == {
        "tensorrt int8": "missing: no NVIDIA driver is here",
        "sherpa-onnx": r"missing: it has no encoder \| of this &lt;kind>, so there is nothing to time beside this one",
    }
    assert {row["p50, ms"] for row in last} == {"–"}
    [failed] = seen["Encoder: image/batch 32"]
    assert failed[""].startswith("failed: its process ended (signal 9)")
    cold = seen["Cold start: spoken query over the demo library/"]
    assert [row["candidate"] for row in cold] == ["auto", "openvino", "torch fp32", "tensorrt"]
    assert [cold[0][f"{part}, s"] for part in ("import", "load", "first", "total")] == [
        "0.090",
        "0.210",
        "0.060",
        "0.360",
    ]


def test_speedups_are_named_by_what_they_are_over(results: Results) -> None:
    [row] = [
        row for row in tables(markdown(results()))["Search alone/100,000 vectors"] if row["candidate"] == "sayclip"
    ]
    assert row["against numpy fp32"] == "13.57 ×"


def test_columns_without_figures_are_left_out(results: Results) -> None:
    seen = tables(markdown(results()))
    assert "J a query" in seen["A whole query/spoken query, 3 s"][0]
    assert "J a query" not in seen["Encoder: speech/3 s"][0]
    assert "a second" not in seen["Encoder: image/batch 1"][0]
    assert "a second" in seen["Encoder: image/batch 8"][0]


def test_the_machine_its_state_and_the_command_come_last(results: Results) -> None:
    found = results()
    text = markdown(found)
    last = text.rstrip("\n").splitlines()[-1]
    assert last.startswith("Measured by `sayclip bench run --full-size --out results/bench` on cpu An Imagined")
    assert "torch 2.13.0" in last
    assert "install_bytes" not in last
    assert "Energy: not measurable here (no RAPL, NVML or INA3221 that can be read)." in text
    assert "it did not throttle; governor performance; clock 3100 to 3101 MHz" in text
    assert "hottest sensor 51 °C → 67 °C" in text
    assert "`sayclip[cpu]` 131.0 MB" in text
    assert "throttled during this run" not in text
    found["state"].update(throttled=True)
    found["state"]["end"]["nvpmodel"] = "MAXN"
    found["energy"] = {"meter": "rapl", "note": ""}
    text = markdown(found)
    assert text.startswith("**The machine throttled during this run")
    assert "power mode MAXN" in text
    assert "Energy: measured by rapl." in text


def test_snapshots_of_any_kind_are_described(results: Results) -> None:
    found = results()
    found["state"]["start"] = {
        "cores": 3,
        "load": "high",
        "temperatures": [1],
        "gpus": {"a": 1},
        "else": {"b": [1, None]},
    }
    found["state"]["end"] = {"gpus": [{"mhz": 1410, "celsius": "hot"}, 7], "cores": {"a": None, "b": {"mhz": "x"}}}
    found["state"]["throttled"] = None
    check(found)
    text = markdown(found)
    assert "whether it throttled is not known" in text
    assert "else b 1, unknown" in text
    assert "GPU 0 clock 1410 MHz" in text


def test_names_cannot_break_the_page(results: Results) -> None:
    found = results()
    found["command"] = "sayclip bench `rm`\n# heading"
    found["bundle"]["name"] = "a|b\n<script>"
    found["environment"]["cpu"] = "x\n| y |"
    for row in found["rows"]:
        row["candidate"] += "|\n#"
    text = markdown(found)
    tables(text)
    assert "<script>" not in text
    assert "\n#  heading" not in text
    assert len(re.findall("^# ", text, re.MULTILINE)) == 0


def test_a_run_without_anything_is_a_page_still(results: Results) -> None:
    found = {**results(), "rows": [], "cold": [], "scenarios": []}
    found["bundle"]["encoders"] = {}
    check(found)
    text = markdown(found, level=4)
    assert "no encoder" in text
    assert text.count("#### ") == 1


def test_figures_have_three_digits_that_count() -> None:
    assert [figure(value) for value in (0.0123, 1.234, 12.34, 123.4, 12345.6, 0, None)] == [
        *("0.012", "1.23", "12.3", "123", "12,346", "0", "–")
    ]
    assert [cosine(value) for value in (1.0, 0.99991, 0.999973, 0.5, None)] == [
        "1.0000",
        "0.9999",
        "0.999973",
        "0.5000",
        "–",
    ]
    assert [change(value) for value in (-0.0124, 0.002, 0.0, None)] == ["−0.012", "+0.002", "0", "–"]
