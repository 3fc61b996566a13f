"""Results are written in one step, read back the same, and refused in one line where they are not what they must be."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import InputError
from sayclip_benchmarks.report import document
from sayclip_benchmarks.report.compare import compare, described
from sayclip_benchmarks.report.markdown import markdown

Results = Callable[..., dict[str, Any]]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        document.read(path)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 600
    return said


def put(path: Path, found: Any) -> Path:
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_what_is_written_is_read_back(results: Results, tmp_path: Path) -> None:
    path = document.write(results(), tmp_path / "new" / "a.json")
    assert document.read(path) == results()
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["a.json"], "no draft is left behind"


def test_what_is_wrong_is_not_written_and_leaves_the_old_file(results: Results, tmp_path: Path) -> None:
    path = document.write(results(), tmp_path / "a.json")
    wrong = results()
    wrong["rows"][5]["p50_ms"] = float("nan")
    with pytest.raises(InputError, match=r"rows\[5\]\.p50_ms"):
        document.write(wrong, path)
    assert document.read(path) == results()
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_place_that_cannot_be_written_is_said(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        document.write(results(), tmp_path / "file" / "a.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        document.write(results(), tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_files_that_are_no_results(results: Results, tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.json")
    assert "not a file" in refused(tmp_path)
    assert "sayclip bench --out" in refused(Path("a\0b"))
    path = tmp_path / "a.json"
    for content in (b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000, b'{"schema": NaN}', b'{"a": 1e999}', b"9" * 5000):
        path.write_bytes(content)
        assert "not JSON that can be used" in refused(path)
    for found in ([], {}, "text", None, {"encoders": {}}):
        assert "it names no schema" in refused(put(path, found))
    with open(path, "wb") as file:
        file.truncate(document.MOST_BYTES + 1)
    assert f"wanted at most {document.MOST_BYTES}" in refused(path)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in refused(tmp_path / "pipe")


def test_other_schemas_name_their_remedy(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert refused(put(path, {**results(), "schema": "sayclip-bench/2"})).endswith("upgrade sayclip")
    for schema in ("sayclip-bench/0", "sayclip-bench/x", "other/1", 1, None, ["sayclip-bench/1"], "x" * 1000):
        assert "wanted sayclip-bench/1" in refused(put(path, {**results(), "schema": schema}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop("rows"), "results.rows is missing"),
        (lambda found: found.update(rows={}), "results.rows is an object, wanted a list"),
        (lambda found: found["rows"][2].update(p50_ms="fast"), 'rows[2].p50_ms is "fast", wanted a number above 0'),
        (lambda found: found["rows"][2].update(p50_ms=0), "rows[2].p50_ms is 0"),
        (lambda found: found["rows"][2].update(p50_ms=True), "rows[2].p50_ms is true"),
        (lambda found: found["rows"][2].update(ci_ms=[2.0, 1.0]), "ci_ms is a list of 2, wanted two numbers"),
        (lambda found: found["rows"][2].update(ci_ms=[1.0]), "ci_ms is a list of 1"),
        (lambda found: found["rows"][2].update(turn_p50_ms=[]), "wanted a list of at least 1"),
        (lambda found: found["rows"][2].update(status="fine"), "wanted one of ok, missing, failed"),
        (lambda found: found["rows"][2].update(kind=["torch"]), "rows[2].kind is a list of 1"),
        (lambda found: found["rows"][2].update(cosine=1.5), "of at most 1.01"),
        (lambda found: found["rows"][2].update(n=2.5), "rows[2].n is 2.5, wanted a whole number"),
        (lambda found: found["rows"][2].pop("noisy"), "rows[2].noisy is missing"),
        (lambda found: found["rows"][0].update(batch=0), "rows[0].batch is 0"),
        (lambda found: found["environment"].update(cpu=["a", "b"]), "environment.cpu is a list of 2"),
        (lambda found: found["environment"]["install_bytes"].update(torch=-1), "install_bytes.torch is -1"),
        (lambda found: found["state"].update(throttled="no"), 'state.throttled is "no", wanted true or false'),
        (lambda found: found["cold"][1].update(total_s=None), "cold[1].total_s is null"),
        (lambda found: found["scenarios"][0].update(scenario="Server"), "wanted one of SingleStream"),
        (lambda found: found["bundle"]["encoders"].update(speech=[]), "encoders.speech is a list of 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_wanted(
    results: Results, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    found = results()
    change(found)
    assert said in refused(put(tmp_path / "a.json", found))


def test_rows_without_figures_need_none_and_unknown_fields_are_let_through(results: Results, tmp_path: Path) -> None:
    found = results()
    assert "p50_ms" not in next(row for row in found["rows"] if row["status"] == "missing")
    found["later"] = found["rows"][0]["later"] = {"anything": [1, None]}
    assert document.read(put(tmp_path / "a.json", found)) == found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield (*path, name)
        yield from places(member, (*path, name))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_reading_gives_results_or_one_line(
    results: Results, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    found = results()
    found["rows"] = [found["rows"][0], found["rows"][2], found["rows"][-1]]
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(list(places(found))))
        holder = found
        for name in above:
            holder = holder[name]
        if isinstance(holder, dict) and data.draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = copy.deepcopy(data.draw(anything))
    path = tmp_path_factory.mktemp("changed") / "a.json"
    put(path, found)
    with contextlib.suppress(InputError):
        read = document.read(path)
        # What is let through can be shown: nothing but InputError comes out of these either.
        markdown(read)
        described(compare(read, results()))
        described(compare(results(), read))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_no_content_gives_another_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("content") / "a.json"
    path.write_bytes(content)
    refused(path)
