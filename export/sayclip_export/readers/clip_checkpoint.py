"""A CLIP as every reader of its formats hands it on, and its towers built from mapped weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sayclip.bundle.entries import PicturePreprocessing
from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.models.text import causal_mask
from sayclip_export.readers.vocabulary import Merges


@dataclass(frozen=True)
class ClipCheckpoint:
    """A whole CLIP, ready for export: both towers in fp32 and evaluation mode, and what goes before them.

    ``source``: the folder or file that was read, ``name``: what to call it. ``layout``: its format in words, such
    as ``OpenAI, TorchScript archive``. ``files``: SHA-256 (hex) of every file read, by name. ``weights_sha256``: that
    of the weights' file, or of the list of all shards. ``weights_format``: the name of the weights' file or index.
    """

    source: Path
    name: str
    layout: str
    image: ClipImage
    text: ClipText
    image_config: ClipImageConfig
    text_config: ClipTextConfig
    picture: PicturePreprocessing
    merges: Merges
    files: Mapping[str, str]
    weights_sha256: str
    weights_format: str


def empty_towers(image: ClipImageConfig, text: ClipTextConfig) -> tuple[ClipImage, ClipText]:
    """Both towers without memory behind them (``meta``): their keys and shapes, to be filled by ``fill``."""
    with torch.device("meta"):
        return ClipImage(image), ClipText(text)


def fill(tower: ClipImage | ClipText, state: Mapping[str, Tensor]) -> None:
    """Give ``tower`` the fp32 tensors of ``state``, without a copy, and set it to evaluation."""
    tower.load_state_dict(state, assign=True)
    if isinstance(tower, ClipText):  # no part of the state, so it has no memory yet
        tower.causal_mask = causal_mask(tower.config.context)
    tower.requires_grad_(False)
    tower.eval()
