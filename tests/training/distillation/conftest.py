"""Teachers for the tests of distillation: the demo's bundle, and a small CLIP of random weights as published."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from sayclip.cli.main import main

DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo" / "bundle"
CAPTIONS = (
    "red apple", "blue car", "cat face", "dog face", "birthday cake", "alarm clock", "full moon", "sailboat", "guitar",
    "fire engine", "hot beverage", "umbrella", "smiling face", "green book", "yellow sun", "snowman", "violin", "house",
    "tree", "fish", "bird", "horse", "train", "bicycle", "balloon", "cheese", "bread", "kite", "flute", "whale",
)  # fmt: skip


def unavailable(what: str) -> NoReturn:
    """Skips, except in continuous integration, where everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed; `make test` installs it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(autouse=True)
def espeak() -> None:
    """espeak-ng is there, and one thread is enough."""
    if importlib.util.find_spec("phonemizer") is None:
        unavailable("phonemizer")
    torch.set_num_threads(1)


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A table of 30 captions, four of them for validation."""
    rows = [f"{text}\t{'validation' if i % 8 == 3 else 'train'}" for i, text in enumerate(CAPTIONS)]
    path = tmp_path / "captions.tsv"
    path.write_text("caption\tsplit\n" + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """``train("--steps", 3)``: status, stdout and stderr of ``sayclip train pronunciation`` with these options."""

    def call(*arguments: object) -> tuple[int, str, str]:
        given = list(map(str, arguments))
        defaults = {"--clip": str(DEMO), "--out": str(tmp_path / "out.safetensors"), "--batch": "8", "--steps": "4"}
        for name, value in defaults.items():
            if name not in given:
                given += [name, value]
        capsys.readouterr()
        status = main(["train", "pronunciation", *given])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="session")
def published_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it, of a CLIP with random weights and GELU; tests must leave it as it is."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for package in ("transformers", "open_clip"):
        if importlib.util.find_spec(package) is None:
            unavailable(package)
    import transformers

    from sayclip.text.vocabulary import byte_characters, read_merges

    folder = tmp_path_factory.mktemp("published") / "tiny-clip"
    common: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "hidden_act": "gelu"}
    common["num_attention_heads"] = 4
    vision = {**common, "image_size": 32, "patch_size": 16}
    torch.manual_seed(1)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=dict(common), vision_config=vision, projection_dim=24)
    )
    model.save_pretrained(folder)
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    merges = read_merges(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"))
    single = list(byte_characters().values())
    tokens = [*single, *(token + "</w>" for token in single), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    processor = {"crop_size": 32, "size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}
    processor |= {"resample": 3, "do_resize": True, "do_center_crop": True, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture
def demo_bundle(tmp_path: Path) -> Path:
    """A copy of the demo's bundle, free to be changed."""
    return Path(shutil.copytree(DEMO, tmp_path / "demo-bundle"))
