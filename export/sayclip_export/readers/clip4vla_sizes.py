"""Sizes of CLIP4VLA's towers from the shapes of their tensors; heads, which no shape betrays, from the usual rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sayclip_export.models.clip import ClipImageConfig, ClipTextConfig
from sayclip_export.models.clip4vla import ClipAudioConfig
from sayclip_export.readers.clip4vla_file import REMEDY
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.overrides import Overrides

_HEAD_WIDTH = 64
_LARGEST_SIDE = 4096


class Shapes:
    """The shapes of a file's tensors, looked up by key; ``overrides`` decides what they leave open."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path, overrides: Overrides) -> None:
        self._tensors, self._path, self._overrides = tensors, path, overrides

    def audio(self, prefix: str) -> ClipAudioConfig:
        """Those of the audio tower under ``prefix``, such as ``audio.visual.``. Raises CheckpointError."""
        if f"{prefix}bg_embedding" in self._tensors:
            raise refuse(
                f"{self._path} holds {prefix}bg_embedding, a variant with a background token, wanted control_embedding",
                "name a checkpoint that was trained with a control token",
            )
        size, patch, width, embedding = self._vision(prefix, 2)
        layers, hidden = self._blocks(f"{prefix}transformer.resblocks.")
        return ClipAudioConfig(size, patch, width, layers, self._heads("audio", width), hidden, embedding)

    def image(self, prefix: str) -> ClipImageConfig:
        """Those of the image tower under ``prefix``, such as ``clip.visual.``. Raises CheckpointError."""
        size, patch, width, embedding = self._vision(prefix, 1)
        layers, hidden = self._blocks(f"{prefix}transformer.resblocks.")
        return ClipImageConfig(size, patch, width, layers, self._heads("image", width), hidden, embedding)

    def text(self, prefix: str) -> ClipTextConfig:
        """Those of the text tower under ``prefix``, such as ``clip.``. Raises CheckpointError."""
        vocabulary, width = self._shape(f"{prefix}token_embedding.weight", 2)
        context, _ = self._shape(f"{prefix}positional_embedding", 2)
        _, embedding = self._shape(f"{prefix}text_projection", 2)
        layers, hidden = self._blocks(f"{prefix}transformer.resblocks.")
        return ClipTextConfig(vocabulary, context, width, layers, self._heads("text", width), hidden, embedding)

    def _vision(self, prefix: str, others: int) -> tuple[int, int, int, int]:
        """Side in pixels, patch, width and joint width; ``others``: tokens beside the patches."""
        width, channels, patch, across = self._shape(f"{prefix}conv1.weight", 4)
        if channels != 3 or patch != across:
            raise self._wrong(f"{prefix}conv1.weight", "square patches of 3 channels")
        rows, _ = self._shape(f"{prefix}positional_embedding", 2)
        grid = math.isqrt(max(0, rows - others))
        if grid < 1 or grid**2 + others != rows or grid * patch > _LARGEST_SIDE:
            raise self._wrong(f"{prefix}positional_embedding", f"a row for each patch of a square and {others} more")
        return grid * patch, patch, width, self._shape(f"{prefix}proj", 2)[1]

    def _blocks(self, prefix: str) -> tuple[int, int]:
        """How many layers there are, and the width of their feed-forward parts."""
        pattern = re.compile(re.escape(prefix) + r"([0-9]{1,4})\.")
        numbers = {int(found[1]) for key in self._tensors if (found := pattern.match(key))}
        layers = len(numbers)
        if not layers or numbers != set(range(layers)):
            raise refuse(f"{self._path} has the layers {sorted(numbers)[:8]} of {prefix}*, wanted all from 0", REMEDY)
        return layers, self._shape(f"{prefix}0.mlp.c_fc.weight", 2)[0]

    def _heads(self, tower: str, width: int) -> int:
        key = f"{tower}.heads"
        heads = self._overrides.integer(key, None if width % _HEAD_WIDTH else width // _HEAD_WIDTH)
        if heads is None:
            heads = self._overrides.require_integer(
                key, f"{self._path}: the {tower} tower is {width} wide, which does not tell how many heads it has"
            )
        if width % heads:
            raise CheckpointError(
                f"{self._path}: {heads} heads do not divide the {tower} tower's width, {width}",
                f"say it with --set {key}=NUMBER",
            )
        return heads

    def _shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        if key not in self._tensors:
            raise refuse(f"{self._path} lacks {key}, wanted {dimensions} dimensions", REMEDY)
        shape = tuple(self._tensors[key].shape)
        if len(shape) != dimensions or not all(shape):
            raise self._wrong(key, f"{dimensions} dimensions, none of them empty")
        return shape

    def _wrong(self, key: str, wanted: str) -> CheckpointError:
        return refuse(f"{self._path}: {key} has the shape {list(self._tensors[key].shape)}, wanted {wanted}", REMEDY)
