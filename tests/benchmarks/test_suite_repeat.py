"""A benchmark run twice: what does not come out again is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sayclip.errors import InputError
from sayclip_benchmarks.report import document
from sayclip_benchmarks.suite.repeat import hold

Results = Callable[..., dict[str, Any]]


def ok(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["status"] == "ok"]


def quiet(found: dict[str, Any]) -> dict[str, Any]:
    for row in ok(found):
        row["noisy"] = False
    return found


def test_what_does_not_come_out_again_is_marked(results: Results) -> None:
    first, second = quiet(results()), quiet(results())
    ok(first)[0]["p50_ms"] *= 1.09
    ok(first)[1]["p50_ms"] *= 1.11
    ok(first)[2]["p50_ms"] /= 1.2
    ok(first)[3]["noisy"] = True
    count = len(ok(second))
    hold(second, first)
    assert [row["noisy"] for row in ok(second)] == [False, True, True, True] + [False] * (count - 4)
    assert second["repeat"] == {"started": first["started"], "rows": count, "within": count - 2, "marked": 2}
    assert [row["repeat_p50_ms"] for row in ok(second)] == [row["p50_ms"] for row in ok(first)]
    document.check(second)


def test_only_rows_of_both_count(results: Results) -> None:
    first, second = quiet(results()), quiet(results())
    gone = ok(first)[0]
    first["rows"].remove(gone)
    hold(second, first)
    assert second["repeat"]["rows"] == len(ok(second)) - 1
    assert "repeat_p50_ms" not in ok(second)[0]
    first["rows"].clear()
    with pytest.raises(InputError, match="no row in common"):
        hold(second, first)
