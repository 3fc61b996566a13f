"""The file of a trained pronunciation encoder: safetensors, with all that makes an encoder of it in the metadata.

``sayclip train demo`` and ``sayclip train pronunciation`` write it. Keys of the metadata: ``format``; ``config``,
``phonemes`` (the content of phonemes.json), ``g2p`` as JSON; ``space``, the embedding space it was trained for;
``history``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sayclip.bundle.entries import G2P
from sayclip.bundle.files import sha256_of
from sayclip.errors import BundleError
from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_export.models.layers import ACTIVATIONS
from sayclip_export.models.text import PronunciationTower, TextConfig
from sayclip_export.phonemes.chart import folded_matrix, inventory_sha256
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.tensors import as_float32, read_safetensors
from sayclip_export.readers.trained import json_object, read_metadata, write_tensors

FORMAT = "sayclip-pronunciation-1"
LARGEST = 8192  # of every size
_UNUSED = "tower.token_embedding.weight"  # phonemes bring their own table
_REMEDY = "name a file that `sayclip train` wrote"


@dataclass(frozen=True)
class PronunciationCheckpoint:
    """``phonemes``: the content of phonemes.json; ``space``: id of the embedding space that it was trained for."""

    tower: PronunciationTower
    phonemes: Mapping[str, Any]
    g2p: G2P
    space: str
    history: str
    sha256: str = ""


def write_pronunciation(path: Path, checkpoint: PronunciationCheckpoint) -> None:
    """Write ``checkpoint`` to ``path``, which is replaced only when all of it is written."""
    tensors = {key: value.contiguous() for key, value in checkpoint.tower.state_dict().items() if key != _UNUSED}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(checkpoint.tower.config.to_dict()),
        "phonemes": json.dumps(checkpoint.phonemes, ensure_ascii=False),
        "g2p": json.dumps(asdict(checkpoint.g2p)),
        "space": checkpoint.space,
        "history": checkpoint.history,
    }
    write_tensors(path, tensors, metadata)


def read_pronunciation(path: Path) -> PronunciationCheckpoint:
    """Read ``path``. Raises CheckpointError for a file that is damaged, of another kind, or at odds with itself."""
    if not path.is_file():
        raise refuse(f"{path} is no file", _REMEDY)
    metadata = read_metadata(path, FORMAT, _REMEDY)
    tensors = read_safetensors(path)
    config = _config(Settings(json_object(metadata, "config", path, _REMEDY), f"{path}: config"))
    phonemes = json_object(metadata, "phonemes", path, _REMEDY)
    try:
        inventory = PhonemeInventory(phonemes, where=f"{path}: phonemes")
    except BundleError as error:
        raise CheckpointError(error.problem, _REMEDY) from None
    if _chart_of(phonemes) != inventory.chart_sha256:
        raise refuse(
            f"{path}: the chart in phonemes is not the one whose hash it names ({inventory.chart_sha256[:12]}…)",
            _REMEDY,
        )
    if inventory.size != config.vocabulary:
        raise refuse(f"{path} knows {inventory.size} phonemes, its config says {config.vocabulary}", _REMEDY)
    g2p = json_object(metadata, "g2p", path, _REMEDY)
    name, version, language = (g2p.get(key) for key in ("name", "version", "language"))
    also = g2p.get("also", [])
    strings = isinstance(also, list) and all(isinstance(text, str) for text in [name, version, language, *also])
    if not strings or not metadata.get("space"):
        raise refuse(f"{path} names no g2p with version and language, or no space", _REMEDY)
    tower = _tower(config, np.asarray(folded_matrix(phonemes)), tensors, path)
    return PronunciationCheckpoint(
        tower,
        phonemes,
        G2P(str(name), str(version), str(language), tuple(also)),
        metadata["space"],
        metadata.get("history", ""),
        sha256_of(path),
    )


def _chart_of(phonemes: Mapping[str, Any]) -> str:
    try:
        return inventory_sha256(phonemes)
    except (AttributeError, KeyError, TypeError, ValueError):  # marks that are none
        return ""


def _config(settings: Settings) -> TextConfig:
    others = ("dropout", "activation", "eps")
    sizes = [field.name for field in fields(TextConfig) if field.name not in others]
    activation = settings.choice("activation", "quick_gelu", ACTIVATIONS)
    config = TextConfig(
        **{name: settings.integer(name, 0, LARGEST) for name in sizes},
        activation=activation,
        eps=settings.number("eps", 1e-5),
    )
    if config.width % config.heads:
        raise refuse(f"{settings.where} has width {config.width} for {config.heads} heads, wanted a multiple", _REMEDY)
    return config


def _tower(
    config: TextConfig, attributes: np.ndarray[Any, np.dtype[np.float32]], tensors: Mapping[str, Tensor], path: Path
) -> PronunciationTower:
    with torch.device("meta"):  # nothing of the sizes that a file claims is held before its tensors have them
        claimed = PronunciationTower(config, torch.empty(attributes.shape)).state_dict()
    wanted = {key: value for key, value in claimed.items() if key != _UNUSED}
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise refuse(f"{path} {'lacks' if odd[0] in wanted else 'has the unknown'} {odd[0]}", _REMEDY)
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            shapes = f"{list(tensors[key].shape)}, wanted {list(value.shape)}"
            raise refuse(f"{path}: {key} has the shape {shapes}", _REMEDY)
    found = {key: as_float32(key, tensors[key], path) for key in wanted}
    tower = PronunciationTower(config, torch.from_numpy(attributes))
    if (found["phonemes.attributes"] - tower.phonemes.attributes).abs().max() > 1e-6:
        raise refuse(f"{path}: the chart's attributes differ from those of its phonemes", _REMEDY)
    tower.load_state_dict(found, strict=False)
    return tower.eval()
