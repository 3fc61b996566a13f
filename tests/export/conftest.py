"""A small CLIP of random weights with CLIP's real vocabulary, written by transformers, and what that makes of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sayclip.cli.main import main

# Helpers beside the tests; pytest's importlib mode leaves the path alone.
sys.path.append(str(Path(__file__).parent))

SIZE, PATCH, WIDTH, JOINT = 32, 16, 64, 48
Embeddings = NDArray[np.float32]
Answers = Callable[[Path, NDArray[np.float32], Sequence[Sequence[int]]], "tuple[Embeddings, Embeddings]"]


def unavailable(what: str) -> NoReturn:
    """Skips, except in continuous integration, where everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; `make test` installs it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """``run("export", …)``: status, stdout and stderr of the command, with the toolkit's commands in place."""
    point = importlib.metadata.EntryPoint("export", "sayclip_export.cli:add", "sayclip.commands")
    real = importlib.metadata.entry_points  # others ask it too

    def entry_points(**chosen: str) -> Any:
        return [point] if chosen.get("group") == "sayclip.commands" else real(**chosen)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The library, kept from looking for a network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if importlib.util.find_spec("transformers") is None:
        unavailable("transformers")
    return importlib.import_module("transformers")


@pytest.fixture(scope="session")
def clip_merges() -> list[tuple[str, str]]:
    """The 48,894 merges of CLIP's own vocabulary."""
    from sayclip.text.vocabulary import read_merges

    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        unavailable("open_clip_torch")
    return read_merges(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"))


def write_vocabulary(folder: Path, merges: Sequence[tuple[str, str]]) -> None:
    """``vocab.json`` and ``merges.txt`` as published."""
    from sayclip.text.vocabulary import byte_characters

    single = list(byte_characters().values())
    tokens = [*single, *(token + "</w>" for token in single), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def write_clip(transformers: Any, clip_merges: list[tuple[str, str]]) -> Callable[..., Path]:
    """``write_clip(folder, activation="gelu", dtype=torch.float16)`` saves a random CLIPModel and what goes with it.

    Norms and biases are random too, so that a mapping error shows; weights are large enough for activations to matter.
    """

    def write(folder: Path, *, activation: str = "quick_gelu", dtype: torch.dtype = torch.float32, **save: Any) -> Path:
        common = {
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "hidden_act": activation,
        }
        config = transformers.CLIPConfig(
            text_config=dict(common),
            vision_config={**common, "image_size": SIZE, "patch_size": PATCH},
            projection_dim=JOINT,
        )
        generator = torch.Generator().manual_seed(1)
        model = transformers.CLIPModel(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
        model.to(dtype).save_pretrained(folder, **save)
        write_vocabulary(folder, clip_merges)
        processor = {
            "crop_size": SIZE,
            "size": SIZE,
            "resample": 3,
            "do_resize": True,
            "do_center_crop": True,
            "do_normalize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        return folder

    return write


@pytest.fixture(scope="session")
def clip_master(write_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``clip_folder`` copies; tests must leave it as it is."""
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture
def clip_folder(clip_master: Path, tmp_path: Path) -> Path:
    """A Hugging Face folder of a small CLIP: safetensors, ``vocab.json`` and ``merges.txt``; free to be damaged."""
    return Path(shutil.copytree(clip_master, tmp_path / "tiny-clip"))


@pytest.fixture(scope="session")
def answers(transformers: Any) -> Answers:
    """``answers(folder, pixels, token_ids)``: L2-normalised image and text embeddings of transformers' CLIPModel."""

    def run(
        folder: Path, pixels: NDArray[np.float32], sequences: Sequence[Sequence[int]]
    ) -> tuple[Embeddings, Embeddings]:
        model = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        longest = max(map(len, sequences))
        padded = torch.tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in sequences])
        with torch.inference_mode():
            out = model(input_ids=padded, pixel_values=torch.from_numpy(pixels))
        image, text = out.image_embeds, out.text_embeds
        # Its own forward normalises; a second time changes nothing and does not rely on it.
        unit = torch.nn.functional.normalize
        return unit(image, dim=-1).numpy(), unit(text, dim=-1).numpy()

    return run
