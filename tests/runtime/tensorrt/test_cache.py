"""The engine cache: what is in it is checked before any library sees it, and a kill leaves it whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.errors import BackendError
from sayclip.sessions.tensorrt import cache

KEY = cache.Key("ab" * 32, "query", "tensorrt", "10.3.0", "Orin", "sm_87", "12.6", "cd" * 32)


def stored(key: cache.Key = KEY, content: bytes = b"plan") -> cache.Entry:
    with cache.workshop() as place:
        plan = place / "1"
        plan.write_bytes(content)
        return cache.store(key, plan, {"seconds": 1.0})


def left() -> list[str]:
    return sorted(path.name for path in cache.folder().rglob("*") if path.is_file() and path.name != ".lock")


def test_stored_and_found_again() -> None:
    entry = stored()
    found = cache.find(KEY)
    assert found == entry
    assert bytes(cache.read_plan(found)) == b"plan"
    assert found.facts == {"seconds": 1.0}
    assert list(cache.entries()) == [entry]
    assert len(left()) == 2


def test_a_new_engine_takes_the_place_of_the_old() -> None:
    first, second = stored(content=b"one"), stored(content=b"two")
    assert first.file != second.file
    assert bytes(cache.read_plan(cache.find(KEY) or first)) == b"two"
    assert left() == sorted([second.record.name, second.file])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"capability": "sm_110", "version": "10.13.3"},
            "was built for sm_87, TensorRT 10.3.0; here sm_110, TensorRT 10.13.3",
        ),
        ({"gpu": "Thor"}, "was built for Orin; here Thor"),
        ({"driver": "13.0"}, "was built for a driver of CUDA 12.6; here a driver of CUDA 13.0"),
        ({"shapes": "ef" * 32}, "was built for the shapes cdcdcdcdcdcd…; here the shapes efefefefefef…"),
        ({"format": 2}, "was built for format 1; here format 2"),
        ({"plan": "index"}, "is not built yet"),
        ({"graph": "00" * 32}, "is not built yet"),
        ({"graph": "ab" * 8 + "00" * 24}, "was built for the graph abababababab…; here the graph abababababab…"),
    ],
)
def test_what_differs_is_said(change: dict[str, Any], words: str) -> None:
    stored()
    wanted = replace(KEY, **change)
    assert cache.find(wanted) is None
    assert cache.explain(wanted) == words


def test_no_key_is_like_another() -> None:
    names = {KEY.name} | {replace(KEY, **{field: "x"}).name for field in KEY.__dict__ if field != "format"}
    assert len(names) == len(KEY.__dict__)
    assert replace(KEY, format=2).name not in names


def test_a_record_under_another_key_is_not_taken_for_it() -> None:
    """Renaming a foreign engine's record does not make it one's own."""
    foreign = stored(replace(KEY, version="10.7.0"))
    foreign.record.rename(foreign.record.with_name(f"{KEY.name}.json"))
    assert cache.find(KEY) is None
    assert cache.explain(KEY) == "was built for TensorRT 10.7.0; here TensorRT 10.3.0"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has 3 bytes, its record says 4"),
        (lambda path: path.write_bytes(b"plax"), "its record says"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: (path.unlink(), path.mkdir()), ""),
    ],
)
def test_a_damaged_plan_is_refused_before_it_is_used(damage: Any, words: str) -> None:
    entry = stored()
    damage(entry.path)
    assert words in cache.damage(entry)
    with pytest.raises(BackendError, match="run `sayclip build BUNDLE` --force"):
        cache.read_plan(entry)
    assert cache.explain(KEY) != "is there"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"plan": {}}', '{"plan": null, "facts": {}, "key": {}}', "[" * 5000]
)
def test_a_damaged_record_is_no_engine(content: str) -> None:
    entry = stored()
    entry.record.write_text(content)
    assert cache.find(KEY) is None
    assert list(cache.entries()) == []
    assert "is damaged" in cache.explain(KEY)


@pytest.mark.parametrize("file", ["../x.plan", "/etc/x.plan", "a/b.plan", "x.json", 3, None])
def test_a_record_leads_to_no_other_place(file: Any) -> None:
    entry = stored()
    data = json.loads(entry.record.read_text())
    data["plan"]["file"] = file
    entry.record.write_text(json.dumps(data))
    assert cache.find(KEY) is None


@given(st.dictionaries(st.sampled_from([*KEY.__dict__, "more"]), st.text(max_size=3) | st.integers() | st.none()))
def test_a_key_is_whole_or_none(data: dict[str, Any]) -> None:
    key = cache.Key.from_dict(data)
    assert key is None or key.__dict__ == data


def test_a_kill_between_plan_and_record_leaves_the_old_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    old = stored(content=b"old")

    class Killed(BaseException):
        pass

    replaced = cache.os.replace

    def replace_plans_only(source: Path, target: Path) -> None:
        if str(target).endswith(".json"):
            raise Killed
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "replace", replace_plans_only)
        with pytest.raises(Killed):
            stored(content=b"new")
    assert bytes(cache.read_plan(cache.find(KEY) or old)) == b"old"
    assert len(left()) == 3
    with cache.workshop():
        assert len(left()) == 2  # what nobody names is cleared away


def test_one_build_at_a_time_and_leftovers_are_cleared() -> None:
    (cache.folder() / ".building-dead").mkdir(parents=True)
    with (
        cache.workshop() as place,
        pytest.raises(BackendError, match=r"another build is running .*wait for its end"),
        cache.workshop(),
    ):
        pass
    assert not place.exists()
    assert [path.name for path in cache.folder().iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_one_line(private_home: Path) -> None:
    (private_home / "cache").write_text("a file where the folder should be")
    with pytest.raises(BackendError, match=r"cannot be written .*: set XDG_CACHE_HOME"), cache.workshop():
        pass
