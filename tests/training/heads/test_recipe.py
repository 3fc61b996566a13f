"""`sayclip train speech`: every head from pairs to a bundle that searches and explains; stopped, resumed, refused."""

from __future__ import annotations

import csv
import json
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
from sayclip_training.heads import recipe
from sayclip_training.heads.settings import Settings

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
Train = Callable[..., tuple[int, str, str]]


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
    options: tuple[str, ...], train: Train, tmp_path: Path, bed: Path
) -> None:
    status, printed, err = train("--head", *options, "--json")
    assert status == 0, err
    _measured(printed, options[0])
    bundle = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    assert main(["export", "head", str(tmp_path / "head.safetensors"), "--out", str(bundle)]) == 0
    recording = next((bed / "speech").glob("scene-*"))
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


def test_a_stopped_run_ends_where_an_unbroken_one_does(train: Train, stopped: Train, tmp_path: Path) -> None:
    files = [tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"]
    for call, file in zip((train, stopped), files, strict=True):
        assert call("--out", file, "--steps", 6)[0] == 0
    one, other = map(load_file, files)
    assert all(torch.equal(one[name], other[name]) for name in one)


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
    assert "holds a run with threshold None, this one has 0.2: name another folder with --work" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "cif", "--vocabulary", "quantise"], "vocabulary is 'quantise' for a cif head"),
        (["--rate", "0"], "rate is 0"),
        (["--batch", "1"], "batch is 1"),
        (["--detector", "9000"], "detector is 9000, wanted at most 8192"),
        (["--head", "parallel", "--hidden", "9000"], "hidden is 9000, wanted at most 8192"),
        (["--layers", "200"], "layers is 200, wanted at most 128"),
        (["--unit-seconds", "nan"], "a unit is to take nan s"),
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
