"""Folders of a Hugging Face ``ViTModel``, as DINO is published: configuration and weights, mapped to our tower by key.

As for CLIP (``hugging_face``) the layout is read without the library. Nothing in it tells DINO from another ViT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.files import sha256_of
from sayclip_export.models.dino import Dino, DinoConfig
from sayclip_export.models.layers import ACTIVATIONS
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.picture_settings import FILES, VIT, picture_settings
from sayclip_export.readers.settings import Settings, read_json
from sayclip_export.readers.state import Filling, State, below
from sayclip_export.readers.tensors import read_tensors, weight_files

CONFIG = "config.json"
REMEDY = "name a folder that holds config.json and model.safetensors of a ViTModel, as facebook/dino-vits16 does"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which DINO was trained with
_BELOW = "vit."  # where a model built on a ViT keeps it
_BLOCK = {
    "ln_1": "layernorm_before",
    "ln_2": "layernorm_after",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.out_proj": "attention.output.dense",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
}
_UNBIASED = ("attention.q_proj", "attention.k_proj", "attention.v_proj")


@dataclass(frozen=True)
class DinoCheckpoint:
    """``image`` in fp32 and evaluation mode, and what goes before it; ``files``: SHA-256 (hex) of every file read.

    ``prepared``: the file that says how pictures are prepared, "" for none.
    """

    name: str
    image: Dino
    image_config: DinoConfig
    picture: PicturePreprocessing
    files: Mapping[str, str]
    weights_sha256: str
    weights_format: str
    prepared: str


def read_dino(folder: Path) -> DinoCheckpoint:
    """The DINO in ``folder``; one without an image processor's file sees pictures as DINO does.

    Raises CheckpointError, one line naming the file, the value seen and that wanted.
    """
    if not (folder / CONFIG).is_file():
        raise refuse(f"{folder} holds no {CONFIG}", REMEDY)
    settings = Settings(read_json(folder / CONFIG), str(folder / CONFIG))
    config = dino_config(settings)
    picture, prepared = PicturePreprocessing(config.size, MEAN, STD, "bilinear", "squash"), ""
    if any((folder / name).is_file() for name in FILES):
        picture, prepared = picture_settings(folder, config.size, VIT)
    sources = weight_files(folder)
    state = State(below(read_tensors(sources), _BELOW), sources[0])
    state.drop(lambda key: key.startswith("pooler.") or key == "embeddings.mask_token")
    tower = _filled(state, config, settings.flag("qkv_bias", True))
    state.finish(REMEDY)
    paths = [folder / CONFIG, *([folder / prepared] if prepared else []), *sources]
    files = {path.name: sha256_of(path) for path in paths}
    name = folder.resolve().name or "dino"
    weights = files[sources[0].name]  # of several files, that of the index, which names the others
    return DinoCheckpoint(name, tower, config, picture, files, weights, sources[0].name, prepared)


def dino_config(settings: Settings) -> DinoConfig:
    """Sizes from ``config.json``; what it leaves out is the library's default. Raises CheckpointError."""
    if settings.data.get("model_type") != "vit":
        raise settings.wrong("model_type", "'vit', as DINO has it")
    if settings.integer("num_channels", 3) != 3:
        raise settings.wrong("num_channels", "3")
    config = DinoConfig(
        settings.integer("image_size", 224),
        settings.integer("patch_size", 16),
        settings.integer("hidden_size", 768),
        settings.integer("num_hidden_layers", 12, 256),
        settings.integer("num_attention_heads", 12),
        settings.integer("intermediate_size", 3072),
        settings.choice("hidden_act", "gelu", ACTIVATIONS),
        settings.number("layer_norm_eps", 1e-12),
    )
    if config.size % config.patch:
        raise settings.wrong("image_size", f"a multiple of patch_size, {config.patch}")
    if config.width % config.heads:
        raise settings.wrong("num_attention_heads", f"a divisor of hidden_size, {config.width}")
    return config


def _filled(state: State, config: DinoConfig, biased: bool) -> Dino:
    filling = Filling(state, lambda: Dino(config))
    filling.copy("patches", "embeddings.patch_embeddings.projection")
    tokens = (config.size // config.patch) ** 2 + 1
    filling.put("class_embedding", state.take("embeddings.cls_token", (1, 1, config.width))[0, 0])
    filling.put("positional_embedding", state.take("embeddings.position_embeddings", (1, tokens, config.width))[0])
    filling.copy("norm", "layernorm")
    for number in range(config.layers):
        for ours, theirs in _BLOCK.items():
            mine, their = f"blocks.{number}.{ours}", f"encoder.layer.{number}.{theirs}"
            if ours in _UNBIASED and not biased:
                filling.copy(f"{mine}.weight", f"{their}.weight")
                filling.put(f"{mine}.bias", torch.zeros(config.width))
            else:
                filling.copy(mine, their)
    tower = filling.load()
    assert isinstance(tower, Dino)
    return tower
