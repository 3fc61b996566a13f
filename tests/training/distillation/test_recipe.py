"""The whole recipe: captions and a CLIP in, a pronunciation encoder for its bundle out; stopped, resumed, refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.cli.main import main
from sayclip_export.readers.pronunciation import read_pronunciation
from sayclip_training import loop
from sayclip_training.distillation import recipe
from sayclip_training.distillation.recipe import distance

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
Train = Callable[..., tuple[int, str, str]]


def test_what_is_trained_joins_the_bundle_of_its_teacher(
    train: Train, captions: Path, tmp_path: Path, demo_bundle: Path
) -> None:
    status, printed, err = train("--captions", captions, "--steps", 6, "--json")
    assert status == 0, err
    document = json.loads(printed)
    assert set(document["measures"]) == {"cosine", "text_r1", "text_r10"}
    assert "the student begins with the teacher's weights" in err
    assert "26 captions to learn and 4 held out, of 30" in err
    out = tmp_path / "out.safetensors"
    checkpoint = read_pronunciation(out)
    assert checkpoint.space == Manifest.read(DEMO).space
    assert (checkpoint.g2p.name, checkpoint.g2p.languages) == ("espeak-ng", ("en-us",))
    assert json.loads(checkpoint.history)["settings"]["steps"] == 6
    assert main(["export", "pronunciation", str(out), "--out", str(demo_bundle)]) == 0
    provenance = Manifest.read(demo_bundle).entry("pronunciation").provenance
    assert provenance["chart_sha256"] == checkpoint.phonemes["chart_sha256"]
    with sayclip.load(demo_bundle) as encoder:
        row = encoder.pronunciation(words="red apple")
        assert np.abs(row - encoder.pronunciation("ɹɛd æpəl")).max() == 0
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-4)


def test_it_learns(train: Train, captions: Path, tmp_path: Path) -> None:
    """Thirty captions are soon known by heart: their pronunciations find the teacher's reading of them."""
    status, printed, err = train("--captions", captions, "--steps", 120, "--batch", 26, "--noise", 0, "--json")
    assert status == 0, err
    rows = list(csv.DictReader((tmp_path / "out.work" / "pronunciation.csv").open()))
    losses = [float(row["value"]) for row in rows if row["measure"] == "loss"]
    assert losses[-1] < 0.35 * losses[0]
    cosines = {int(row["step"]): float(row["value"]) for row in rows if row["measure"] == "cosine"}
    assert sorted(cosines) == list(range(12, 121, 12)), "evaluated while it is trained"
    assert json.loads(printed)["measures"]["cosine"] == pytest.approx(cosines[120], abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ("--embedding", "random"),
        ("--no-residual",),
        ("--loss", "mse", "--noise", "0.3", "--dropout", "0.1"),
        ("--stress", "--length", "--language", "en-us", "--language", "de"),
    ],
)
def test_every_arm_trains_and_exports(options: tuple[str, ...], train: Train, captions: Path, tmp_path: Path) -> None:
    status, _, err = train("--captions", captions, "--steps", 2, *options)
    assert status == 0, err
    out, bundle = tmp_path / "out.safetensors", tmp_path / "bundle"
    assert main(["export", "pronunciation", str(out), "--out", str(bundle)]) == 0
    with sayclip.load(bundle) as encoder:
        assert encoder.pronunciation(words=["red apple", "tree"]).shape == (2, 128)
        if "de" in options:
            german, english = encoder.pronunciation(words="Zeit", language="de"), encoder.pronunciation(words="Zeit")
            assert np.abs(german - encoder.pronunciation("tsˈaɪt")).max() == 0
            assert np.abs(german - english).max() > 0
            assert np.abs(encoder.pronunciation("tˈɑːt") - encoder.pronunciation("tˈɑt")).max() > 0
            with pytest.raises(sayclip.InputError, match="language is 'fr-fr', the pronunciation encoder was"):
                encoder.pronunciation(words="vin", language="fr-fr")


