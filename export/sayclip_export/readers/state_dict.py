"""Files of CLIP weights without a configuration: OpenAI's archive, and state dicts of OpenAI or open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.files import sha256_of
from sayclip_export.readers.architectures import Sizes, resolve
from sayclip_export.readers.archive import MAGIC
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint, empty_towers, fill
from sayclip_export.readers.clip_vocabulary import clip_vocabulary
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.openai_keys import as_floats, is_openai, mapped, measure, plain_names
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.picture_settings import MEAN, STD
from sayclip_export.readers.tensors import first_bytes, load_pickle, read_safetensors, state_dict
from sayclip_export.readers.torchscript import REMEDY, is_torchscript, read_torchscript

ARCHIVE = "TorchScript archive"
NORMALISATION = {"clip": (MEAN, STD), "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
RESIZE = ("shortest", "squash")
# Where published weights of one architecture see pictures in two ways, nothing in them tells which.
_PICTURES_OPEN = {
    "ViT-L-14": ("image.normalisation", "inception for LAION-2B (laion2b_s32b_b82k) or clip for all others"),
    "ViT-H-14-quickgelu": ("image.resize", "squash for DFN (dfn5b) or shortest for all others"),
    "ViT-H-14-378-quickgelu": ("image.resize", "squash for DFN (dfn5b) or shortest for all others"),
}


def read_file(path: Path, overrides: Overrides, vocabulary: Path | None) -> ClipCheckpoint:
    """The CLIP in one file. Raises CheckpointError or InputError, naming the keys to set for what it leaves open."""
    tensors, kind = load(path)
    tensors = plain_names(tensors, path)
    openai = is_openai(tensors)
    seen = measure(tensors, path)
    sizes, name = resolve(seen, openai, overrides, str(path))
    picture = _picture(sizes, "" if openai else name, overrides, path)
    overrides.finish()
    layout = "OpenAI" if openai else f"open_clip {name}".strip()
    return assemble(path, path.stem, f"{layout}, {kind}", sizes, picture, tensors, vocabulary)


def load(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of ``path`` by name, and what kind of file it is, by its first bytes. Raises CheckpointError."""
    start = first_bytes(path)
    if start.startswith(MAGIC):
        if is_torchscript(path):
            return read_torchscript(path), ARCHIVE
        return _unwrapped(load_pickle(path, REMEDY), path), "state dict"
    if start[8:] == b"{":
        return read_safetensors(path), "safetensors"
    if start[:1] == b"\x80":
        return _unwrapped(load_pickle(path, REMEDY), path), "state dict"
    raise refuse(
        f"{path} begins with {start[:4]!r}, wanted a checkpoint of torch.save, torch.jit.save or safetensors", REMEDY
    )


def assemble(
    path: Path,
    name: str,
    layout: str,
    sizes: Sizes,
    picture: PicturePreprocessing,
    tensors: Mapping[str, Tensor],
    vocabulary: Path | None,
    others: tuple[Path, ...] = (),
) -> ClipCheckpoint:
    """The checkpoint out of ``tensors`` under OpenAI's names in the file ``path``; ``others`` were read as well."""
    image, text = empty_towers(*sizes)
    image_state, text_state = mapped(image, text, tensors, path)
    merges = clip_vocabulary(vocabulary, sizes[1].vocabulary, sizes[1].context)
    fill(image, as_floats(image_state, path))
    fill(text, as_floats(text_state, path))
    files = {file.name: sha256_of(file) for file in (*others, *merges.paths, path)}
    return ClipCheckpoint(
        path, name, layout, image, text, sizes[0], sizes[1], picture, merges, files, files[path.name], path.name
    )


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict itself, or that inside a checkpoint of training."""
    inner = loaded.get("state_dict") if isinstance(loaded, Mapping) else None
    return state_dict(loaded if inner is None else inner, path)


def _picture(sizes: Sizes, name: str, overrides: Overrides, path: Path) -> PicturePreprocessing:
    normalisation = overrides.text("image.normalisation", choices=tuple(NORMALISATION))
    resize = overrides.text("image.resize", choices=RESIZE)
    key, values = _PICTURES_OPEN.get(name, ("", ""))
    if {"image.normalisation": normalisation, "image.resize": resize}.get(key, "") is None:
        raise CheckpointError(
            f"{path} is a {name}, of which weights were published that see pictures in two ways",
            f"say --set {key}={values}",
        )
    mean, std = NORMALISATION[normalisation or "clip"]
    return PicturePreprocessing(sizes[0].size, mean, std, resize=resize or RESIZE[0])
