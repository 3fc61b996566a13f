"""``sayclip export clip``: a published CLIP to a bundle with an image and a text encoder, both fp32.

The bundle is made in a folder beside its place and renamed into it once every graph has been held against torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import sayclip
from sayclip.bundle.entries import EncoderEntry, Preprocessing, TextPreprocessing
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.text.tokenizer import Tokenizer
from sayclip_export import graphs
from sayclip_export.bundling import describe_encoder, describe_graph, write_reference
from sayclip_export.graphs import Feeds
from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides

TOKENIZER = "tokenizer.txt"
CAPTIONS = (
    "a photo of a cat",
    "two children playing football on a beach at sunset",
    "a red double-decker bus in front of a brick building",
    "an aerial view of a river winding through a green valley with snow-capped mountains in the distance",
)


def export_clip(
    source: str | os.PathLike[str],
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
) -> Manifest:
    """Convert the CLIP at ``source`` (folder, file or hub id) to the new bundle ``out``; returns its manifest.

    ``say`` is given one line a step; ``overrides`` and ``vocabulary`` are those of ``read_clip``. Raises
    CheckpointError or InputError for a model that cannot be converted or an ``out`` that is there already, BundleError
    where a graph is further than 1e-4 from torch; then nothing is left at or beside ``out``.
    """
    if os.path.lexists(out):
        raise CheckpointError(
            f"{out} exists already, and this version writes new bundles only", "name a folder that is not there"
        )
    checkpoint = read_clip(source, overrides, vocabulary)
    say(f"read {checkpoint.weights_format}: {describe(checkpoint)}")
    with _fresh_folder(out) as fresh:
        _fill(fresh, checkpoint, say)
        Manifest.read(fresh)
    return Manifest.read(out)


def describe(checkpoint: ClipCheckpoint) -> str:
    """A checkpoint in a few words, such as ``ViT-B/32 at 224 pixels, quick_gelu, joint width 512``."""
    image = checkpoint.image_config
    size = {(768, 12): "B", (1024, 24): "L", (1280, 32): "H", (1408, 40): "g", (1664, 48): "bigG"}.get(
        (image.width, image.layers)
    )
    name = (
        f"ViT-{size}/{image.patch}" if size else f"ViT {image.width} wide, {image.layers} layers, patch {image.patch}"
    )
    return f"{name} at {image.size} pixels, {image.activation}, joint width {image.embedding}"


def space_id(checkpoint: ClipCheckpoint) -> str:
    """``clip-`` and 12 hex digits over the image tower's weights, its configuration and its preprocessing.

    The configuration counts because two of its values, heads and activation, show in no weight.
    """
    digest = hashlib.sha256()
    for name, value in sorted(checkpoint.image.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().data)
    for part in (checkpoint.image_config.to_dict(), asdict(checkpoint.picture)):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return f"clip-{digest.hexdigest()[:12]}"


def sample_pictures() -> list[NDArray[np.uint8]]:
    """Four synthetic pictures uint8 [H,W,3], the same every time: gradients, tiles, discs, and coloured noise."""
    y, x = np.mgrid[0:480, 0:640].astype(np.float64)
    gradient = np.stack([x / 639, y / 479, 1 - x / 639], axis=-1)
    tiles = np.where(((x // 40 + y // 40) % 2)[:, :480, None] > 0, [0.9, 0.8, 0.2], [0.1, 0.2, 0.6])
    centres = ((120, 160, 90), (300, 420, 140), (380, 120, 70))
    discs = np.full((480, 640, 3), 0.85)
    for channel, (row, column, radius) in enumerate(centres):
        discs[(y - row) ** 2 + (x - column) ** 2 < radius**2] = np.eye(3)[channel] * 0.8
    noise = np.kron(np.random.default_rng(0).random((25, 20, 3)), np.ones((16, 16, 1)))
    return [np.rint(255 * picture).astype(np.uint8) for picture in (gradient, tiles, discs, noise)]


def _fill(fresh: Path, checkpoint: ClipCheckpoint, say: Callable[[str], None]) -> None:
    checkpoint.merges.write(fresh / TOKENIZER)
    config = checkpoint.text_config
    tokenizer = Tokenizer.from_file(fresh / TOKENIZER, context=config.context)
    how = checkpoint.picture
    settings = PictureSettings(how.size, how.mean, how.std, how.resample, how.resize)
    pixels: Feeds = {"pixels": np.stack([read_picture(picture, settings) for picture in sample_pictures()])}
    captions = text_feed([tokenizer.encode(caption) for caption in CAPTIONS], tokenizer.eot)
    text = TextPreprocessing(describe_file(fresh, TOKENIZER), config.context)

    def random_pixels(rng: np.random.Generator) -> Feeds:
        shape = (int(rng.integers(1, 3)), 3, how.size, how.size)
        return {"pixels": rng.standard_normal(shape).astype(np.float32)}

    def random_text(rng: np.random.Generator) -> Feeds:
        lengths = rng.integers(3, config.context + 1, int(rng.integers(1, 4)))
        middle = [rng.integers(0, tokenizer.sot, length - 2).tolist() for length in lengths]
        return text_feed([[tokenizer.sot, *ids, tokenizer.eot] for ids in middle], tokenizer.eot)

    space = space_id(checkpoint)
    encoders = {
        "image": _encoder(fresh, "image", checkpoint, checkpoint.image, space, how, pixels, random_pixels, say),
        "text": _encoder(fresh, "text", checkpoint, checkpoint.text, space, text, captions, random_text, say),
    }
    Manifest(
        name=checkpoint.name,
        space=space,
        width=checkpoint.image_config.embedding,
        encoders=encoders,
        created_by=f"sayclip-toolkit {sayclip.__version__}",
    ).write(fresh)


def text_feed(sequences: list[list[int]], pad: int) -> Feeds:
    """``token_ids`` i32 [B,L], padded to the longest, and ``length`` i32 [B]."""
    length = np.array([len(ids) for ids in sequences], np.int32)
    token_ids = np.full((len(sequences), int(length.max())), pad, np.int32)
    for row, ids in zip(token_ids, sequences, strict=True):
        row[: len(ids)] = ids
    return {"token_ids": token_ids, "length": length}


def _encoder(
    fresh: Path,
    name: str,
    checkpoint: ClipCheckpoint,
    module: nn.Module,
    space: str,
    preprocessing: Preprocessing,
    reference: Feeds,
    random: Callable[[np.random.Generator], Feeds],
    say: Callable[[str], None],
) -> EncoderEntry:
    graph = fresh / f"{name}.fp32.onnx"
    data = graphs.export_graph(name, module, [torch.from_numpy(value[:2]) for value in reference.values()], graph)
    agreement = graphs.verify(graph, module, [reference, *graphs.random_shapes(random)])
    graphs.require(agreement, graph)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    say(f"{name}: {parameters:,} parameters, fp32 differs from torch by {agreement.largest:.1e}")
    return describe_encoder(
        fresh,
        name,
        space,
        checkpoint.image_config.embedding,
        {"fp32": describe_graph(fresh, graph.name, data)},
        preprocessing,
        write_reference(fresh, name, reference),
        {
            "source": checkpoint.name,
            "sha256": checkpoint.weights_sha256,
            "format": checkpoint.layout,
            "converter": f"sayclip-toolkit {sayclip.__version__}, torch {torch.__version__.split('+')[0]}",
            "files": dict(checkpoint.files),
            "architecture": (checkpoint.image_config if name == "image" else checkpoint.text_config).to_dict(),
        },
        {
            "parameters": parameters,
            "torch_max_abs_difference": agreement.largest,
            "torch_min_cosine": agreement.cosine,
            "torch_shapes": agreement.shapes,
        },
    )


@contextlib.contextmanager
def _fresh_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that becomes ``out`` when the block ends well, and vanishes otherwise."""
    parents = [parent for parent in (out.parent, *out.parent.parents) if not parent.exists()]
    fresh: Path | None = None
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            yield fresh
            fresh.chmod(0o755)  # mkdtemp lets nobody else read
            fresh.rename(out)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointError(f"{out} cannot be written ({reason})", "name a writable place with room") from error
    except BaseException:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
