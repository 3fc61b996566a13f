"""The same weights in every published layout give the same towers and the same bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip_export.clip_export import export_clip
from sayclip_export.models.layers import QuickGELU
from sayclip_export.parts import CAPTIONS, sample_pictures, space_id
from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.overrides import Overrides

State = dict[str, Tensor]
QUICK = {"activation": "quick_gelu"}


def same(one: ClipCheckpoint, other: ClipCheckpoint) -> None:
    """Equal weights, configurations and preprocessing; so the same function."""
    for ours, theirs in ((one.image, other.image), (one.text, other.text)):
        wanted = theirs.state_dict()
        assert ours.state_dict().keys() == wanted.keys()
        assert all(torch.equal(value, wanted[key]) for key, value in ours.state_dict().items())
    assert (one.image_config, one.text_config, one.picture) == (
        other.image_config,
        other.text_config,
        other.picture,
    )
    assert list(one.merges.pairs) == list(other.merges.pairs)
    assert space_id(one) == space_id(other)


@pytest.mark.parametrize("kind", ["archive", "pickle", "safetensors"])
def test_openai(
    kind: str,
    writers: dict[str, Any],
    state: State,
    marks: State,
    heads: dict[str, str],
    clip_master: Path,
    tmp_path: Path,
) -> None:
    """Its own checkpoints are known by three scalars, and settle the activation."""
    path = writers[kind](tmp_path / "model.of-any-name", {**state, **marks})
    checkpoint = read_clip(path, Overrides(heads))
    same(checkpoint, read_clip(clip_master))
    assert checkpoint.layout.startswith("OpenAI, ")
    assert (checkpoint.name, checkpoint.source) == ("model", path)
    assert not any(parameter.requires_grad for parameter in checkpoint.text.parameters())
    assert not checkpoint.image.training


@pytest.mark.parametrize("kind", ["pickle", "safetensors", "archive"])
def test_open_clip(
    kind: str, writers: dict[str, Any], state: State, heads: dict[str, str], clip_master: Path, tmp_path: Path
) -> None:
    path = writers[kind](tmp_path / "x", state)
    same(read_clip(str(path), Overrides({**heads, **QUICK})), read_clip(clip_master))


def test_a_checkpoint_of_training(state: State, heads: dict[str, str], clip_master: Path, tmp_path: Path) -> None:
    """open_clip's, of several processes, its text tower a module of its own, its ``logit_scale`` of one row."""
    text = ("positional_embedding", "token_embedding.", "ln_final.", "text_projection", "transformer.")
    named = {f"text.{key}" if key.startswith(text) else key: tensor for key, tensor in state.items()}
    named["logit_scale"] = named["logit_scale"].reshape(1)
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
    whole = {
        "epoch": 3,
        "name": "run",
        "state_dict": {f"module.{k}": v for k, v in named.items()},
        "optimizer": optimizer,
    }
    torch.save(whole, tmp_path / "epoch_3.pt")
    same(read_clip(tmp_path / "epoch_3.pt", Overrides({**heads, **QUICK})), read_clip(clip_master))


def test_the_format_before_zips(state: State, heads: dict[str, str], clip_master: Path, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    same(read_clip(tmp_path / "old.pt", Overrides({**heads, **QUICK})), read_clip(clip_master))


def open_clip_config(**model: Any) -> dict[str, Any]:
    vision = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 16, "mlp_ratio": 2.0}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2, "mlp_ratio": 2.0}
    return {
        "model_cfg": {"embed_dim": 48, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text, **model},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"},
    }


@pytest.mark.parametrize(
    ("file", "kind"), [("open_clip_model.safetensors", "safetensors"), ("open_clip_pytorch_model.bin", "pickle")]
)
def test_an_open_clip_folder(
    file: str, kind: str, writers: dict[str, Any], state: State, clip_master: Path, tmp_path: Path
) -> None:
    """Its configuration settles all; the preprocessing comes from there too."""
    writers[kind](tmp_path / file, state)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(open_clip_config()))
    checkpoint = read_clip(tmp_path)
    assert checkpoint.image_config == read_clip(clip_master).image_config
    assert (checkpoint.picture.mean, checkpoint.picture.resize) == ((0.5, 0.5, 0.5), "squash")
    assert set(checkpoint.files) == {file, "open_clip_config.json", "bpe_simple_vocab_16e6.txt.gz"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "lacks transformer.resblocks.2.ln_1.weight"),
        (open_clip_config(quick_gelu="yes"), "quick_gelu is 'yes', wanted true or false"),
        (open_clip_config(vision_cfg={"timm_model_name": "convnext_base"}), "timm_model_name is 'convnext_base'"),
        (open_clip_config(text_cfg={"pool_type": "last"}), "pool_type is 'last', which this version does not convert"),
        (open_clip_config(text_cfg={"heads": 7}), "heads is 7, wanted a divisor of the width, 512"),
        (open_clip_config() | {"preprocess_cfg": {"size": 64}}, "size is 64, wanted that of the model, 32 pixels"),
    ],
)  # fmt: skip
def test_open_clip_folders_that_are_refused(
    config: dict[str, Any], message: str, writers: dict[str, Any], state: State, tmp_path: Path
) -> None:
    if not config:
        config = open_clip_config()
        config["model_cfg"]["text_cfg"]["layers"] = 3
    writers["safetensors"](tmp_path / "open_clip_model.safetensors", state)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(sayclip.errors.SayclipError) as caught:
        read_clip(tmp_path)
    assert message in str(caught.value)