def test_a_published_clip_is_taught_from_and_keeps_its_space(
    published_clip: Path, train: Train, captions: Path, tmp_path: Path
) -> None:
    status, _, err = train("--captions", captions, "--clip", published_clip, "--steps", 2)
    assert status == 0, err
    checkpoint = read_pronunciation(tmp_path / "out.safetensors")
    assert checkpoint.tower.config.activation == "gelu"
    assert checkpoint.space.startswith("clip-")
    bundle = tmp_path / "bundle"
    assert main(["export", "clip", str(published_clip), "--out", str(bundle)]) == 0
    assert main(["export", "pronunciation", str(tmp_path / "out.safetensors"), "--out", str(bundle)]) == 0
    with sayclip.load(bundle) as encoder:
        assert set(encoder.names) == {"image", "text", "pronunciation"}


def test_a_graph_of_unknown_make_is_taught_from_too(tiny_bundle: Path, train: Train, captions: Path) -> None:
    for loss in ("mse", "cosine"):
        status, _, err = train("--captions", captions, "--clip", tiny_bundle, "--steps", 2, "--loss", loss)
        assert status == 0, err
        assert "so the student begins at random: 3 layers" in err
        (captions.parent / "out.work" / "pronunciation.state.pt").unlink()


def test_several_languages_and_pictures(train: Train, tmp_path: Path) -> None:
    names = {"en": ("apple", "car", "cat", "tree"), "de": ("Apfel", "Auto", "Katze", "Baum")}
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    for language, words in names.items():
        rows = "".join(f"pictures/{i}.png\t{word}\ttrain\n" for i, word in enumerate(words))
        (tmp_path / f"{language}.tsv").write_text("file\tname\tsplit\n" + rows, encoding="utf-8")
    files = [part for name in names for part in ("--captions", f"{tmp_path / name}.tsv,lang={name}")]
    status, printed, err = train(*files, "--pictures", tmp_path, "--json")
    assert status == 0, err
    measures = json.loads(printed)["measures"]
    wanted = {"cosine", "text_r1", "text_r10", "picture_r1", "picture_r10", "cosine_en-us", "cosine_de", "r10_en-us"}
    assert wanted | {"r10_de", "teacher_picture_r1", "teacher_picture_r10"} == set(measures)
    assert measures["picture_r10"] == 1.0, "there are but four"
    assert read_pronunciation(tmp_path / "out.safetensors").g2p.languages == ("en-us", "de")
    (tmp_path / "pictures" / "2.png").unlink()
    assert "2.png is not there" in train(*files, "--pictures", tmp_path)[2]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(str(path)))


