"""`sayclip train claims pronunciation`: an experiment from end to end on a small test bed, and the published page."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sayclip.cli.main import main
from sayclip.library.sounds_like import SOUND_SHARE, factors
from sayclip_training.claims import results
from sayclip_training.claims.pronunciation import page
from sayclip_training.claims.pronunciation.arms import trials
from sayclip_training.claims.pronunciation.asking import CHOOSING, halved
from sayclip_training.claims.pronunciation.retrieval import EITHER, Bank, compare
from sayclip_training.claims.pronunciation.study import STUDY
from sayclip_training.claims.pronunciation.summary import KINDS, best_share, claims
from sayclip_training.claims.pronunciation.translations import CROSSED, VOICES, crossed, write_captions
from sayclip_training.claims.study import by_arm
from sayclip_training.claims.testbed import KEPT_OUT, LEARNT, Spelling, open_testbed
from sayclip_training.demo_data import names
from sayclip_training.demo_data.pictures import FONT
from sayclip_training.distillation.captions import read_captions

ROOT = Path(__file__).resolve().parents[3]
RESULTS, PAGE = ROOT / "training" / "results" / "pronunciation", ROOT / "docs" / "pronunciation.md"
HAVE = (
    *(FONT.exists(), names.EMOJI_TEST.exists(), names.CLDR.exists(), shutil.which("flite") is not None),
    importlib.util.find_spec("phonemizer") is not None,
)
needs_data = pytest.mark.skipif(not all(HAVE) and "CI" not in os.environ, reason="Debian's data, flite, phonemizer")


@pytest.fixture(scope="module")
def published() -> list[dict[str, Any]]:
    return results.read(STUDY, RESULTS)


@pytest.fixture(scope="module")
def performed(quick_testbed: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the main arm and of that with three languages: the folder of results, page and work."""
    made = tmp_path_factory.mktemp("claims")
    places = {
        "--data": quick_testbed[0],
        "--results": made / "results",
        "--page": made / "page.md",
        "--work": made / "w",
    }
    options = [str(part) for pair in places.items() for part in pair]
    arms = ["--arm", "chart", "--arm", "languages", "--seed", "0", "--steps", "2", "--workers", "2"]
    assert main(["train", "claims", "pronunciation", *options, *arms]) == 0
    return made


@needs_data
def test_an_experiment_leaves_one_small_json(performed: Path, quick_testbed: tuple[Path, dict[str, Any]]) -> None:
    assert {path.name for path in (performed / "results").iterdir()} == {"chart-0.json", "languages-0.json"}
    path = performed / "results" / "chart-0.json"
    assert path.stat().st_size < 30_000
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["arm"], found["seed"], found["settings"]["steps"]) == ("chart", 0, 2)
    testbed = open_testbed(quick_testbed[0])
    assert found["data"] == dict(testbed.sha256)
    counted = {part: ways["text"]["n"] for part, ways in found["retrieval"]["clean"].items()}
    learnt = testbed.parts.count(LEARNT)
    assert counted[LEARNT] + counted[CHOOSING] == learnt
    assert counted.get(KEPT_OUT, 0) == testbed.parts.count(KEPT_OUT)
    for kind in ("clean", "misspelt, 1 changed"):
        one, other = (found["int8"][kind][precision] for precision in ("fp32", "int8"))
        assert one["n"] == other["n"] > 0
    assert 0.5 < found["phonemes"]["chart"] <= 1, "the chart's embedding begins with its order"
    assert set(found["translations"]) == set(VOICES)