def test_half_precision_and_shared_storage(
    archive_master: Path, state: State, marks: State, heads: dict[str, str], tmp_path: Path, writers: dict[str, Any]
) -> None:
    """As OpenAI stores it: fp16 where it computes matrices, fp32 elsewhere, and a projection as a transposed view."""
    for key, tensor in state.items():
        if key.endswith(("proj", "weight")) and tensor.ndim > 1 and key != "token_embedding.weight":
            state[key] = tensor.half()
    state["visual.proj"] = state["visual.proj"].t().contiguous().t()
    path = writers["archive"](tmp_path / "half.pt", {**state, **marks})
    checkpoint = read_clip(path, Overrides(heads))
    assert {parameter.dtype for parameter in checkpoint.image.parameters()} == {torch.float32}
    assert torch.equal(checkpoint.image.projection.weight, state["visual.proj"].t().float())
    exact = read_clip(archive_master, Overrides(heads))
    largest = max(
        float((a - b).abs().max()) for a, b in zip(checkpoint.text.parameters(), exact.text.parameters(), strict=True)
    )
    assert 0 < largest < 1e-3


def test_the_wrong_activation_shows(
    archive_master: Path, heads: dict[str, str], state: State, writers: dict[str, Any], tmp_path: Path
) -> None:
    """The one that is named is computed; the other gives another space and other embeddings."""
    path = writers["pickle"](tmp_path / "x.pt", state)
    right = read_clip(archive_master, Overrides(heads))
    wrong = read_clip(path, Overrides({**heads, "activation": "gelu"}))
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert float((right.image(pixels) - wrong.image(pixels)).abs().max()) > 1e-3
    assert any(isinstance(module, QuickGELU) for module in right.text.modules())
    assert not any(isinstance(module, QuickGELU) for module in wrong.text.modules())
    assert space_id(right) != space_id(wrong)


@pytest.fixture(scope="module")
def bundles(
    clip_master: Path, archive_master: Path, state_master: State, heads: dict[str, str], writers: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:  # fmt: skip
    """One bundle out of each of the three layouts."""
    folder = tmp_path_factory.mktemp("bundles")
    plain = writers["safetensors"](folder / "plain.safetensors", state_master)
    export_clip(clip_master, folder / "hugging_face")
    export_clip(archive_master, folder / "openai", overrides=Overrides(heads))
    export_clip(plain, folder / "open_clip", overrides=Overrides({**heads, **QUICK}))
    return {name: folder / name for name in ("hugging_face", "openai", "open_clip")}


def test_bundles_of_three_layouts_are_equal(bundles: dict[str, Path]) -> None:
    found = {}
    for name, folder in bundles.items():
        with sayclip.load(folder) as encoder:
            found[name] = encoder.image(sample_pictures()), encoder.text(list(CAPTIONS))
    for name in ("openai", "open_clip"):
        for one, other in zip(found[name], found["hugging_face"], strict=True):
            assert np.abs(one - other).max() <= 1e-6
    manifests = [Manifest.read(folder) for folder in bundles.values()]
    assert len({manifest.space for manifest in manifests}) == 1
    assert len({manifest.entry("text").preprocessing for manifest in manifests}) == 1
    formats = [manifest.entry("image").provenance["format"] for manifest in manifests]
    assert formats == [
        "Hugging Face CLIPModel, model.safetensors",
        "OpenAI, TorchScript archive",
        "open_clip, safetensors",
    ]


def test_onnx_equals_torch(bundles: dict[str, Path]) -> None:
    for folder in bundles.values():
        for name, entry in Manifest.read(folder).encoders.items():
            assert entry.measured["torch_max_abs_difference"] <= 5e-6
            assert entry.measured["torch_shapes"] == (13 if name == "text" else 11)


def test_the_command(
    archive_master: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clip_master: Path,
) -> None:
    import importlib.metadata

    from sayclip.cli.main import main

    point = importlib.metadata.EntryPoint("export", "sayclip_export.cli:add", "sayclip.commands")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == "sayclip.commands" else [])

    def command(*words: object) -> int:
        return main(["export", "clip", *map(str, words), "--out", str(tmp_path / "b")])

    assert command(archive_master, "--set", "image.heads") == 2
    assert "KEY=VALUE" in capsys.readouterr().err
    assert command(archive_master, "--set", "image.haeds=4") == 2
    assert "image.haeds means nothing for this checkpoint" in capsys.readouterr().err
    assert command(clip_master, "--set", "image.heads=4") == 2
    assert "image.heads means nothing for this checkpoint, which leaves open nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    vocabulary = ("--vocabulary", clip_master, "--json")
    assert command(archive_master, "--set", "image.heads=4", "--set", "text.heads=4", *vocabulary) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"
    files = Manifest.read(tmp_path / "b").entry("text").provenance["files"]
    assert set(files) == {"tiny.pt", "vocab.json", "merges.txt"}
