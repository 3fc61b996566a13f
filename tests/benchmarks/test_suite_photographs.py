"""`sayclip bench --photographs`: what is measured, what is refused, and when the figures hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sayclip.cli.main import main
from sayclip_benchmarks.report.document import check
from sayclip_benchmarks.report.markdown import markdown
from sayclip_benchmarks.suite.figures import figures
from sayclip_benchmarks.suite.photographs import compare

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"


def photograph(path: Path, width: int, height: int, seed: int) -> None:
    """Shades that change slowly, an edge and grain, as a camera's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 40, width // 40, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = pixels + rng.normal(0, 4, (height, width, 1))
    pixels[height // 3 : height // 2] *= 0.5
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=92)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("photographs")
    (found / "deeper").mkdir()
    for number in range(3):
        photograph(found / "deeper" / f"large{number}.JPG", 2000, 1500, number)
    photograph(found / "small.jpeg", 120, 90, 9)
    (found / "broken.jpg").write_bytes(b"no picture")
    (found / "note.txt").write_text("no picture either")
    return found


def run(folder: Path, out: Path) -> int:
    words = ["bench", str(DEMO / "bundle"), "--demo", str(DEMO), "--quick", "--no-cold", "--turns", "2"]
    words += ["--vectors", "200", "--minimum-seconds", "0", "--work", str(out / "work"), "--encoder", "search"]
    return main([*words, "--photographs", str(folder), "--out", str(out / "seen")])


def test_photographs_stand_in_the_results(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path) == 0
    document = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    seen = document["photographs"]
    assert seen["status"] == "ok"
    assert (seen["pictures"], seen["shrunk"], seen["unreadable"]) == (5, 3, ["broken.jpg"])
    assert seen["megapixels"] == 3.0
    assert seen["bundle"] == "sayclip-demo-emoji"
    assert 0 < seen["mean_difference"] <= seen["worst_difference"] < 1.0
    assert 0.999 < seen["worst_cosine"] <= seen["cosine"] < 1.0
    assert {key: seen[key] for key in seen if key not in ("status", "why", "bundle")} == compare(
        folder, DEMO / "bundle"
    )
    page = (tmp_path / "seen.md").read_text(encoding="utf-8")
    assert "## Photographs" in page
    assert "| 5 | 3 | 3.0 |" in page
    assert "| missed |" in page, "three are too few to say anything"


def test_none_that_is_large_enough_is_said_and_the_rest_is_kept(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    photograph(few / "small.jpg", 120, 90, 9)
    assert run(few, tmp_path) == 0
    document = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert document["photographs"]["status"] == "failed"
    assert "none of the 1 JPEGs" in document["photographs"]["why"]
    assert any(row["status"] == "ok" for row in document["rows"])
    assert "none of the 1 JPEGs" in (tmp_path / "seen.md").read_text(encoding="utf-8")


def test_what_cannot_be_used_is_refused_before_anything_is_timed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "nowhere", folder / "note.txt"):
        assert run(wrong, tmp_path) == 2
        said = capsys.readouterr().err.strip()
        assert f"{wrong} holds no JPEG" in said
        assert "\n" not in said
    assert not (tmp_path / "work").exists()


def seen(**more: Any) -> dict[str, Any]:
    found = {"status": "ok", "why": "", "bundle": "b", "pictures": 40, "shrunk": 37, "size": 224, "megapixels": 6.3}
    found |= {"mean_difference": 0.19, "worst_difference": 0.76, "cosine": 1.0, "worst_cosine": 0.9999}
    return {**found, "unreadable": [], **more}


@pytest.mark.parametrize(
    ("more", "holds"),
    [
        ({}, ["holds", "holds"]),
        ({"worst_difference": 1.01}, ["missed", "holds"]),
        ({"worst_cosine": 0.9989}, ["holds", "missed"]),
        ({"shrunk": 19}, ["missed", "missed"]),
        ({"cosine": None, "worst_cosine": None}, ["holds"]),
        ({"status": "failed"}, []),
    ],
)
def test_figures_are_those_of_the_worst_of_enough(more: dict[str, Any], holds: list[str]) -> None:
    assert [row[3] for row in figures({"rows": [], "photographs": seen(**more)})] == holds


def test_results_with_photographs_are_checked(results: Any) -> None:
    document = results() | {"photographs": seen(unreadable=["a|b.jpg"])}
    check(document)
    assert r"a\|b.jpg" in markdown(document)
    check(results() | {"photographs": None})
    for wrong in (seen(shrunk=-1), seen(unreadable=[3]), {"status": "ok", "why": ""}, seen(worst_cosine="1")):
        with pytest.raises(Exception, match="photographs"):
            check(results() | {"photographs": wrong})