def test_a_stopped_run_ends_where_an_unbroken_one_does(
    train: Train, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--captions", captions, "--steps", 12, "--dropout", 0.2, "--cache", tmp_path / "cache")
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    assert train(*options, "--out", whole)[0] == 0
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    real, calls = recipe.with_noise, []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(recipe, "with_noise", stopping)
    status, _, err = train(*options, "--out", broken)
    assert (status, err.splitlines()[-1]) == (130, "sayclip: interrupted; what was stored is kept")
    assert not broken.exists()
    asked = []
    monkeypatch.setattr(recipe, "_answers", lambda *a, made=recipe._answers: asked.append(a) or made(*a))
    assert train(*options, "--out", broken)[0] == 0
    assert len(calls) == 8 + 5, "seven steps were kept"
    one, other = weights(whole), weights(broken)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert train(*options, "--out", broken)[0] == 0
    assert len(calls) == 13, "a finished run is not trained again"


def test_what_the_teacher_says_is_kept(
    train: Train, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert train("--captions", captions, "--cache", cache)[0] == 0
    files = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert {name.partition("-")[0] for name in files} == {"ipa", "teacher"}

    def silent(*_: Any) -> Any:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr("sayclip_training.distillation.teacher.pad_tokens", silent)
    other = tmp_path / "other.safetensors"
    assert train("--captions", captions, "--cache", cache, "--out", other, "--seed", 1)[0] == 0
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == files
    assert not torch.equal(*(weights(p)["phonemes.residual"] for p in (other, tmp_path / "out.safetensors")))


def test_a_folder_of_another_run_is_refused(train: Train, captions: Path, tmp_path: Path, published_clip: Path) -> None:
    assert train("--captions", captions)[0] == 0
    work = tmp_path / "out.work"
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    for option, seen in (
        (("--noise", "0.3"), "holds a run with noise 0.1, this one has 0.3"),
        (("--embedding", "random"), "holds a run with embedding chart, this one has random"),
        (("--seed", "5"), "holds a run with seed 0, this one has 5"),
        (("--stress",), "holds a run with stress False, this one has True"),
        (("--clip", published_clip), "holds a run with teacher sayclip-demo-emoji, this one has tiny-clip"),
    ):
        status, _, err = train("--captions", captions, *option)
        assert status == 2
        assert seen in err
        assert err.count("sayclip:") == 1
    manifest = json.loads((work / "run.json").read_text())
    (work / "run.json").write_text(json.dumps({**manifest, "width": 512}))
    assert "holds a run with width 512, this one has 128" in train("--captions", captions)[2]
    (work / "run.json").write_bytes(before["run.json"])
    (work / "phonemes.json").write_text((work / "phonemes.json").read_text().replace("0.85", "0.8"))
    status, _, err = train("--captions", captions)
    assert status == 2
    assert "phonemes.json has sha256" in err
    (work / "phonemes.json").write_bytes(before["phonemes.json"])
    assert all((work / name).read_bytes() == content for name, content in before.items()), "and left as it was"
    assert not list(work.glob("*.new"))
    (work / "pronunciation.state.pt").write_bytes(b"PK\x03\x04")
    status, _, err = train("--captions", captions)
    assert status == 2
    assert "pronunciation.state.pt is damaged" in err


def test_a_loss_that_is_no_number_names_its_batch(
    train: Train, captions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recipe.distance

    def poisoned(given: torch.Tensor, *rest: Any) -> torch.Tensor:
        return real(given * float("nan"), *rest)

    monkeypatch.setattr(recipe, "distance", poisoned)
    status, _, err = train("--captions", captions)
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("sayclip: loss is nan at step 1, in the batch of ")
    assert f"{captions}, line " in last


BAD: dict[str, tuple[str, tuple[str, ...], str]] = {
    "empty": ("", (), "there is no caption in it"),
    "nothing to say": ("!\n?\n", (), "no caption holds anything to say, such as '!'"),
    "nothing to train on": ("caption\tsplit\napple\tvalidation\n", (), "no caption is in the split train"),
    "an unknown language": ("apple\n", ("--language", "xx"), "espeak-ng has no language 'xx'"),
    "no bundle": ("apple\n", ("--clip", "/nowhere"), "/nowhere does not exist"),
    "noise": ("apple\n", ("--noise", "2"), "'2' is not a number from 0 to 1"),
    "no steps": ("apple\n", ("--steps", "0"), "'0' is not a whole number of at least 1"),
    "another ending": ("apple\n", ("--out", "x.bin"), "give it a name that ends in .safetensors"),
    "no residual": ("apple\n", ("--embedding", "random", "--no-residual"), "no residual to leave out"),
    "no folder": ("apple\n", ("--out", "/nowhere/x.safetensors"), "in one that is not there"),
    "no pictures": ("apple\n", ("--pictures", "."), "no caption names its picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_a_line(case: str, train: Train, tmp_path: Path) -> None:
    text, options, message = BAD[case]
    path = tmp_path / "captions.txt"
    path.write_text(text, encoding="utf-8")
    status, out, err = train("--captions", path, *options)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert not list(tmp_path.glob("*.safetensors"))


def test_captions_that_say_nothing_are_left_out_and_counted(train: Train, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("red apple\n!\nblue car\n", encoding="utf-8")
    status, _, err = train("--captions", path)
    assert status == 0, err
    assert f"1 captions hold nothing to say and are left out, such as {path}, line 2" in err


def test_distances() -> None:
    given, wanted = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert distance(given, wanted, "cosine", True).item() == pytest.approx(0.5)
    assert distance(given, wanted, "mse", False).item() == pytest.approx((4 + 0 + 1 + 4) / 4)
    assert distance(given, wanted, "mse", True).item() == pytest.approx((0 + 0 + 1 + 1) / 4)
