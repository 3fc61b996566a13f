"""`sayclip train speech`: every head from pairs to a bundle that searches and explains; stopped, resumed, refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import sayclip
from sayclip.cli.main import main
from sayclip_training import loop
from sayclip_training.demo_data import names
from sayclip_training.demo_data.pictures import FONT
from sayclip_training.heads import recipe
from sayclip_training.heads.settings import Settings

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
HAVE = (
    *(FONT.exists(), names.EMOJI_TEST.exists(), names.CLDR.exists(), shutil.which("flite") is not None),
    importlib.util.find_spec("phonemizer") is not None,
)
pytestmark = pytest.mark.skipif(not all(HAVE) and "CI" not in os.environ, reason="Debian's data, flite, phonemizer")
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, quick_testbed: tuple[Path, dict[str, Any]], kept: Path
) -> Train:
    """``train("--steps", 3)``: status, stdout and stderr of ``sayclip train speech`` on the small test bed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        given = list(map(str, arguments))
        pairs, out = quick_testbed[0] / "speech.tsv", tmp_path / "head.safetensors"
        for name, value in {
            "--pairs": pairs, "--clip": DEMO, "--out": out, "--cache": kept, "--steps": 3, "--batch": 12,
        }.items():  # fmt: skip
            if name not in given:
                given += [name, str(value)]
        capsys.readouterr()
        status = main(["train", "speech", *given])
        printed, err = capsys.readouterr()
        return status, printed, err

    return call


def _measured(printed: str, head: str) -> None:
    """The measures that a head of this kind has, all of them shares."""
    measures = json.loads(printed)["measures"]
    assert "voice" in measures
    for found in measures.values():
        assert ("hit_rate" in found) == (head != "parallel")
        assert ("f1" in found) == (head in ("cif", "segmental"))
        assert all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize("options", [("cascaded",), ("hybrid",), ("segmental", "--vocabulary", "regularise")])
def test_every_head_trains(options: tuple[str, ...], train: Train) -> None:
    status, printed, err = train("--head", *options, "--json")
    assert status == 0, err
    _measured(printed, options[0])


@pytest.mark.parametrize(
    "options",
    [("parallel",), ("cif", "--audio-only"), ("segmental", "--vocabulary", "quantise", "--detector", "16")],
)
def test_what_is_trained_joins_a_bundle_searches_and_explains(
    options: tuple[str, ...], train: Train, tmp_path: Path, quick_testbed: tuple[Path, dict[str, Any]]
) -> None:
    status, printed, err = train("--head", *options, "--json")
    assert status == 0, err
    _measured(printed, options[0])
    bundle = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    assert main(["export", "head", str(tmp_path / "head.safetensors"), "--out", str(bundle)]) == 0
    recording = next((quick_testbed[0] / "speech").glob("scene-*"))
    with sayclip.load(bundle) as encoder:
        assert np.linalg.norm(encoder.speech(recording)) == pytest.approx(1, abs=1e-4)
        if options[0] != "parallel":
            (heard,) = encoder.explain([recording])
            assert heard.units[0].start_s == 0
            assert heard.units[-1].end_s == pytest.approx(soundfile.info(recording).duration, abs=0.05)


def test_it_learns(train: Train, tmp_path: Path) -> None:
    status, printed, err = train("--head", "parallel", "--steps", 60, "--rate", 0.003, "--json")
    assert status == 0, err
    rows = list(csv.DictReader((tmp_path / "head.work" / "speech.csv").open()))
    losses = [float(row["value"]) for row in rows if row["measure"] == "parallel"]
    assert losses[-1] < 0.6 * losses[0]
    heard = json.loads(printed)["measures"]["voice"]
    assert heard["parallel_r10"] > 0.4, "of 60 pictures"


