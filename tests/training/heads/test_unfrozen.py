"""`sayclip train speech --unfreeze`: the speech encoder learns too, is heard through, resumed, written and exported."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sayclip
from sayclip.cli.main import main
from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip_export.models.segmental.encoder import frames_alone
from sayclip_export.readers.speech_head import read_speech_head
from sayclip_training.heads import recipe
from sayclip_training.heads.features import LiveFeatures
from sayclip_training.heads.listener import Listener, open_listener
from sayclip_training.heads.settings import Settings

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
Train = Callable[..., tuple[int, str, str]]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def listener() -> Listener:
    return open_listener(str(DEMO))


def _tower(file: Path) -> State:
    """The speech encoder's weights in the file of a trained head."""
    return {k.removeprefix("tower."): v for k, v in load_file(file).items() if k.startswith("tower.")}


def _waves(bed: Path, names: list[str]) -> list[np.ndarray]:
    return [read_audio(bed / name, AudioSettings()) for name in names]


def test_the_speech_encoder_learns_only_where_it_is_told_to(train: Train, tmp_path: Path, listener: Listener) -> None:
    start = frames_alone(listener.tower).state_dict()
    assert train("--head", "parallel")[0] == 0
    frozen = _tower(tmp_path / "head.safetensors")
    assert frozen.keys() == start.keys()
    assert all(torch.equal(frozen[name], start[name]) for name in start)

    learnt = tmp_path / "learnt.safetensors"
    status, _, err = train("--head", "parallel", "--unfreeze", "--steps", 30, "--rate", 0.003, "--out", learnt)
    assert status == 0, err
    moved = {name: float((value - start[name]).abs().max()) for name, value in _tower(learnt).items()}
    assert moved.keys() == start.keys()
    assert min(moved.values()) > 0
    assert max(moved.values()) < 30 * 0.003 * 0.15, "AdamW moves a weight by about its learning rate a step, a tenth"
    rows = list(csv.DictReader((tmp_path / "learnt.work" / "speech.csv").open()))
    losses = [float(row["value"]) for row in rows if row["measure"] == "parallel"]
    assert losses[-1] < 0.5 * losses[0]
    assert any(row["measure"] == "parallel_r10" for row in rows)


