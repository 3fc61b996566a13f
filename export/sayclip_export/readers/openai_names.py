"""CLIP's towers from OpenAI's names (``visual.conv1.weight``, ``transformer.resblocks.0.attn.in_proj_weight`` …)."""

from __future__ import annotations

import math

from torch import Tensor

from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.models.text import causal_mask
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.state import Filling, State

HEAD_WIDTH = 64  # of every model that OpenAI published; weights do not show it


def image_config(state: State, prefix: str, overrides: Overrides) -> ClipImageConfig:
    """Sizes of the image tower below ``prefix``; heads are width / 64 unless ``image.heads`` says otherwise."""
    width, channels, patch, other = state.shape(f"{prefix}visual.conv1.weight", 4)
    tokens = state.shape(f"{prefix}visual.positional_embedding", 2)[0]
    side = math.isqrt(tokens - 1)
    if channels != 3 or patch != other or side * side != tokens - 1 or not side:
        raise refuse(
            f"{state.where}: {prefix}visual.conv1.weight is {[width, channels, patch, other]} with {tokens} positions, "
            "wanted square patches of a square RGB picture and one more position"
        )
    return ClipImageConfig(
        size=side * patch,
        patch=patch,
        width=width,
        layers=state.count(f"{prefix}visual.transformer.resblocks.{{}}."),
        heads=heads(width, "image", state, overrides),
        hidden=state.shape(f"{prefix}visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        embedding=state.shape(f"{prefix}visual.proj", 2)[1],
    )


def text_config(state: State, prefix: str, vocabulary: int, overrides: Overrides) -> ClipTextConfig:
    """Sizes of the text tower below ``prefix``; heads are width / 64 unless ``text.heads`` says otherwise."""
    context, width = state.shape(f"{prefix}positional_embedding", 2)
    return ClipTextConfig(
        vocabulary=vocabulary,
        context=context,
        width=width,
        layers=state.count(f"{prefix}transformer.resblocks.{{}}."),
        heads=heads(width, "text", state, overrides),
        hidden=state.shape(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        embedding=state.shape(f"{prefix}text_projection", 2)[1],
    )


def heads(width: int, tower: str, state: State, overrides: Overrides) -> int:
    """Heads of a tower of CLIP. Raises CheckpointError, naming the key to set, where the width does not tell."""
    key = f"{tower}.heads"
    number = overrides.integer(key, width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else None)
    if number is None:
        number = overrides.require_integer(
            key, f"{state.where}: the {tower} tower is {width} wide, no multiple of {HEAD_WIDTH}, so its heads are open"
        )
    if width % number:
        raise refuse(f"{state.where}: {key} is {number}, wanted a divisor of the width, {width}", f"correct {key}")
    return number


def read_image(state: State, prefix: str, config: ClipImageConfig) -> ClipImage:
    """Take the image tower out of ``state``."""
    filling = Filling(state, lambda: ClipImage(config))
    visual = f"{prefix}visual."
    filling.copy("patches.weight", f"{visual}conv1.weight")
    for name in ("class_embedding", "positional_embedding", "ln_pre", "ln_post"):
        filling.copy(name, visual + name)
    filling.put("projection.weight", state.take(f"{visual}proj", (config.width, config.embedding)).T.contiguous())
    _blocks(filling, f"{visual}transformer.resblocks", config.layers)
    tower = filling.load()
    assert isinstance(tower, ClipImage)
    return tower


def read_text(state: State, prefix: str, config: ClipTextConfig, table: Tensor) -> ClipText:
    """Take the text tower out of ``state`` and give it ``table`` [vocabulary,width] as its token table."""
    filling = Filling(state, lambda: ClipText(config))
    for name in ("positional_embedding", "ln_final"):
        filling.copy(name, prefix + name)
    projection = state.take(f"{prefix}text_projection", (config.width, config.embedding))
    filling.put("projection.weight", projection.T.contiguous())
    filling.put("token_embedding.weight", table)
    _blocks(filling, f"{prefix}transformer.resblocks", config.layers)
    tower = filling.load()
    assert isinstance(tower, ClipText)
    return with_mask(tower)


def with_mask(tower: ClipText) -> ClipText:
    """Give a tower that was built without values its causal mask, which is in no file."""
    tower.causal_mask = causal_mask(tower.config.context)
    return tower


def _blocks(filling: Filling, theirs: str, layers: int) -> None:
    for i in range(layers):
        ours, block = f"blocks.{i}", f"{theirs}.{i}"
        filling.attention(f"{ours}.attention", f"{block}.attn")
        for name, other in (("ln_1", "ln_1"), ("ln_2", "ln_2"), ("mlp.0", "mlp.c_fc"), ("mlp.2", "mlp.c_proj")):
            filling.copy(f"{ours}.{name}", f"{block}.{other}")