def test_a_stopped_run_ends_where_an_unbroken_one_does(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.safetensors"
    assert train("--out", whole, "--steps", 6)[0] == 0
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    steps = iter(range(100))

    def stop(*arguments: Any) -> Any:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return losses(*arguments)

    losses = recipe.Learner.losses
    monkeypatch.setattr(recipe.Learner, "losses", stop)
    stopped = tmp_path / "stopped.safetensors"
    with pytest.raises(KeyboardInterrupt):
        main_of(train, stopped)
    monkeypatch.setattr(recipe.Learner, "losses", losses)
    assert train("--out", stopped, "--steps", 6)[0] == 0
    one, other = load_file(whole), load_file(stopped)
    assert all(torch.equal(one[name], other[name]) for name in one)


def main_of(train: Train, out: Path) -> None:
    status, _, err = train("--out", out, "--steps", 6)
    if status == 130 or "interrupted" in err.casefold():
        raise KeyboardInterrupt
    raise AssertionError(f"{status}: {err}")


def test_a_loss_that_is_no_number_names_its_batch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = recipe.Learner.losses

    def broken(*arguments: Any) -> Any:
        parts, heard = losses(*arguments)
        return {name: part * float("nan") for name, part in parts.items()}, heard

    monkeypatch.setattr(recipe.Learner, "losses", broken)
    status, _, err = train()
    assert status != 0
    assert "the batch of speech/" in err
    assert len(err.strip().splitlines()[-1]) < 400


def test_a_folder_of_another_run_is_refused(train: Train) -> None:
    assert train("--steps", 2)[0] == 0
    status, _, err = train("--steps", 2, "--threshold", 0.2)
    assert status != 0
    assert "holds a run with threshold 0.05, this one has 0.2: name another folder with --work" in err


def test_recordings_that_cannot_be_heard_and_missing_files_are_left_out_and_counted(
    train: Train, tmp_path: Path, quick_testbed: tuple[Path, dict[str, Any]]
) -> None:
    bed = tmp_path / "bed"
    bed.mkdir()
    lines = (quick_testbed[0] / "speech.tsv").read_text(encoding="utf-8").splitlines()[:30]
    for folder in ("pictures", "scenes", "speech"):
        (bed / folder).symlink_to(quick_testbed[0] / folder)
    soundfile.write(bed / "silence.wav", np.zeros(16000, np.float32), 16000)
    soundfile.write(bed / "short.wav", np.full(400, 0.1, np.float32), 16000)
    (bed / "broken.wav").write_bytes(b"RIFF0000WAVE")
    picture = lines[1].split("\t")[-1]
    for name in ("silence.wav", "short.wav", "broken.wav", "gone.wav"):
        lines.append("\t".join([name, "x", "v", "train", "[]", picture]))
    (bed / "speech.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    status, _, err = train("--pairs", bed / "speech.tsv", "--cache", tmp_path / "own")
    assert status == 0, err
    assert "1 files are missing, their pairs are left out: gone.wav" in err
    assert "3 recordings cannot be heard and are left out: silence.wav" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "cif", "--vocabulary", "quantise"], "vocabulary is 'quantise' for a cif head"),
        (["--rate", "0"], "rate is 0"),
        (["--batch", "1"], "batch is 1"),
        (["--slots", "76"], "slots is 76, wanted 1 to"),
        (["--out", "head.bin"], "give it a name that ends in .safetensors"),
        (["--pairs", "nowhere.tsv"], "the pairs nowhere.tsv cannot be read"),
        (["--speech", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_refused_in_a_line(options: list[str], message: str, train: Train) -> None:
    status, _, err = train(*options)
    assert status != 0
    assert message in err
    assert "Traceback" not in err


def test_settings_have_the_defaults_of_the_command(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stop(material: Any, settings: Settings, work: Path) -> Any:
        seen.append(settings)
        raise sayclip.InputError("enough", "stop")

    monkeypatch.setattr(recipe, "train_head", stop)
    train("--steps", 3000, "--batch", 128)
    assert seen == [Settings()]
