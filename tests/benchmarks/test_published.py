"""What the README and the pages under benchmarks/results say is what the committed numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sayclip_benchmarks.int8 import table
from sayclip_benchmarks.report import document, markdown
from sayclip_benchmarks.suite import figures

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def section(name: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"<!-- {name}:begin -->\n")[1].split(f"<!-- {name}:end -->")[0]


def test_int8_is_quoted_as_measured() -> None:
    seen = table.markdown(json.loads((RESULTS / "int8.json").read_text(encoding="utf-8")))
    assert (RESULTS / "int8.md").read_text(encoding="utf-8") == seen
    assert section("int8") == seen


def test_the_benchmark_is_quoted_as_measured() -> None:
    found = document.read(RESULTS / "bench.json")
    quoted = figures.markdown(found)
    assert section("bench") == quoted
    assert (RESULTS / "bench.md").read_text(encoding="utf-8") == f"{quoted}\n{markdown.markdown(found)}"


@pytest.mark.parametrize("kind", ["speedup", "pareto", "lengths", "cold"])
def test_plots_lie_beside(kind: str) -> None:
    for suffix in ("svg", "png"):
        assert (RESULTS / f"bench-{kind}.{suffix}").stat().st_size > 1000
