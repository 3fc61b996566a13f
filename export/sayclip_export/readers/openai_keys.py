"""The weights of a CLIP under OpenAI's names, which open_clip shares, mapped to our towers.

Queries, keys and values are stacked in one matrix [3W,W], and both projections are stored [in,out].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from torch import Tensor

from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.readers.architectures import Sizes
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.openai_layout import BLOCK, STACKED, TEXT, VISION
from sayclip_export.readers.tensors import as_float32

# Scalars beside the weights of OpenAI's own checkpoints, which open_clip does not write.
MARKS = ("input_resolution", "context_length", "vocab_size")
_IGNORED = {"logit_scale"}  # the temperature of training
_LARGEST_CONTEXT, _MOST_LAYERS = 4096, 256
# Keys of models that only share a library with CLIP's vision transformers.
_OTHERS = (
    (r"(text_model|vision_model)\.", "Hugging Face's names", "name the folder that holds its config.json too"),
    (r"visual\.(layer\d|attnpool)\.", "a ResNet", ""),
    (r"visual\.trunk\.", "an image tower of timm (ConvNeXt, EVA, SigLIP, MobileCLIP)", ""),
    (r"text\.(transformer\.(embeddings|encoder)|proj)\.", "a text tower of Hugging Face (XLM-RoBERTa)", ""),
    (r"text_decoder\.|visual\.attn_pool|text\.cls_emb", "CoCa", ""),
    (r"(image|text)_encoder\.", "MobileCLIP", ""),
    (r"logit_bias$", "SigLIP", ""),
    (r".*\.ls_[12]\.gamma$", "layer scale", ""),
    (r".*\.attn\.(ln_q|logit_scale|head_scale|ln_out|ln_inner)", "another attention", ""),
)  # fmt: skip
_REMEDY = "name a checkpoint of CLIP with a vision transformer, such as ViT-B-32"


def plain_names(tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """``tensors`` under OpenAI's names: without the prefixes of parallel training and of open_clip's text towers.

    Raises CheckpointError, naming the key, for models that are no CLIP with a vision transformer.
    """
    found = dict(tensors)
    if found and all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): tensor for key, tensor in found.items()}
    for key in found:
        for pattern, meaning, remedy in _OTHERS:
            if re.match(pattern, key):
                raise refuse(f"{where} holds {key}, the mark of {meaning}, wanted OpenAI's CLIP", remedy or _REMEDY)
    if "text.token_embedding.weight" in found:
        found = {key.removeprefix("text."): tensor for key, tensor in found.items()}
    if "visual.conv1.weight" not in found or "token_embedding.weight" not in found:
        lacks = next(k for k in ("visual.conv1.weight", "token_embedding.weight") if k not in found)
        first = f", but {min(found)}" if found else ""
        raise refuse(f"{where} holds no {lacks}{first}, wanted the weights of a CLIP", _REMEDY)
    return found


def is_openai(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the checkpoint is OpenAI's own, by the scalars that it alone holds."""
    return all(key in tensors for key in MARKS)


