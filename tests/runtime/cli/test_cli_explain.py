"""``sayclip search --explain``: what it prints, its JSON, its picture, how it ends."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

Run = Callable[..., "tuple[int, str, str]"]
ONE_LINE = re.compile(r"sayclip.*\n")


@pytest.fixture(scope="module")
def keyword_bundles(tiny_bundle_master: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles whose speech encoder hears keywords: one tells when, the other does not."""
    from keyword_bundle import build_keyword_bundle

    folder = tmp_path_factory.mktemp("keywords")
    return {
        name: build_keyword_bundle(tiny_bundle_master, folder / name, timed=name == "timed")
        for name in ("timed", "untimed")
    }


@pytest.fixture
def timed(keyword_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAYCLIP_BUNDLE", str(keyword_bundles["timed"]))
    return keyword_bundles["timed"]


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., Path]:
    """``say(seconds)`` writes a recording of that many seconds, in which a word is heard every quarter."""

    def write(seconds: float, name: str = "q.wav", loudness: float = 0.1) -> Path:
        noise = np.random.default_rng(1).normal(size=round(16000 * seconds)) * loudness
        soundfile.write(tmp_path / name, noise.clip(-1, 1), 16000)
        return tmp_path / name

    return write


@pytest.fixture
def speech_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many recordings there were in each run of a speech graph."""
    import onnxruntime

    runs: list[int] = []
    run = onnxruntime.InferenceSession.run

    def counted(session: Any, names: Any, feeds: dict[str, np.ndarray], options: Any = None) -> Any:
        runs.extend(len(feeds[name]) for name in feeds if name == "waveform")
        return run(session, names, feeds, options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", counted)
    return runs


def test_a_line_says_what_was_heard(run: Run, timed: Path, pictures: Path, say: Callable[..., Path]) -> None:
    run("index", pictures)
    status, out, _ = run("search", "--speech", say(1.1), "--explain")
    first, *hits, times = out.splitlines()
    assert (status, len(hits)) == (0, 3)
    assert first == "heard  0.00–0.25 red (0.71) · 0.25–0.75 apple (0.64) · 0.75–1.00 日本語 (0.50)"
    assert hits[0].startswith("  1  ")
    assert times.startswith("encoded in ")
    _, out, _ = run("search", "--speech", say(0.6), "--explain")
    assert out.splitlines()[0] == "heard  0.00–0.25 red (0.71) · 0.25–0.50 ap- (0.81)"
    _, out, _ = run("search", "--speech", say(0.2), "--explain")
    assert out.splitlines()[0] == "heard  nothing"
    _, out, _ = run("search", "--speech", say(0.2))
    assert "heard" not in out


def test_several_recordings_are_named(run: Run, timed: Path, pictures: Path, say: Callable[..., Path]) -> None:
    run("index", pictures)
    first, second = say(0.3, "a.wav"), say(0.2, "b\x1b[2J.wav")
    _, out, _ = run("search", "a cat", "--speech", first, "--speech", second, "--explain")
    assert out.splitlines()[:2] == [
        f"{first}  heard  0.00–0.25 red (0.71)",
        f"{second.parent / 'b [2J.wav'}  heard  nothing",
    ]


def test_without_times(run: Run, keyword_bundles: dict[str, Path], pictures: Path, say: Callable[..., Path]) -> None:
    where = ["--bundle", keyword_bundles["untimed"]]
    run("index", pictures, *where)
    _, out, _ = run("search", "--speech", say(0.8), "--explain", *where)
    assert out.splitlines()[0] == "heard  red (0.71) · apple (0.64)"
    _, out, _ = run("search", "--speech", say(0.3), "--explain", "--json", *where)
    (unit,) = json.loads(out)["explanation"][0]["units"]
    assert (unit["start_s"], unit["end_s"], unit["word"]) == (None, None, "red")


def test_all_but_the_explanation_stays_as_it_was(
    run: Run, timed: Path, pictures: Path, say: Callable[..., Path], speech_runs: list[int]
) -> None:
    """The same hits and queries, and the speech graph runs no more often."""
    run("index", pictures)
    first, second = say(0.8, "a.wav"), say(0.3, "b.wav")
    spoken = ["--speech", first, "--speech", second]
    run("search", *spoken)  # from here on it is known what runs the encoders
    for query in (spoken, ["a cat", *spoken, "--ipa", "kæt", "--weights", "text=0.3,speech=-2"]):
        documents = []
        for more in ([], ["--explain"]):
            speech_runs.clear()
            status, out, err = run("search", *query, "--json", *more)
            assert (status, err, speech_runs) == (0, "", [2])
            documents.append(json.loads(out))
        plain, explained = documents
        assert "explanation" not in plain
        explanation = explained.pop("explanation")
        for document in documents:
            assert document.pop("encode_ms") > 0
            assert document.pop("search_ms") > 0
        assert explained == plain
        assert explanation == [
            {
                "recording": str(first),
                "units": [
                    {"start_s": 0.0, "end_s": 0.25, "word": "red", "score": pytest.approx(0.71), "id": 312},
                    {"start_s": 0.25, "end_s": 0.5, "word": "ap-", "score": pytest.approx(0.81), "id": 7},
                    {"start_s": 0.5, "end_s": 0.75, "word": "ple", "score": pytest.approx(0.64), "id": 901},
                ],
            },
            {
                "recording": str(second),
                "units": [{"start_s": 0.0, "end_s": 0.25, "word": "red", "score": pytest.approx(0.71), "id": 312}],
            },
        ]


def test_the_picture(run: Run, timed: Path, pictures: Path, say: Callable[..., Path], tmp_path: Path) -> None:
    run("index", pictures)
    place = tmp_path / "heard.PNG"
    place.write_bytes(b"the old one")
    recording = say(1.5)
    status, out, _ = run("search", "--speech", recording, "--explain", "--explain-picture", place)
    assert (status, out.splitlines()[0].count("·")) == (0, 3)
    with Image.open(place) as drawn:
        assert (drawn.format, drawn.mode, drawn.width) == ("PNG", "RGB", 1200)
        drawn.load()
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"heard.PNG", "q.wav"}
    status, out, _ = run("search", "--speech", say(0.2), "--explain", "--explain-picture", place, "--json")
    assert (status, json.loads(out)["explanation"][0]["units"]) == (0, [])


def test_what_cannot_be_written_leaves_nothing(
    run: Run, timed: Path, pictures: Path, say: Callable[..., Path], tmp_path: Path
) -> None:
    run("index", pictures)
    recording, before = say(0.3), set(tmp_path.rglob("*")) | {tmp_path / "q.wav"}
    place = tmp_path / f"{'x' * 300}.png"
    status, out, err = run("search", "--speech", recording, "--explain", "--explain-picture", place)
    assert (status, out) == (2, "")
    assert "cannot be written (File name too long): name a writable place with room" in err
    assert ONE_LINE.fullmatch(err)
    assert set(tmp_path.rglob("*")) == before


def test_the_demo_is_asked_in_one_run(
    run: Run, demo: Path, timed: Path, say: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, speech_runs: list[int]
) -> None:
    """The first search of all checks its recording before the demo's pictures are indexed, and no run is wasted."""
    monkeypatch.delenv("SAYCLIP_BUNDLE")
    shutil.rmtree(demo / "bundle")
    shutil.copytree(timed, demo / "bundle")
    recording = say(0.3)
    status, out, _ = run("search", "--speech", recording, "--explain", "--json")
    assert (status, len(json.loads(out)["hits"])) == (0, 4)
    Path(json.loads(out)["library"]).unlink()
    speech_runs.clear()
    status, out, _ = run("search", "--speech", recording, "--explain", "--json")
    assert (status, len(json.loads(out)["hits"]), speech_runs) == (0, 4, [1])


