"""Which library is searched when none is named: the user's own, else the demo's."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sayclip
from sayclip.cli import places

Run = Callable[..., "tuple[int, str, str]"]
ONE_LINE = re.compile(r"sayclip.*\n")


def test_the_demo_is_searched_when_nothing_is_named(run: Run, demo: Path) -> None:
    status, out, err = run("search", "cat", "-k", 4, "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert {hit["caption"] for hit in document["hits"]} == {"red apple", "cat", "violin", "tornado"}
    assert document["hits"][0]["meta"]["keywords"][-1] == "thing"
    assert Path(document["library"]).name == "demo-tiny-0123456789ab.sqlite"

    # What was interrupted is completed, what moved is followed, and what is complete is left alone.
    with sayclip.load() as encoder:
        with sayclip.Library.open(document["library"], encoder) as library:
            library.remove(1)
            stamp = library.get(2)
        assert len(json.loads(run("search", "cat", "--json")[1])["hits"]) == 4
        moved = demo.parent / "elsewhere" / "sayclip_demo"
        shutil.move(demo, moved)
        with places.open_demo_library(encoder := sayclip.load(moved / "bundle"), moved / "pictures") as library:
            assert len(library) == 4
            assert all(item.source.startswith(str(moved)) for item in library.items())
            assert stamp.source not in {item.source for item in library.items()}


def test_the_users_own_library_goes_before_the_demos(run: Run, demo: Path, pictures: Path) -> None:
    run("index", pictures)
    assert json.loads(run("search", "cat", "--json")[1])["library"] == str(places.default_library("tiny-0123456789ab"))


def test_a_failed_index_leaves_the_demo_searchable(run: Run, demo: Path, tmp_path: Path) -> None:
    assert run("index", tmp_path / "not there")[0] == 2
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert run("index", tmp_path / "bad.png")[0] == 2
    document = json.loads(run("search", "cat", "--json")[1])
    assert Path(document["library"]).name.startswith("demo-")
    assert len(document["hits"]) == 4


def test_no_library_at_all(run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sayclip_demo", None)
    status, _, err = run("search", "cat")
    assert status == 2
    assert "there is no library at" in err
    assert "sayclip index PATH" in err
    monkeypatch.setenv("SAYCLIP_LIBRARY", str(tmp_path / "named.sqlite"))
    status, _, err = run("search", "cat")
    assert (status, "named.sqlite does not exist" in err) == (2, True)


def test_the_demo_is_not_searched_in_another_space(
    run: Run, demo: Path, edit_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    def other(data: dict[str, Any]) -> None:
        data["space"] = "other"
        for encoder in data["encoders"].values():
            encoder["space"] = "other"

    status, _, err = run("search", "cat", "--bundle", edit_manifest(other))
    assert (status, "there is no library at" in err) == (2, True)


def test_a_bad_query_is_refused_before_the_demo_is_indexed(run: Run, demo: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 16000)
    status, out, err = run("search", "--speech", tmp_path / "silence.wav")
    assert (status, out) == (2, "")
    assert "no speech heard" in err
    assert ONE_LINE.fullmatch(err)
    assert not list((Path(os.environ["XDG_CACHE_HOME"]) / "sayclip").glob("demo-*"))


def test_a_demo_without_pictures_that_can_be_read(run: Run, demo: Path) -> None:
    for path in (demo / "pictures").glob("*.webp"):
        path.write_bytes(b"")
    status, _, err = run("search", "cat")
    assert status == 2
    assert "none of the demo's pictures could be read" in err
    (demo / "pictures" / "captions.tsv").write_bytes(b"\xff\n")
    status, _, err = run("search", "cat")
    assert (status, "captions.tsv cannot be read" in err) == (2, True)
