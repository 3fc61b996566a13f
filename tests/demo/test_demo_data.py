"""The demo's data as it is committed: pictures with their captions and licence, recordings, and a bundle that fits."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import wave
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "sayclip_demo"
PICTURES, QUERIES, BUNDLE = DATA / "pictures", DATA / "queries", DATA / "bundle"
NEWEST_IR_VERSION = 10  # what ONNX Runtime 1.18 reads, the oldest that the runtime accepts


def table(path: Path) -> list[list[str]]:
    """The cells of a tab-separated file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def captions() -> list[list[str]]:
    """``captions.tsv`` without its header."""
    header, *rows = table(PICTURES / "captions.tsv")
    assert header == ["file", "name", "keywords"]
    return rows


def recordings() -> list[list[str]]:
    """``queries.tsv`` without its header."""
    return [row for row in table(QUERIES / "queries.tsv") if row[0] != "file"]


def test_every_picture_has_one_caption_and_every_caption_a_picture() -> None:
    rows = captions()
    assert all(len(row) == 3 for row in rows)
    assert Counter(row[0] for row in rows) == Counter(path.name for path in PICTURES.glob("*.webp"))
    assert len(rows) >= 1500


def test_names_are_distinct_and_keywords_are_words() -> None:
    rows = captions()
    names = [row[1] for row in rows]
    assert len(set(names)) == len(names)
    assert all(name == name.strip() and name for name in names)
    for _, name, keywords in rows:
        words = keywords.split("|") if keywords else []
        assert all(word == word.strip() and word for word in words), name
        assert len(set(words)) == len(words), name
    assert sum(bool(row[2]) for row in rows) > 0.9 * len(rows)


def test_pictures_are_small_squares_that_differ() -> None:
    names = {row[0]: row[1] for row in captions()}
    seen: dict[str, str] = {}
    for path in sorted(PICTURES.glob("*.webp")):
        with Image.open(path) as picture:
            assert picture.size == (96, 96), path.name
            assert max(high - low for low, high in picture.convert("RGB").getextrema()) > 60, f"{path.name} is blank"
        name, digest = names[path.name], hashlib.sha256(path.read_bytes()).hexdigest()
        twin = seen.setdefault(digest, name)
        # The font draws "family" with the glyph of one particular family.
        assert twin == name or all("family" in n for n in (twin, name)), f"{twin} and {name} are the same picture"


def test_licence_and_attribution_lie_beside_the_pictures() -> None:
    licence = (PICTURES / "LICENSE-OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    assert "UNICODE, INC." in (PICTURES / "LICENSE-UNICODE.txt").read_text(encoding="utf-8")
    about = (PICTURES / "README.md").read_text(encoding="utf-8")
    for word in ("Noto Color Emoji", "Google", "OFL", "Unicode", "CLDR"):
        assert word in about, f"pictures/README.md does not name {word}"


def test_spoken_queries_are_16_khz_mono_and_hold_sound() -> None:
    rows = recordings()
    assert len(rows) >= 8
    assert Counter(row[0] for row in rows) == Counter(path.name for path in QUERIES.glob("*.wav"))
    for name, said in ((row[0], row[1]) for row in rows):
        assert said.strip(), name
        with wave.open(str(QUERIES / name), "rb") as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2), name
            assert 0.3 <= file.getnframes() / 16000 <= 10, name
            frames = memoryview(file.readframes(file.getnframes())).cast("h")
        assert 3000 < max(map(abs, frames)) < 32767, f"{name} is too quiet or clipped"


def test_most_spoken_queries_name_a_picture() -> None:
    names = {row[1] for row in captions()}
    said = [row[1] for row in recordings()]
    assert sum(words in names for words in said) >= 8


def test_the_bundle_is_small_and_whole() -> None:
    files = [path for path in BUNDLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    manifest = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    assert set(manifest["encoders"]) == {"image", "text", "pronunciation", "speech"}
    assert {entry["space"] for entry in manifest["encoders"].values()} == {manifest["space"]}
    assert "emoji" in manifest["notice"]
    assert "sayclip export" in manifest["notice"]
    for name, entry in manifest["encoders"].items():
        assert {"fp32", "int8", "int8-u8"} <= set(entry["graphs"]), name
    named = set(_files_named_in(manifest))
    assert named | {"bundle.json"} == {path.relative_to(BUNDLE).as_posix() for path in files}


def _files_named_in(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["file"]] if isinstance(value.get("file"), str) and "sha256" in value else []
        return own + [name for inner in value.values() for name in _files_named_in(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in _files_named_in(inner)]
    return []


def test_graphs_are_readable_by_the_oldest_onnx_runtime() -> None:
    """A ModelProto begins with its ir_version: field 1, a varint."""
    graphs = sorted(BUNDLE.glob("*.onnx"))
    assert graphs
    for graph in graphs:
        with graph.open("rb") as file:
            tag, version = file.read(2)
        assert tag == 0x08, f"{graph.name} does not begin with its ir_version"
        assert version <= NEWEST_IR_VERSION, f"{graph.name} has ir_version {version}"


def test_the_checked_out_tree_is_under_32_mb() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert sum(path.lstat().st_size for path in paths if path.exists()) < 32_000_000


def test_nothing_of_the_demo_is_ignored_by_git() -> None:
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "demo/sayclip_demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if ignored.returncode:
        pytest.skip("not a git checkout")
    assert [line for line in ignored.stdout.splitlines() if "__pycache__" not in line] == []
