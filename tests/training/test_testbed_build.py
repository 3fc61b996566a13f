"""`sayclip train demo-data --quick`: the files it promises, the same every time, after a kill too; and bad input."""

from __future__ import annotations

import csv
import hashlib
import json
import operator
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image

from sayclip.cli.main import main
from sayclip.errors import InputError, MissingDependencyError
from sayclip_training.demo_data import names
from sayclip_training.demo_data.pictures import FONT
from sayclip_training.testbed import folder, languages, parts, versions
from sayclip_training.testbed.build import build
from sayclip_training.testbed.contents import QUICK
from sayclip_training.testbed.parts import Part
from sayclip_training.testbed.splits import SPLITS

HAVE = FONT.exists() and names.EMOJI_TEST.exists() and names.CLDR.exists() and shutil.which("flite") is not None
pytestmark = pytest.mark.skipif(not HAVE and "CI" not in os.environ, reason="Debian's flite, fonts, unicode-data, CLDR")


@pytest.fixture(scope="module")
def built(quick_testbed: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    return quick_testbed


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_captions_name_pictures_that_are_there(built: tuple[Path, dict[str, Any]]) -> None:
    target, about = built
    found = rows(target / "captions.tsv")
    assert list(found[0]) == ["file", "caption", "kind", "split"]
    assert {row["kind"] for row in found} == {"name", "keyword", "scene"}
    assert {row["split"] for row in found} <= set(SPLITS) - {"voice"}
    files = {path.relative_to(target).as_posix() for path in target.glob("*/*.webp")}
    assert {row["file"] for row in found} == files
    for file in files:
        with Image.open(target / file) as picture:
            assert picture.size == ((96, 96) if file.startswith("pictures/") else (224, 224))
    counts = about["counts"]["captions"]
    assert sum(counts["scene"].values()) == QUICK.scenes
    assert sum(counts["name"].values()) == QUICK.pictures


def test_speech_is_16_khz_flac_with_the_times_of_its_words(built: tuple[Path, dict[str, Any]]) -> None:
    target, about = built
    found = rows(target / "speech.tsv")
    assert list(found[0]) == ["file", "caption", "voice", "split", "words", "picture"]
    meant = {(row["caption"], row["file"]) for row in rows(target / "captions.tsv")}
    assert {(row["caption"], row["picture"]) for row in found} <= meant
    captions = {row["caption"]: row["split"] for row in rows(target / "captions.tsv")}
    assert {row["file"] for row in found} == {path.relative_to(target).as_posix() for path in target.glob("speech/*")}
    for row in found:
        info = soundfile.info(target / row["file"])
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16000, 1)
        assert row["split"] in (captions[row["caption"]], "voice")
        before = 0.0
        for word, start, end in json.loads(row["words"]):
            assert word in row["caption"].replace("’", "'")
            assert before <= start < end <= info.duration + 1e-4
            before = end
    assert {"train", "voice"} <= {row["split"] for row in found}
    assert {row["voice"].split("/")[0] for row in found} == {"espeak-ng", "flite"}
    assert len(found) + about["counts"]["recordings_left_out"] >= 60


def test_words_and_languages(built: tuple[Path, dict[str, Any]]) -> None:
    target, about = built
    entries = json.loads((target / "words.json").read_text(encoding="utf-8"))
    assert len(entries) == QUICK.pictures == about["counts"]["words"]
    assert all((target / entry["file"]).exists() and entry["ipa"] for entry in entries)
    assert about["counts"]["misspelt"]["0"]["share_with_any"] > 0.5
    for language in ("en", "de", "fr"):
        found = rows(target / "languages" / f"{language}.tsv")
        assert list(found[0]) == ["file", "name"]
        assert len(found) > 0.9 * len(entries)


def test_about_has_the_hash_of_every_file(built: tuple[Path, dict[str, Any]]) -> None:
    target, about = built
    assert about == json.loads((target / "about.json").read_text(encoding="utf-8"))
    everything = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert set(about["sha256"]) | {"about.json"} == {file for file in everything if not file.startswith("speech/")}
    for file, digest in about["sha256"].items():
        assert hashlib.sha256((target / file).read_bytes()).hexdigest() == digest
    of_speech = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in target.glob("speech/*"))
    assert about["speech_sha256"] == hashlib.sha256("\n".join(of_speech).encode()).hexdigest()
    assert about["seed"] == 0
    assert {"espeak-ng", "flite", "unicode-data"} <= set(about["versions"])


