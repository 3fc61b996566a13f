"""Folders of a Hugging Face RoBERTa: configuration and weights, mapped to our text side by key, and its vocabulary.

As for CLIP (``hugging_face``) the layout is read without the library. Weights may be those of a ``RobertaModel``, or
of a model built on one, whose own layers are left out as its pooler is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sayclip.bundle.files import sha256_of
from sayclip_export.models.layers import ACTIVATIONS
from sayclip_export.models.roberta import Roberta, RobertaConfig
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.roberta_vocabulary import RobertaVocabulary, read_roberta_vocabulary
from sayclip_export.readers.settings import Settings, read_json
from sayclip_export.readers.state import Filling, State, below
from sayclip_export.readers.tensors import read_tensors, weight_files

CONFIG = "config.json"
REMEDY = "name a folder that holds config.json and model.safetensors of a RobertaModel, and its vocabulary"
_BELOW = "roberta."  # where a model built on a RoBERTa keeps it
_LAYER = {
    "attention.q_proj": "attention.self.query",
    "attention.k_proj": "attention.self.key",
    "attention.v_proj": "attention.self.value",
    "attention.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


@dataclass(frozen=True)
class RobertaCheckpoint:
    """``tower`` in fp32 and evaluation mode; ``files``: SHA-256 (hex) of every file read, by name."""

    name: str
    tower: Roberta
    vocabulary: RobertaVocabulary
    files: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over all files."""
        lines = [f"{name} {sha256}" for name, sha256 in sorted(self.files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_roberta(folder: Path, embedding: int) -> RobertaCheckpoint:
    """The RoBERTa in ``folder``, what it reads to be brought to a space of width ``embedding``.

    Raises CheckpointError, one line naming the file, the value seen and that wanted.
    """
    if not (folder / CONFIG).is_file():
        raise refuse(f"{folder} holds no {CONFIG}", REMEDY)
    config = roberta_config(Settings(read_json(folder / CONFIG), str(folder / CONFIG)), embedding)
    vocabulary = read_roberta_vocabulary(folder, config)
    sources = weight_files(folder)
    state = State(below(read_tensors(sources), _BELOW), sources[0])
    state.drop(lambda key: key.startswith("pooler.") or key == "embeddings.position_ids")
    tower = _filled(state, config)
    state.finish(REMEDY)
    paths = [folder / CONFIG, *vocabulary.paths, *sources]
    name = folder.resolve().name or "roberta"
    return RobertaCheckpoint(name, tower, vocabulary, {path.name: sha256_of(path) for path in paths})


def roberta_config(settings: Settings, embedding: int) -> RobertaConfig:
    """Sizes from ``config.json``; what it leaves out is the library's default. Raises CheckpointError."""
    if settings.data.get("model_type") != "roberta":
        raise settings.wrong("model_type", "'roberta'")
    for key, wanted in (("is_decoder", False), ("add_cross_attention", False)):
        if settings.flag(key, wanted) is not wanted:
            raise settings.wrong(key, str(wanted).lower())
    settings.choice("position_embedding_type", "absolute", ("absolute",))
    try:
        return RobertaConfig(
            settings.integer("vocab_size", 50265),
            settings.integer("hidden_size", 768),
            settings.integer("num_hidden_layers", 12, 256),
            settings.integer("num_attention_heads", 12),
            settings.integer("intermediate_size", 3072),
            settings.integer("max_position_embeddings", 512),
            embedding,
            start=_row(settings, "bos_token_id", 0),
            end=_row(settings, "eos_token_id", 2),
            padding=_row(settings, "pad_token_id", 1),
            activation=settings.choice("hidden_act", "gelu", ACTIVATIONS),
            eps=settings.number("layer_norm_eps", 1e-12),
        )
    except ValueError as error:
        raise refuse(f"{settings.where}: {error}", REMEDY) from None


def _row(settings: Settings, key: str, default: int) -> int:
    value = settings.data.get(key)
    if value is None:
        return default
    if type(value) is not int or value < 0:
        raise settings.wrong(key, "a whole number from 0 on")
    return value


def _filled(state: State, config: RobertaConfig) -> Roberta:
    filling = Filling(state, lambda: Roberta(config))
    filling.copy("token_embedding.weight", "embeddings.word_embeddings.weight")
    filling.copy("positional_embedding", "embeddings.position_embeddings.weight")
    filling.copy("embedding_norm", "embeddings.LayerNorm")
    key = "embeddings.token_type_embeddings.weight"
    segments = state.take(key, (state.shape(key, 2)[0], config.width), CONFIG)
    filling.put("segment_embedding", segments[0].clone())
    for number in range(config.layers):
        for ours, theirs in _LAYER.items():
            filling.copy(f"layers.{number}.{ours}", f"encoder.layer.{number}.{theirs}")
    tower = filling.load()
    assert isinstance(tower, Roberta)
    return tower
