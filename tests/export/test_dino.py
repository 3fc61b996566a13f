"""``sayclip export dino``: what transformers' ViTModel makes of the same pictures, and what such a bundle cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from unimodal_folders import configured, library, weights, write_dino

import sayclip
from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.files import sha256_of
from sayclip.bundle.manifest import Manifest
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip_export import rtx
from sayclip_export.dino_export import export_dino
from sayclip_export.parts import sample_pictures
from sayclip_export.readers.dino import MEAN, STD, read_dino
from sayclip_export.readers.errors import CheckpointError

PROCESSOR = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "resample": 3, "size": 32}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("dino") / "tiny-dino"
    return folder, write_dino(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Free to be damaged."""
    write_dino(tmp_path / "tiny-dino")
    return tmp_path / "tiny-dino"


@pytest.fixture(scope="module")
def exported(master: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "bundle"
    lines: list[str] = []
    export_dino(master[0], out, lines.append)
    assert lines[0] == "read model.safetensors: ViT 32 wide, patch 8 at 32 pixels, pictures as DINO's own"
    return out


def class_token(model: Any, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return normalize(model(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)


def how(bundle: Path) -> PictureSettings:
    settings = Manifest.read(bundle).entry("image").preprocessing
    assert isinstance(settings, PicturePreprocessing)
    return PictureSettings(settings.size, settings.mean, settings.std, settings.resample, settings.resize)


def test_the_runtime_gives_the_class_token_of_transformers(master: tuple[Path, Any], exported: Path) -> None:
    pictures = sample_pictures()
    with sayclip.load(exported) as encoder:
        assert encoder.names == ("image",)
        seen = encoder.image(pictures)
    settings = how(exported)
    assert (settings.mean, settings.std, settings.resize) == (MEAN, STD, "squash")
    pixels = torch.from_numpy(np.stack([read_picture(picture, settings) for picture in pictures]))
    assert np.abs(seen - class_token(master[1], pixels).numpy()).max() < 1e-5
    with torch.no_grad():
        assert (read_dino(master[0]).image(pixels) - class_token(master[1], pixels)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["feature_extractor_type", "image_processor_type"])
def test_pictures_are_prepared_as_by_the_library(kind: str, folder: Path, tmp_path: Path) -> None:
    name = "ViTFeatureExtractor" if kind.startswith("feature") else "ViTImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, kind: name}))
    export_dino(folder, tmp_path / "bundle")
    settings = how(tmp_path / "bundle")
    assert (settings.mean, settings.resample, settings.resize) == ((0.4, 0.5, 0.6), "bicubic", "squash")
    transformers = library()
    pil = "ViTImageProcessorPil" if hasattr(transformers, "ViTImageProcessorPil") else "ViTImageProcessor"
    processor = getattr(transformers, pil).from_pretrained(folder)
    picture = sample_pictures()[0]
    wanted = processor(images=Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
    assert np.abs(read_picture(picture, settings) - wanted).max() < 1e-6
    entry = Manifest.read(tmp_path / "bundle").entry("image")
    assert "preprocessor_config.json" in entry.provenance["files"]


def test_the_manifest_says_where_it_comes_from(master: tuple[Path, Any], exported: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(exported)
    assert re.fullmatch("dino-[0-9a-f]{12}", manifest.space)
    assert (manifest.name, manifest.width) == ("tiny-dino", 32)
    entry = manifest.entry("image")
    assert entry.provenance["sha256"] == sha256_of(master[0] / "model.safetensors")
    assert entry.provenance["format"] == "Hugging Face ViTModel, model.safetensors"
    assert entry.measured["torch_max_abs_difference"] < 1e-5
    write_dino(tmp_path / "again")
    assert export_dino(tmp_path / "again", tmp_path / "bundle").space == manifest.space, "of the same weights"
    write_dino(tmp_path / "heads", num_attention_heads=8)
    assert export_dino(tmp_path / "heads", tmp_path / "other").space != manifest.space, "which show in no weight"


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("ViTModel", {"qkv_bias": False}), ("ViTForImageClassification", {}), ("ViTModel", {"patch_size": 16})],
)
def test_other_makes_are_read_too(kind: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    write_dino(tmp_path / "other", kind, **sizes)
    model = library().ViTModel.from_pretrained(tmp_path / "other", add_pooling_layer=False).eval()
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert (read_dino(tmp_path / "other").image(pixels) - class_token(model, pixels)).abs().max() < 1e-5


@pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")
def test_nvidias_parser_and_builder_take_it(exported: Path) -> None:
    assert rtx.build(exported / "image.fp32.onnx").outputs == ("embedding",)


def test_pictures_find_pictures_and_typed_text_is_refused(
    exported: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(sample_pictures()):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    where = ("--bundle", exported, "--library", tmp_path / "library.sqlite")
    assert run("index", tmp_path / "pictures", *where)[0] == 0
    status, out, err = run("search", "--image", tmp_path / "pictures" / "2.png", "--json", *where)
    assert (status, json.loads(out)["hits"][0]["source"][-5:]) == (0, "2.png"), err
    for asked, by, needs in (
        (["red apple"], "typed text", "text"),
        (["--words", "red"], "--words", "pronunciation"),
        (["--speech", "a.wav"], "--speech", "speech"),
    ):
        for place in (where, where[:2]):  # without a library too, which would be asked for first
            status, out, err = run("search", *asked, *place)
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert f"bundle tiny-dino cannot be asked by {by}: it has no {needs} encoder, only image" in err
            assert "ask by --image, or use another bundle" in err


def test_the_command(folder: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "bundle"
    status, printed, err = run("export", "dino", folder, "--out", out, "--json")
    assert status == 0, err
    assert set(json.loads(printed)["encoders"]) == {"image"}
    status, _, err = run("export", "dino", folder, "--out", out)
    assert status == 0, err
    status, printed, err = run("export", "dino", tmp_path / "nowhere", "--out", out)
    assert (status, printed, err.count("\n")) == (2, "", 1)
    assert "nowhere holds no config.json: name a folder that holds config.json and model.safetensors" in err


def test_a_bundle_of_another_space_is_left_as_it_was(folder: Path, tiny_bundle: Path, run: Callable[..., Any]) -> None:
    before = Manifest.read(tiny_bundle)
    status, _, err = run("export", "dino", folder, "--out", tiny_bundle)
    assert status == 2
    assert "of space 'tiny-0123456789ab' with width 32, the checkpoint gives 'dino-" in err
    assert Manifest.read(tiny_bundle) == before


def processor(**changed: Any) -> Callable[[Path], None]:
    given = {"image_processor_type": "ViTImageProcessor", **PROCESSOR, **changed}
    return lambda folder: (folder / "preprocessor_config.json").write_text(json.dumps(given)) and None


KEY = "encoder.layer.1.attention.attention.key.bias"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "holds none of model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is damaged or no safetensors file"),
        (configured(model_type="dinov2"), "model_type is 'dinov2', wanted 'vit', as DINO has it"),
        (configured(num_channels=1), "num_channels is 1, wanted 3"),
        (configured(image_size=30), "image_size is 30, wanted a multiple of patch_size, 8"),
        (configured(image_size=64), r"position_embeddings has the shape \[1, 17, 32\], wanted \[1, 65, 32\]"),
        (configured(num_attention_heads=5), "num_attention_heads is 5, wanted a divisor of hidden_size, 32"),
        (configured(hidden_size=64), r"projection.weight has the shape \[32, 3, 8, 8\], wanted \[64,"),
        (configured(num_hidden_layers=3), "lacks encoder.layer.2"),
        (configured(num_hidden_layers=1), "holds encoder.layer.1.* that no part of the model takes"),
        (configured(qkv_bias=False), "holds encoder.layer.0.attention.attention.key.bias"),
        (weights(lambda t: t.pop(KEY)), f"lacks {KEY}"),
        (weights(lambda t: t.update({KEY: torch.full((32,), torch.inf)})), f"{KEY} holds NaN or infinity"),
        (processor(image_processor_type="CLIPImageProcessor"), "is 'CLIPImageProcessor', wanted one of ViT"),
        (processor(size=224), "size is 224, wanted the image_size of the model, 32 pixels"),
        (processor(size={"shortest_edge": 32}), "do_center_crop is None, wanted true where size is the shortest edge"),
        (processor(resample=9), "resample is 9"),
    ],
)
def test_folders_of_no_use_are_refused_in_a_line(damage: Callable[[Path], Any], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_dino(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy
