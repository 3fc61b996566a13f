"""A HuBERT that optimum exported hears as transformers' does, and completes a SpeechCLIP that was stored without one.

``data/hubert_*.zip`` were written by ``optimum-cli export onnx --task feature-extraction`` (optimum 2.1.0, optimum-onnx
0.1.0, transformers 4.57.6, torch 2.13.0) of HubertModels of random weights; ``expected.npz`` holds their hidden states.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch

import sayclip
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.optimum_hubert import read_optimum_hubert
from sayclip_export.speechclip_export import sample_waves, wave_feed

if TYPE_CHECKING:
    from speechclip_parts import Golden

Run = Callable[..., tuple[int, str, str]]


def unpack(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "data" / f"{name}.zip") as archive:
        archive.extractall(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["hubert_base", "hubert_large"])
def test_its_states_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    hubert = read_optimum_hubert(folder)
    assert hubert.config.large == name.endswith("large")
    with np.load(folder / "expected.npz") as known:
        waves, wanted = known["waves"].astype(np.float32), known["states"]
    with torch.no_grad():
        states, count = hubert(torch.from_numpy(waves), torch.full((2,), waves.shape[1], dtype=torch.int32))
    assert count.tolist() == [wanted.shape[2]] * 2
    compared = len(states) - hubert.config.large  # the last of large comes before the final norm
    for ours, theirs in zip(states[:compared], wanted[:compared], strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-5


def test_it_completes_a_checkpoint_without_one(
    golden_speechclip: Callable[[str], Golden], run: Run, tmp_path: Path
) -> None:
    from speechclip_parts import loaded, read_state, save, settings

    folder, golden = unpack("hubert_base", tmp_path), golden_speechclip("base_parallel")
    state, config = loaded(golden)
    short = {key: value for key, value in state.items() if not key.startswith("audio_encoder.encoder.")}
    path = save(tmp_path / "short.ckpt", short, config)
    left_open = {key: value for key, value in settings("base_parallel").items() if key != "hubert.heads"}
    given = [part for key, value in left_open.items() for part in ("--set", f"{key}={value}")]
    status, _, err = run("export", "speech", path, "--out", tmp_path / "bundle", *given, "--hubert", folder)
    assert status == 0, err
    whole = read_state(state, config).speech
    whole.hubert = read_optimum_hubert(folder)
    feed = wave_feed(sample_waves())
    with torch.no_grad():
        wanted = whole(*(torch.from_numpy(value) for value in feed.values()))[0].numpy()
    with sayclip.load(tmp_path / "bundle") as encoder:
        assert np.abs(encoder.speech(sample_waves(), sample_rate=16000) - wanted).max() < 1e-4
    status, _, err = run("export", "speech", path, "--out", tmp_path / "other", *given)
    assert status == 2
    assert "conv_layers has kernels ()" in err


def test_a_checkpoint_with_its_own_takes_no_other(
    golden_speechclip: Callable[[str], Golden], run: Run, tmp_path: Path
) -> None:
    golden, folder = golden_speechclip("base_parallel"), unpack("hubert_base", tmp_path)
    status, out, err = run("export", "speech", golden.path, "--out", tmp_path / "bundle", "--hubert", folder)
    assert (status, out) == (2, "")
    assert "holds a HuBERT of its own, and another one is given: give none with --hubert" in err


def config(**values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def graph(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        model = onnx.load(str(folder / "model.onnx"))
        change(model)
        onnx.save(model, str(folder / "model.onnx"))

    return apply


def without_gelu(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Erf").op_type = "Tanh"


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another model": (config(model_type="wav2vec2"), "model_type is 'wav2vec2', wanted 'hubert'"),
    "another activation": (config(hidden_act="relu"), "hidden_act is 'relu', wanted 'gelu'"),
    "another stride": (config(conv_stride=[5, 2, 2, 2, 2, 2, 1]), "conv_stride is"),
    "norms at odds": (config(do_stable_layer_norm=True), "feat_extract_norm is 'group', wanted 'layer'"),
    "uneven channels": (config(conv_dim=[8, 8, 8, 8, 8, 8, 9]), "conv_dim is"),
    "no channels": (config(conv_dim=[]), "conv_dim is"),
    "heads": (config(num_attention_heads=5), "hidden_size is 48, wanted a multiple of 5 heads"),
    "another width": (config(hidden_size=64), "has the shape"),
    "more layers": (config(num_hidden_layers=4), "lacks encoder.layers.3"),
    "fewer layers": (config(num_hidden_layers=2), "that no part of the model takes"),
    "another function": (graph(without_gelu), "last_hidden_state differs from what its own weights give"),
    "no graph": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is damaged or no ONNX graph"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_such_folder_is_refused(case: str, tmp_path: Path) -> None:
    folder = unpack("hubert_base", tmp_path)
    change, message = CASES[case]
    change(folder)
    with pytest.raises(CheckpointError) as caught:
        read_optimum_hubert(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