@pytest.mark.parametrize("options", [("segmental", "--detector", "16"), ("cif", "--audio-only")])
def test_a_stopped_run_ends_where_an_unbroken_one_does(
    options: tuple[str, ...], train: Train, stopped: Train, tmp_path: Path
) -> None:
    files = [tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"]
    for call, file in zip((train, stopped), files, strict=True):
        status, _, err = call("--unfreeze", "--head", *options, "--out", file, "--steps", 6, "--rate", 0.01)
        assert status == 0, err
    one, other = map(load_file, files)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_exported_hears_as_torch_does(train: Train, tmp_path: Path, bed: Path) -> None:
    raw = ("--detector", 0, "--threshold", 0.05)  # as a net that learnt hardly anything finds nothing
    assert train("--unfreeze", "--steps", 8, "--rate", 0.01, *raw)[0] == 0
    file, bundle = tmp_path / "head.safetensors", Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    assert main(["export", "head", str(file), "--out", str(bundle)]) == 0
    speech = read_speech_head(file).speech
    names = sorted((bed / "speech").glob("scene-*"))[:6]
    with sayclip.load(bundle, backend="onnxruntime", precision="fp32") as encoder:
        feed = encoder._preparation.speech_feeds(encoder._preparation.recordings(None, names))
        with torch.inference_mode():
            wanted = dict(zip(speech.outputs, speech(*map(torch.from_numpy, feed.values())), strict=True))
        embeddings, heard = encoder.speech(names), encoder.explain(names)
    assert np.abs(embeddings - wanted["embedding"].numpy()).max() < 1e-4
    assert max(len(one.units) for one in heard) > 1
    for row, one in enumerate(heard):
        count = int(wanted["keyword_count"][row])
        assert [unit.token_id for unit in one.units] == wanted["keyword_ids"][row, :count].tolist()
        edges = [one.units[0].start_s, *(unit.end_s for unit in one.units)]
        assert edges == pytest.approx(wanted["boundaries"][row, : count + 1].tolist(), abs=1e-6)


def test_evaluation_hears_through_what_was_learnt(tmp_path: Path, bed: Path, kept: Path) -> None:
    material = recipe.gather(str(DEMO), str(DEMO), bed / "speech.tsv", kept, unfreeze=True)
    trained = recipe.train_head(material, Settings("parallel", steps=20, batch=12, rate=0.003), tmp_path)
    rows, exam = material.rows("voice"), material.exam_of(trained.speech)
    before = replace(exam, features=LiveFeatures(material.heard, material.listener.tower))
    heard, wrong = (one.hear(trained.speech.head, rows).embeddings["parallel"] for one in (exam, before))
    own = []
    with torch.inference_mode():
        for wave in _waves(bed, [material.pairs.rows[row].speech for row in rows]):
            own.append(trained.speech.eval()(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0][0].numpy())
    near, far = ((1 - (np.stack(own) * given).sum(1)).mean() for given in (heard, wrong))
    assert near < 1e-5
    assert far > 0.01
    assert trained.measures["voice"] == exam.scores(trained.speech.head, rows)


def test_log_mel_is_kept_exactly_enough_and_heard_once(
    bed: Path, kept: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recipe.gather(str(DEMO), str(DEMO), bed / "speech.tsv", kept, unfreeze=True)
    monkeypatch.setattr(Listener, "log_mel", None)
    monkeypatch.setattr(Listener, "hear", None)
    again = recipe.gather(str(DEMO), str(DEMO), bed / "speech.tsv", kept, unfreeze=True)
    assert (first.heard.frames == again.heard.frames).all()
    assert first.heard.frames.shape[1] == 80
    waves = _waves(bed, [pair.speech for pair in first.pairs.rows])
    assert first.heard.frames.nbytes < 0.51 * sum(2 * len(wave) for wave in waves)
    with torch.inference_mode():
        for row in range(0, len(waves), 7):
            wave, length = torch.from_numpy(waves[row])[None], torch.tensor([len(waves[row])])
            wanted = listener.tower.mixed(*listener.tower.front(wave, length))[0]
            frames, count = LiveFeatures(again.heard, listener.tower).batch([row])
            assert count.tolist() == [wanted.shape[1]]
            assert (frames - wanted).norm() < 2e-3 * wanted.norm()


@pytest.mark.parametrize("place", ["frames", "weights"])
def test_a_number_that_is_none_names_its_batch(place: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = LiveFeatures.batch

    def broken(self: LiveFeatures, rows: Any) -> Any:
        if place == "weights":
            self.tower.layer_weights.data[0] = float("nan")
        frames, count = batch(self, rows)
        return (frames * float("inf") if place == "frames" else frames), count

    monkeypatch.setattr(LiveFeatures, "batch", broken)
    status, _, err = train("--unfreeze", "--detector", 0, "--threshold", 0.05)
    assert status == 2
    assert "at step 1, in the batch of speech/" in err
    assert len(err.strip().splitlines()[-1]) < 400


def test_a_frozen_run_and_one_that_is_not_do_not_resume_each_other(train: Train, tmp_path: Path) -> None:
    assert train("--steps", 2)[0] == 0
    status, _, err = train("--steps", 2, "--unfreeze")
    assert (status, "holds a run with unfreeze None, this one has True: name another folder" in err) == (2, True)
    shutil.rmtree(tmp_path / "head.work")
    assert train("--steps", 2, "--unfreeze")[0] == 0
    status, _, err = train("--steps", 2)
    assert (status, "holds a run with unfreeze True, this one has None: name another folder" in err) == (2, True)


def test_the_checkpoint_and_the_history_tell(train: Train, tmp_path: Path) -> None:
    status, printed, err = train("--unfreeze", "--head", "parallel", "--json")
    assert status == 0, err
    state = torch.load(tmp_path / "head.work" / "speech.state.pt", weights_only=True)
    tower = _tower(tmp_path / "head.safetensors")
    assert all(torch.equal(state["modules"]["tower"][name], value) for name, value in tower.items())
    assert json.loads(read_speech_head(tmp_path / "head.safetensors").history)["unfreeze"] is True
    assert json.loads(printed)["parameters"] > sum(value.numel() for value in tower.values())
