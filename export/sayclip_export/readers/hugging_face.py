"""Folders of a Hugging Face ``CLIPModel``: configuration and weights, mapped to our towers by key.

The weights may also be those of an ONNX graph, as optimum writes it.

The layout is that of transformers 4 and 5 (checked against 5.23), read without that library, whose classes and defaults
change from version to version. Every key is checked for presence and shape, and no key is left over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sayclip.bundle.files import sha256_of
from sayclip_export.models.clip import ACTIVATIONS, ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.readers import optimum
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint, empty_towers, fill
from sayclip_export.readers.clip_vocabulary import given_vocabulary
from sayclip_export.readers.errors import SUPPORTED, CheckpointError, refuse
from sayclip_export.readers.picture_settings import picture_settings
from sayclip_export.readers.settings import Settings, read_json
from sayclip_export.readers.tensors import FILES, as_float32, read_tensors, weight_files
from sayclip_export.readers.vocabulary import Merges, read_vocabulary

CONFIG = "config.json"
# Not weights of a tower: the temperature of training, and counters that old files keep.
_IGNORED = {"logit_scale", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_IMAGE = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "patches.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre": "vision_model.pre_layrnorm",
    "ln_post": "vision_model.post_layernorm",
    "projection.weight": "visual_projection.weight",
}
_TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "projection.weight": "text_projection.weight",
}


def read_clip(folder: Path, *, vocabulary: Path | None = None, name: str = "") -> ClipCheckpoint:
    """Read the CLIP in ``folder``, with the tokenizer at ``vocabulary`` where it is given in place of the folder's.

    Raises CheckpointError, one line naming the file, the value seen and that wanted.
    """
    config = Settings(read_json(folder / CONFIG), str(folder / CONFIG))
    image_config, text_config = configs(config)
    picture, picture_file = picture_settings(folder, image_config.size)
    if vocabulary is None:
        merges = read_vocabulary(folder, text_config.vocabulary, text_config.context)
    else:
        merges = given_vocabulary(vocabulary, text_config.vocabulary, text_config.context)
    _check_end(config, merges)
    graph = folder / optimum.GRAPH
    exported = graph.is_file() and not any((folder / file).is_file() for file in FILES)
    sources = [graph, *optimum.data_files(graph)] if exported else weight_files(folder)
    tensors = optimum.read_graph(graph) if exported else read_tensors(sources)
    image, text = empty_towers(image_config, text_config)
    _load(image, dict(_names(image, _IMAGE, "vision_model")), tensors, sources[0])
    _load(text, dict(_names(text, _TEXT, "text_model")), tensors, sources[0])
    left = sorted(set(tensors) - _IGNORED)
    if left:
        raise refuse(
            f"{sources[0]} holds {left[0]}{f' and {len(left) - 1} more keys' if left[1:] else ''} that {CONFIG} does "
            "not account for, wanted the keys of a CLIPModel alone",
            f"see that {CONFIG} belongs to these weights",
        )
    if exported:
        optimum.hold(graph, image, text, merges.eot)
    read = [folder / CONFIG, folder / picture_file, *merges.paths, *sources]
    files = {path.name: sha256_of(path) for path in read}
    weights = [files[path.name] for path in sources]
    together = hashlib.sha256("\n".join(weights).encode()).hexdigest()
    return ClipCheckpoint(
        folder,
        name or folder.resolve().name or "clip",
        f"{'ONNX graph of a ' if exported else ''}Hugging Face CLIPModel, {sources[0].name}",
        image,
        text,
        image_config,
        text_config,
        picture,
        merges,
        files,
        weights[0] if len(weights) == 1 else together,
        sources[0].name,
    )


def configs(config: Settings) -> tuple[ClipImageConfig, ClipTextConfig]:
    """Sizes of both towers from ``config.json``; what it leaves out is ViT-B/32's. Raises CheckpointError."""
    if config.data.get("model_type") != "clip":
        raise CheckpointError(
            f"{config.where}: model_type is {config.data.get('model_type')!r}, wanted 'clip'", SUPPORTED
        )
    embedding = config.integer("projection_dim", 512)
    vision, text = _section(config, "vision_config"), _section(config, "text_config")
    if vision.integer("num_channels", 3) != 3:
        raise vision.wrong("num_channels", "3")
    image_config = ClipImageConfig(
        size=vision.integer("image_size", 224),
        patch=vision.integer("patch_size", 32),
        embedding=embedding,
        **_common(vision, 768, 12),
    )
    if image_config.size % image_config.patch:
        raise vision.wrong("image_size", f"a multiple of patch_size, {image_config.patch}")
    text_config = ClipTextConfig(
        vocabulary=text.integer("vocab_size", 49408),
        context=text.integer("max_position_embeddings", 77, 4096),
        embedding=embedding,
        **_common(text, 512, 8),
    )
    return image_config, text_config


def _section(config: Settings, key: str) -> Settings:
    """A sub-configuration. An old file's ``…_config_dict`` overrides it whole, defaults included, as in the library."""
    old = config.section(f"{key}_dict")
    return old or config.section(key) or Settings({}, f"{config.where}: {key}")


def _common(section: Settings, width: int, heads: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "width": section.integer("hidden_size", width),
        "layers": section.integer("num_hidden_layers", 12, 256),
        "heads": section.integer("num_attention_heads", heads),
        "hidden": section.integer("intermediate_size", 4 * width),
        "activation": section.choice("hidden_act", "quick_gelu", ACTIVATIONS),
        "eps": section.number("layer_norm_eps", 1e-5),
    }
    if found["width"] % found["heads"]:
        raise section.wrong("num_attention_heads", f"a divisor of hidden_size, {found['width']}")
    return found


def _check_end(config: Settings, merges: Merges) -> None:
    """The model must end texts where the tokenizer does. 2 is no id but stands for the largest id of a text."""
    text = _section(config, "text_config")
    if text.integer("eos_token_id", merges.eot) not in (2, merges.eot):
        raise text.wrong("eos_token_id", f"{merges.eot}, with which the tokenizer ends a text (or 2, its old form)")


def _names(tower: nn.Module, names: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """Our key and theirs, for every tensor of ``tower``."""
    for key in tower.state_dict():
        if key in names:
            yield key, names[key]
            continue
        stem, _, last = key.rpartition(".")
        if stem.startswith("blocks."):
            _, number, part = stem.split(".", 2)
            yield key, f"{prefix}.encoder.layers.{number}.{_BLOCK[part]}.{last}"
        else:
            yield key, f"{names[stem]}.{last}"


def _load(tower: ClipImage | ClipText, names: Mapping[str, str], tensors: dict[str, Tensor], path: Path) -> None:
    """Move the tensors of ``tower`` out of ``tensors``, so that what is left over can be told."""
    state: dict[str, Tensor] = {}
    for key, empty in tower.state_dict().items():
        theirs = names[key]
        if theirs not in tensors:
            raise refuse(
                f"{path} lacks {theirs}, wanted {list(empty.shape)}", f"see that {CONFIG} belongs to these weights"
            )
        tensor = tensors.pop(theirs)
        if tensor.shape != empty.shape:
            raise refuse(
                f"{path}: {theirs} has the shape {list(tensor.shape)}, wanted {list(empty.shape)}",
                f"see that {CONFIG} belongs to these weights",
            )
        state[key] = as_float32(theirs, tensor, path)
    fill(tower, state)
