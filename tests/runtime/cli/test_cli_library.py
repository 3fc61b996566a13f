"""``sayclip index`` and ``sayclip search``: what they print, how they end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sayclip
from sayclip.cli import places

Run = Callable[..., "tuple[int, str, str]"]
Draw = Callable[[Path, int], Path]
NOTICE = "a bundle of random weights, for tests"
ONE_LINE = re.compile(r"sayclip.*\n")


def test_index_and_search(run: Run, bundle: Path, pictures: Path, recording: Path, tmp_path: Path) -> None:
    library = tmp_path / "my" / "library.sqlite"
    status, out, err = run("index", pictures, pictures / "a.png", "--library", library)
    assert (status, out.split(" in ")[0], err) == (0, "3 added, 0 unchanged, 0 updated", f"{NOTICE}\n")
    status, out, _ = run("index", pictures, "--library", library)
    assert (status, out.split(" in ")[0]) == (0, "0 added, 3 unchanged, 0 updated")
    assert "library.sqlite holds 3 pictures" in out

    status, out, err = run("search", "--image", pictures / "b.png", "--library", library, "-k", 2)
    assert (status, err) == (0, f"{NOTICE}\n")
    first, second, times = out.splitlines()
    assert first.split() == ["1", "1.000", str(pictures / "b.png")]
    assert second.split()[0] == "2"
    assert "(image on " in times
    assert "searched in" in times

    queries = ["a cat", "--speech", recording, "--ipa", "kæt", "--image", pictures / "a.png"]
    status, out, err = run("search", *queries, "--weights", "text=1,speech=0.5", "--library", library, "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    assert document["notice"] == NOTICE
    assert document["space"] == "tiny-0123456789ab"
    assert [query["weight"] for query in document["queries"]] == [1.0, 0.5, 1.0, 1.0]
    assert len(document["hits"]) == 3
    assert document["encode_ms"] > 0
    assert document["search_ms"] > 0
    assert set(document["encoders"]) == {"text", "speech", "pronunciation", "image"}


def test_several_queries_of_one_kind(run: Run, bundle: Path, pictures: Path) -> None:
    run("index", pictures)
    status, out, _ = run("search", "--image", pictures / "a.png", "--image", pictures / "b.png", "-k", 3, "--json")
    assert status == 0
    assert {Path(hit["source"]).name for hit in json.loads(out)["hits"][:2]} == {"a.png", "b.png"}


def test_index_reports_bad_pictures_and_goes_on(run: Run, bundle: Path, pictures: Path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG")
    status, out, err = run("index", pictures, pictures / "gone", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["added"] == document["pictures"] == 3
    assert [Path(bad["source"]).name for bad in document["failed"]] == ["gone", "broken.png"]
    assert len(err.splitlines()) == 2
    assert all(line.startswith("sayclip: ") for line in err.splitlines())

    status, out, err = run("index", pictures / "broken.png")
    assert status == 2
    assert "1 failed" in out
    assert ONE_LINE.fullmatch(err)


def test_index_updates_and_prunes(draw: Draw, run: Run, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    other = draw(tmp_path / "other" / "d.png", 9)
    run("index", pictures, other.parent)
    draw(pictures / "a.png", 7)
    (pictures / "b.png").unlink()
    other.unlink()
    status, out, _ = run("index", pictures, "--prune")
    assert (status, out.split(" in ")[0]) == (0, "0 added, 1 unchanged, 1 updated, 1 removed")
    status, out, _ = run("index", "--prune")  # without PATH, everywhere
    assert (status, out.split(" in ")[0]) == (0, "0 added, 0 unchanged, 0 updated, 1 removed")


def test_index_without_a_picture(run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("index")[0] == 2
    (tmp_path / "empty").mkdir()
    status, _, err = run("index", tmp_path / "empty")
    assert status == 2
    assert "no pictures in" in err
    assert ONE_LINE.fullmatch(err)
    status, _, err = run("index", tmp_path / "not there")
    assert (status, "does not exist" in err) == (2, True)
    assert not places.default_library("tiny-0123456789ab").exists()


def test_an_empty_library_says_so(run: Run, bundle: Path, tmp_path: Path) -> None:
    with sayclip.load() as encoder:
        sayclip.Library.create(tmp_path / "a.sqlite", encoder).close()
    status, out, _ = run("search", "cat", "--library", tmp_path / "a.sqlite")
    assert status == 0
    assert "holds no pictures yet: add some with `sayclip index PATH`" in out


BAD_SEARCHES = {
    "nothing": ([], "nothing to search for"),
    "empty text": ([""], "empty or blank"),
    "long text": (["cat " * 3000], "10,000"),
    "missing recording": (["--speech", "gone.wav"], "gone.wav"),
    "missing picture": (["--image", "gone.png"], "gone.png"),
    "unknown symbol": (["--ipa", "kʘt"], "the nearest known one is"),
    "weight of what is not asked": (["cat", "--weights", "speech=1"], "--weights names speech"),
    "weight of nothing": (["cat", "--weights", "text"], "'text' is not one of"),
    "weight of no number": (["cat", "--weights", "text=nan"], "'text=nan' is not one of"),
    "weight twice": (["cat", "--weights", "text=1,text=2"], "'text=2' is not one of"),
    "unknown weight": (["cat", "--weights", "smell=1"], "'smell=1' is not one of"),
    "all weights zero": (["cat", "--weights", "text=0"], "all weights are 0"),
    "no hits wanted": (["cat", "-k", "0"], "'0' is not a whole number"),
    "half a hit": (["cat", "-k", "1.5"], "'1.5' is not a whole number"),
    "missing library": (["cat", "--library", "gone.sqlite"], "gone.sqlite does not exist"),
    "library without a name": (["cat", "--library", ""], "the name of the library is empty"),
    "library of another kind": (["cat", "--library", __file__], "is not a library"),
    "missing bundle": (["cat", "--bundle", "gone"], "bundle gone does not exist"),
    "unknown option": (["cat", "--fast"], "unrecognized arguments: --fast"),
    "two texts": (["a", "cat"], "unrecognized arguments: cat"),
    "a share of nothing": (["cat", "--sound-share", "0.5"], "--sound-share is given without --sounds-like"),
    "a share too large": (["--sounds-like", "kat", "--sound-share", "2"], "'2' is not a number from 0 to 1"),
    "a language of nothing": (["cat", "--language", "de"], "--language is given without --words or --sounds-like"),
    "another language": (["--words", "zeit", "--language", "de"], "was trained on en-us"),
    "a spelling without sound": (["--sounds-like", "!", "--sound-share", "1"], "holds no sound"),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_bad_searches_end_with_one_line(case: str, run: Run, bundle: Path, pictures: Path) -> None:
    run("index", pictures)
    arguments, message = BAD_SEARCHES[case]
    status, out, err = run("search", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert ONE_LINE.fullmatch(err)


def test_captions_cannot_steer_the_terminal(run: Run, bundle: Path, tmp_path: Path) -> None:
    with sayclip.load() as encoder, sayclip.Library.create(tmp_path / "a.sqlite", encoder) as library:
        library.add(np.zeros((4, 4, 3), np.uint8), caption="red\x1b[2J\napple", source="x" * 300)
    out = run("search", "cat", "--library", tmp_path / "a.sqlite")[1]
    assert "red [2J apple" in out
    assert len(out.splitlines()) == 2
    assert len(out.splitlines()[0]) <= 100


def test_a_spelling_that_sounds_right(run: Run, bundle: Path, pictures: Path) -> None:
    run("index", pictures)
    status, out, err = run("search", "--sounds-like", "kat", "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    (query,) = document["queries"]
    assert (query["modality"], query["query"], query["weight"]) == ("sounds_like", "kat", 1.0)
    assert 0 < query["sound_share"] < 1
    assert set(document["encoders"]) == {"text", "pronunciation"}
    hits = {}
    for share in ("0", "1"):
        status, out, _ = run("search", "--sounds-like", "kat", "--sound-share", share, "--json")
        assert status == 0
        hits[share] = [(hit["item_id"], hit["score"]) for hit in json.loads(out)["hits"]]
        assert set(json.loads(out)["encoders"]) == {"text" if share == "0" else "pronunciation"}
    for share, other in (("0", ["kat"]), ("1", ["--words", "kat"])):
        (status, out, _) = run("search", *other, "--json")
        found = [(hit["item_id"], pytest.approx(hit["score"], abs=1e-6)) for hit in json.loads(out)["hits"]]
        assert found == hits[share]
    status, out, _ = run("search", "cat", "--sounds-like", "kat", "--weights", "text=2,sounds-like=0.5")
    assert status == 0
    assert "pronunciation on " in out