def test_the_same_seed_gives_the_same_hashes_after_a_kill_too(
    built: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed as soon as one part of the speech is there, in one process where the first build had two."""
    _, about = built
    target = tmp_path / "bed"
    command = [sys.executable, "-m", "sayclip", "train", "demo-data", "--quick", "--workers", "1", "--out", str(target)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 120
    while not list(target.glob(f"{folder.PARTS}/speech-*.json")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (target / folder.ABOUT).exists()
    kept = {path: path.stat().st_mtime_ns for path in target.glob(f"{folder.PARTS}/*.json")}
    kept |= {path: path.stat().st_mtime_ns for path in target.glob("*/*.webp")}
    assert main(command[3:]) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items() if path.exists())
    again = json.loads((target / folder.ABOUT).read_text(encoding="utf-8"))
    assert again["sha256"] == about["sha256"]
    assert again["speech_sha256"] == about["speech_sha256"]
    assert "recordings" in capsys.readouterr().out
    assert not (target / folder.PARTS).exists()


def test_a_finished_test_bed_is_left_alone(built: tuple[Path, dict[str, Any]]) -> None:
    target, about = built
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert build(target, QUICK, 0, 1) == about
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_folder_of_another_recipe_is_refused(
    built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, _ = built
    with pytest.raises(InputError, match=r"was made with seed 0, not with 7: name another folder"):
        build(target, QUICK, 7, 1)
    found = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: {**found, "espeak-ng": "9.9"})
    with pytest.raises(InputError, match=r"was made with espeak-ng \S+, not with 9\.9"):
        build(target, QUICK, 0, 1)


def test_begun_folders_are_compared_too(tmp_path: Path) -> None:
    assert folder.begin(tmp_path / "bed", {"seed": 0})
    assert folder.begin(tmp_path / "bed", {"seed": 0})
    with pytest.raises(InputError, match=r"the test bed in \S+/bed was begun with seed 0, not with 1"):
        folder.begin(tmp_path / "bed", {"seed": 1})
    (tmp_path / "bed" / folder.ABOUT).write_text("[]")
    with pytest.raises(InputError, match=r"about.json is damaged"):
        folder.begin(tmp_path / "bed", {"seed": 0})


def command_fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with status 2."""
    assert main(["train", "demo-data", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_folder_that_holds_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    message = command_fails(capsys, "--quick", "--out", str(tmp_path))
    assert f"{tmp_path} is not empty, and holds no test bed: name another folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("place", ["/proc/nowhere/bed", "{file}/bed", "{file}"])
def test_a_place_that_cannot_be_written(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    message = command_fails(capsys, "--quick", "--out", place.format(file=tmp_path / "file"))
    assert "cannot be written" in message
    assert "name another folder" in message


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--voices", "0"], ["--workers", "none"], []])
def test_usage_is_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "bed")] if arguments else []
    assert main(["train", "demo-data", *arguments, *out]) == 2
    assert "sayclip train demo-data" in capsys.readouterr().err
    assert not (tmp_path / "bed").exists()


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, path in versions.DEBIAN.items():
        monkeypatch.setitem(versions.DEBIAN, package, tmp_path / "nothing")
        with pytest.raises(MissingDependencyError, match=f"nothing is missing: apt-get install {package}"):
            versions.check()
        monkeypatch.setitem(versions.DEBIAN, package, path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt-get install flite"):
        versions.check()


@pytest.mark.parametrize(
    ("work", "arguments", "error", "message"),
    [
        (languages.names, ([], "xx"), InputError, r"xx.xml is missing.*: apt-get install unicode-cldr-core"),
        (Path.write_bytes, (Path("/proc/nowhere"), b""), InputError, "/proc/nowhere cannot be written"),
        (os._exit, (3,), RuntimeError, "a process ended with status 3"),
        (operator.getitem, ({}, "nothing"), RuntimeError, "KeyError: 'nothing'"),
    ],
)
def test_a_part_that_fails_says_why_and_leaves_nothing(
    work: Callable[..., Any], arguments: tuple[Any, ...], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        parts.run([Part("good", len, ("four",)), Part("bad", work, arguments)], tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["good.json"]
    assert parts.run([Part("good", len, ("other",))], tmp_path, 1) == [4], "what is there is not done again"


def test_an_interrupted_build_says_so_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "bed"
    command = [sys.executable, "-m", "sayclip", "train", "demo-data", "--quick", "--out", str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 120
    while not (target / folder.PARTS / "homophones.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the parts' processes too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "sayclip: interrupted; what was stored is kept"
    assert "Traceback" not in err