@needs_data
def test_the_page_and_its_pictures_come_from_the_jsons(performed: Path) -> None:
    text = (performed / "page.md").read_text(encoding="utf-8")
    for name in ("map", "found", "share"):
        assert f"(page-{name}.png)" in text
        with Image.open(performed / f"page-{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5, "something is drawn"
    assert "$" not in text
    again = performed / "again" / "page.md"
    again.parent.mkdir()
    page.write(results.read(STUDY, performed / "results"), again)
    assert again.read_text(encoding="utf-8") == text
    for name in ("map", "found", "share"):
        assert (again.parent / f"page-{name}.png").read_bytes() == (performed / f"page-{name}.png").read_bytes()


@needs_data
def test_what_is_done_is_not_done_again(
    performed: Path, quick_testbed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (performed / "results").iterdir()}
    options = [
        "--data",
        str(quick_testbed[0]),
        "--results",
        str(performed / "results"),
        "--arm",
        "chart",
        "--seed",
        "0",
    ]
    assert main(["train", "claims", "pronunciation", *options, "--page", str(performed / "other.md")]) == 0
    assert "0 experiments done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@needs_data
def test_each_language_but_english_lacks_other_names(
    quick_testbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    testbed = open_testbed(quick_testbed[0])
    files = [f"pictures/{number}.webp" for number in range(2000)]
    left_out = {language: {file for file in files if crossed(file, language)} for language in ("de", "fr")}
    assert not left_out["de"] & left_out["fr"]
    for some in left_out.values():
        assert 0.07 < len(some) / len(files) < 0.13
    path = write_captions(testbed, "de", tmp_path)
    both = read_captions([str(testbed.captions), f"{path},lang=de"])
    german = [caption for caption in both if caption.language == "de"]
    assert 30 < len(german) == len(testbed.named_in("de")) <= len(testbed.names)
    kept_out = {file for file, part in zip(testbed.files, testbed.parts, strict=True) if part != LEARNT}
    for caption in german:
        learns = caption.split == "train"
        assert learns == (caption.file not in kept_out and not crossed(caption.file, "de"))
        assert caption.read in testbed.names, "the teacher reads the English name"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "holds no finished test bed"),
        ([], "there is no result of the arm chart yet: name the test bed with --data"),
    ],
)
def test_bad_input(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--results", str(tmp_path / "r"), "--page", str(tmp_path / "p.md"), "--work", str(tmp_path / "w")]
    assert main(["train", "claims", "pronunciation", *options, *places]) != 0
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.md"))


@needs_data
def test_an_unknown_arm_and_a_changed_test_bed_are_refused(
    quick_testbed: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "r"), "--page", str(tmp_path / "p.md"), "--work", str(tmp_path / "w")]
    assert main(["train", "claims", "pronunciation", "--data", str(quick_testbed[0]), "--arm", "best", *places]) != 0
    assert "there is no arm 'best': name one of chart, random" in capsys.readouterr().err
    bed = tmp_path / "bed"
    bed.mkdir()
    for name in ("about.json", "words.json", "captions.tsv"):
        shutil.copy(quick_testbed[0] / name, bed / name)
    (bed / "words.json").write_text((bed / "words.json").read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert main(["train", "claims", "pronunciation", "--data", str(bed), *places]) != 0
    assert "words.json has sha256" in capsys.readouterr().err
    results = tmp_path / "r"
    results.mkdir()
    (results / "chart-0.json").write_text("{}", encoding="utf-8")
    assert main(["train", "claims", "pronunciation", *places]) != 0
    assert "chart-0.json is no result of this version: remove it" in capsys.readouterr().err


def test_both_readings_are_put_together_as_a_search_does() -> None:
    rng = np.random.default_rng(0)
    pictures, texts, sounds = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in rng.normal(size=(3, 30, 6))
    )
    bank = Bank(pictures, [np.array([row]) for row in range(30)])
    asked = [Spelling("", row, LEARNT) for row in range(30)]
    found = compare(bank, texts, sounds, asked)
    for share in (0.4, 0.5, 0.6):
        weights = factors(share)
        best = np.maximum(weights["text"] * texts @ pictures.T, weights["pronunciation"] * sounds @ pictures.T)
        wanted = [row in np.argsort(-best[row])[:10] for row in range(30)]
        assert found["either"][str(share)]["r10"] == round(np.mean(wanted), 4)
    assert found["sound"]["r1"] == round(np.mean((sounds @ pictures.T).argmax(1) == np.arange(30)), 4)


def test_halves_have_no_picture_in_common() -> None:
    asked = [Spelling("", row // 3, LEARNT if row % 5 else KEPT_OUT) for row in range(90)]
    made = halved(asked)
    pictures = {part: {one.picture for one in made if one.part == part} for part in (LEARNT, CHOOSING)}
    assert not pictures[LEARNT] & pictures[CHOOSING]
    assert [one.part == KEPT_OUT for one in made] == [one.part == KEPT_OUT for one in asked]


def test_the_published_page_is_what_the_published_jsons_give(published: list[dict[str, Any]], tmp_path: Path) -> None:
    page.write(published, tmp_path / PAGE.name)
    assert (tmp_path / PAGE.name).read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_every_arm_is_published_with_three_seeds_of_the_same_data(published: list[dict[str, Any]]) -> None:
    seeds = {arm: [one["seed"] for one in found] for arm, found in by_arm(published).items()}
    assert seeds == {arm: [0, 1, 2] for arm in trials()}
    assert len({json.dumps([one["data"], one["teacher"], one["g2p"]["version"]]) for one in published}) == 1
    for one in published:
        assert one["seconds"]["processor"] <= 360, "six minutes of one core at most"
        assert one["settings"]["steps"] == trials()[one["arm"]].settings.steps
        assert set(one["retrieval"]) == set(KINDS)


def test_the_default_share_is_the_measured_one(published: list[dict[str, Any]]) -> None:
    assert SOUND_SHARE in EITHER
    assert best_share(by_arm(published)["chart"]) == SOUND_SHARE


def test_claims_that_hold_go_on_holding(published: list[dict[str, Any]]) -> None:
    verdicts = {claim.what.split(":")[0]: claim.holds for claim in claims(by_arm(published))}
    assert len(verdicts) == 6
    assert sum(holds is None for holds in verdicts.values()) == 2, "two are reported without a bound"
    assert CROSSED in PAGE.read_text(encoding="utf-8")