def measure(tensors: Mapping[str, Tensor], where: Path) -> Sizes:
    """Every size that shows in shapes. Heads and activation do not: they are filled in by OpenAI's rule.

    Raises CheckpointError for a key that is missing or of another number of dimensions.
    """

    def shape(key: str, dimensions: int) -> list[int]:
        if key not in tensors:
            raise refuse(f"{where} lacks {key}, wanted it with {dimensions} dimensions", _REMEDY)
        seen = list(tensors[key].shape)
        if len(seen) != dimensions or 0 in seen:
            raise refuse(f"{where}: {key} has the shape {seen}, wanted {dimensions} dimensions", _REMEDY)
        return seen

    width, colours, patch, other = shape("visual.conv1.weight", 4)
    tokens = shape("visual.positional_embedding", 2)[0]
    grid = isqrt(tokens - 1)
    if colours != 3 or patch != other:
        seen = [width, colours, patch, other]
        raise refuse(f"{where}: visual.conv1.weight has the shape {seen}, wanted [{width}, 3, N, N]", _REMEDY)
    if grid < 1 or grid**2 + 1 != tokens:
        raise refuse(f"{where}: visual.positional_embedding has {tokens} rows, wanted a square and one more", _REMEDY)
    embedding = shape("visual.proj", 2)[1]
    image = ClipImageConfig(
        grid * patch, patch, width, _layers(tensors, "visual."), width // 64,
        shape("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0], embedding,
    )  # fmt: skip
    vocabulary, width = shape("token_embedding.weight", 2)
    context = shape("positional_embedding", 2)[0]
    if context > _LARGEST_CONTEXT:
        raise refuse(f"{where}: positional_embedding has {context} rows, wanted at most {_LARGEST_CONTEXT}", _REMEDY)
    text = ClipTextConfig(
        vocabulary, context, width, _layers(tensors, ""), width // 64,
        shape("transformer.resblocks.0.mlp.c_fc.weight", 2)[0], embedding,
    )  # fmt: skip
    for key, wanted in zip(MARKS, (image.size, text.context, text.vocabulary), strict=True):
        if key in tensors and (tensors[key].numel() != 1 or int(tensors[key]) != wanted):
            raise refuse(f"{where}: {key} is {tensors[key].tolist()!s:.40}, the weights are of {wanted}", _REMEDY)
    return image, text


def mapped(
    image: ClipImage, text: ClipText, tensors: Mapping[str, Tensor], where: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """States of both towers as views of ``tensors``, every key of which is used.

    Raises CheckpointError, naming the key, the shape seen and that wanted, for one that is missing, left over or of
    another shape.
    """
    used: set[str] = {*MARKS, *_IGNORED}
    states = []
    for tower, names, prefix in ((image, VISION, "visual."), (text, TEXT, "")):
        state: dict[str, Tensor] = {}
        for key, empty in tower.state_dict().items():
            theirs, part = _their_name(key, names, prefix)
            wanted = list(empty.shape) if part is None else [3 * empty.shape[0], *empty.shape[1:]]
            if key == "projection.weight":
                wanted.reverse()
            if theirs not in tensors:
                raise refuse(f"{where} lacks {theirs}, wanted {wanted}", _REMEDY)
            tensor = tensors[theirs]
            if list(tensor.shape) != wanted:
                raise refuse(f"{where}: {theirs} has the shape {list(tensor.shape)}, wanted {wanted}", _REMEDY)
            used.add(theirs)
            if part is not None:
                tensor = tensor.chunk(3)[part]
            state[key] = tensor.t() if key == "projection.weight" else tensor
        states.append(state)
    left = sorted(set(tensors) - used)
    if left:
        more = f" and {len(left) - 1} more keys" if left[1:] else ""
        raise refuse(f"{where} holds {left[0]}{more} that no CLIP of these sizes has, wanted its keys alone", _REMEDY)
    return states[0], states[1]


def as_floats(state: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """``state`` in fp32, contiguous. Raises CheckpointError for what is no finite floating point."""
    return {key: as_float32(key, tensor, where) for key, tensor in state.items()}


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    found = {
        match[1] for key in tensors if (match := re.match(rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\.", key))
    }
    return min(max(len(found), 1), _MOST_LAYERS)


def _their_name(key: str, names: Mapping[str, str], prefix: str) -> tuple[str, int | None]:
    """OpenAI's key for ours, and which third of it where queries, keys and values are stacked."""
    if key in names:
        return prefix + names[key], None
    _, number, part = key.split(".", 2)
    stem, last = part.rsplit(".", 1)
    block = f"{prefix}transformer.resblocks.{number}."
    kind = stem.rpartition(".")[2]
    if kind in STACKED:
        return f"{block}attn.in_proj_{last}", STACKED.index(kind)
    return f"{block}{BLOCK[stem]}.{last}", None