BAD_SEARCHES = {
    "no recording": (["cat", "--explain"], "--explain is given without --speech"),
    "nothing at all": (["--explain"], "nothing to search for"),
    "silence": (["--speech", "silence.wav", "--explain"], "no speech heard in silence.wav"),
    "one is silent": (["--speech", "q.wav", "--speech", "silence.wav", "--explain"], "item 1 of 2: no speech heard in"),
    "no recording there": (["--speech", "gone.wav", "--explain"], "gone.wav does not exist"),
    "picture alone": (["--speech", "q.wav", "--explain-picture", "a.png"], "--explain-picture is given without --exp"),
    "two recordings": (
        ["--speech", "q.wav", "--speech", "q.wav", "--explain", "--explain-picture", "a.png"],
        "draws one recording, 2 are given",
    ),
    "no png": (["--speech", "q.wav", "--explain", "--explain-picture", "a.jpg"], "wanted a name that ends in .png"),
    "no name": (["--speech", "q.wav", "--explain", "--explain-picture", ""], "wanted a name that ends in .png"),
    "a folder": (["--speech", "q.wav", "--explain", "--explain-picture", "folder.png"], "folder.png is a folder"),
    "no folder, and nothing is loaded": (
        ["--bundle", "gone", "--speech", "q.wav", "--explain", "--explain-picture", "gone/a.png"],
        "the folder gone of --explain-picture does not exist",
    ),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_bad_searches_end_with_one_line(
    case: str,
    run: Run,
    timed: Path,
    pictures: Path,
    say: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say(0.5)
    say(0.5, "silence.wav", 0)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    run("index", pictures)
    arguments, message = BAD_SEARCHES[case]
    status, out, err = run("search", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert ONE_LINE.fullmatch(err)
    assert not (tmp_path / "a.png").exists()


def test_an_encoder_without_keywords(run: Run, bundle: Path, pictures: Path, say: Callable[..., Path]) -> None:
    run("index", pictures)
    status, out, err = run("search", "--speech", say(0.5), "--explain")
    assert (status, out) == (2, "")
    assert "the speech encoder of tiny gives no keywords: export a checkpoint with a cascaded branch" in err
    assert ONE_LINE.fullmatch(err)


def test_drawing_is_imported_for_pictures_alone(
    run: Run, timed: Path, pictures: Path, say: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", pictures)
    monkeypatch.delitem(sys.modules, "sayclip.cli.explain_picture", raising=False)
    spoken = ["--speech", say(0.5), "--explain"]
    assert run("search", *spoken)[0] == 0
    assert "sayclip.cli.explain_picture" not in sys.modules
    assert run("search", *spoken, "--explain-picture", tmp_path / "a.png")[0] == 0
    assert "sayclip.cli.explain_picture" in sys.modules
