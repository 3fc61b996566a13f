"""Folders of open_clip: ``open_clip_config.json``, which tells all that a bare state dict leaves open, and weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sayclip.bundle.entries import PicturePreprocessing
from sayclip_export.models.clip import ClipImageConfig, ClipTextConfig
from sayclip_export.readers.architectures import Sizes
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.openai_keys import plain_names
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.picture_settings import MEAN, STD
from sayclip_export.readers.settings import Settings, read_json
from sayclip_export.readers.state_dict import RESIZE, assemble, load

CONFIG = "open_clip_config.json"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# Settings that change nothing in evaluation, beside those read below. Any other is refused, unless it is a default.
_IDLE = {"patch_dropout", "init_logit_scale", "custom_text", "output_tokens", "pad_id", "eos_id", "attn_pooler_queries"}
_DEFAULTS = {"pool_type": ("tok", "argmax"), "proj_type": ("linear",), "pos_embed_type": ("learnable",)}
_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_VISION = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_PICTURE = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
_REMEDY = "name a CLIP with a vision transformer and CLIP's own text tower, such as ViT-B-32"


def read_folder(folder: Path, overrides: Overrides, vocabulary: Path | None, name: str = "") -> ClipCheckpoint:
    """The CLIP in ``folder``. Raises CheckpointError, and InputError for overrides: it leaves nothing open."""
    overrides.finish()
    path = folder / CONFIG
    document = Settings(read_json(path), str(path))
    sizes = configs(document)
    picture = _picture(document, sizes[0].size)
    weights = next((folder / file for file in FILES if (folder / file).is_file()), None)
    if weights is None:
        raise refuse(f"{folder} holds none of {', '.join(FILES)}, wanted one with the weights")
    tensors = plain_names(load(weights)[0], weights)
    name = name or folder.resolve().name or "clip"
    return assemble(weights, name, f"open_clip folder, {weights.name}", sizes, picture, tensors, vocabulary, (path,))


def configs(document: Settings) -> Sizes:
    """Sizes, heads and activation of both towers; what is left out is open_clip's default. Raises CheckpointError."""
    model = _section(document, "model_cfg", _MODEL)
    vision, text = _section(model, "vision_cfg", _VISION), _section(model, "text_cfg", _TEXT)
    activation = "quick_gelu" if model.flag("quick_gelu", False) else "gelu"
    embedding = model.integer("embed_dim", 512)
    width, head = vision.integer("width", 768), vision.integer("head_width", 64)
    if width % head:
        raise vision.wrong("head_width", f"a divisor of the width, {width}")
    size, patch = vision.integer("image_size", 224), vision.integer("patch_size", 16)
    if size % patch:
        raise vision.wrong("image_size", f"a multiple of patch_size, {patch}")
    hidden = int(width * vision.number("mlp_ratio", 4.0))
    image = ClipImageConfig(
        size, patch, width, vision.integer("layers", 12, 256), width // head, hidden, embedding, activation
    )
    width, heads = text.integer("width", 512), text.integer("heads", 8)
    if width % heads:
        raise text.wrong("heads", f"a divisor of the width, {width}")
    return image, ClipTextConfig(
        text.integer("vocab_size", 49408),
        text.integer("context_length", 77, 4096),
        width,
        text.integer("layers", 12, 256),
        heads,
        int(width * text.number("mlp_ratio", 4.0)),
        embedding,
        activation,
    )


def _section(parent: Settings, key: str, known: Collection[str]) -> Settings:
    """The object ``key``, refused where it sets what would change the towers and is not read here."""
    section = parent.section(key) or Settings({}, f"{parent.where}: {key}")
    for name, value in section.data.items():
        if name not in known and name not in _IDLE and value not in (None, False, *_DEFAULTS.get(name, ())):
            raise refuse(f"{section.where}: {name} is {value!r:.60}, which this version does not convert", _REMEDY)
    return section


def _picture(document: Settings, size: int) -> PicturePreprocessing:
    section = _section(document, "preprocess_cfg", _PICTURE)
    seen = section.data.get("size")
    if seen not in (None, size, [size, size]):
        raise section.wrong("size", f"that of the model, {size} pixels")
    section.choice("mode", "RGB", ("RGB",))
    std = section.triple("std", STD)
    if min(std) <= 0:
        raise section.wrong("std", "three numbers above 0")
    return PicturePreprocessing(
        size,
        section.triple("mean", MEAN),
        std,
        section.choice("interpolation", "bicubic", ("bicubic", "bilinear")),
        section.choice("resize_mode", "shortest", RESIZE),
    )
