"""Folders of a small RoBERTa and a small DINO of random weights, as transformers writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sayclip.text.vocabulary import byte_characters

MERGES = (
    ("r", "e"), ("re", "d"), ("Ġ", "red"), ("Ġ", "a"), ("p", "p"), ("pp", "l"), ("Ġa", "ppl"), ("Ġappl", "e"),
    ("a", "t"), ("Ġ", "c"), ("Ġc", "at"), ("f", "a"), ("fa", "c"), ("fac", "e"), ("Ġ", "face"),
)  # fmt: skip
TOKENS = ("<s>", "<pad>", "</s>", "<unk>", *byte_characters().values(), *(a + b for a, b in MERGES), "<mask>")
ROWS = len(TOKENS) + 2  # tables may have more rows than there are tokens
TEXT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
IMAGE = {**TEXT, "hidden_size": 32, "image_size": 32, "patch_size": 8}


def library() -> Any:
    """transformers, kept from looking for a network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if os.environ.get("CI") == "true":
        import transformers
    else:
        transformers = pytest.importorskip("transformers")
    return transformers


def randomised(model: Any) -> Any:
    """Norms and biases are random too, so that a mapping error shows, and weights large, so that activations matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)
    return model.eval()


def write_roberta(folder: Path, kind: str = "RobertaModel", **sizes: Any) -> Any:
    """Save a RoBERTa and its vocabulary to ``folder``; returns the model."""
    transformers = library()
    given = {"vocab_size": ROWS, "max_position_embeddings": 40, **TEXT, **sizes}
    model = randomised(getattr(transformers, kind)(transformers.RobertaConfig(**given)))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return model


def write_dino(folder: Path, kind: str = "ViTModel", **sizes: Any) -> Any:
    """Save a ViT to ``folder``, without an image processor; returns the model."""
    transformers = library()
    model = randomised(getattr(transformers, kind)(transformers.ViTConfig(**{**IMAGE, **sizes})))
    model.save_pretrained(folder)
    return model


def configured(**changed: Any) -> Callable[[Path], None]:
    """What writes other values into the ``config.json`` of a folder."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return change


def weights(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    """What makes a ``change`` to the weights in a folder."""

    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return changed
