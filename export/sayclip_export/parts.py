"""The encoders of a checkpoint on their way into a new bundle: exported, held against torch, described."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import sayclip
from sayclip.bundle.entries import PicturePreprocessing, Preprocessing, TextPreprocessing
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.text.tokenizer import Tokenizer
from sayclip_export import graphs
from sayclip_export.bundling import describe_encoder, describe_graph, write_reference
from sayclip_export.graphs import Feeds
from sayclip_export.models.clip import ClipText
from sayclip_export.placing import keep, place
from sayclip_export.readers.vocabulary import Merges

TOKENIZER = "tokenizer.txt"
CAPTIONS = (
    "a photo of a cat",
    "two children playing football on a beach at sunset",
    "a red double-decker bus in front of a brick building",
    "an aerial view of a river winding through a green valley with snow-capped mountains in the distance",
)


@dataclass(frozen=True)
class Part:
    """One encoder to be: its module, what goes before it, real inputs and random ones, its sizes, its outputs.

    ``further``: inputs of sizes that it is also held against torch at.
    """

    module: nn.Module
    preprocessing: Preprocessing
    reference: Feeds
    random: Callable[[np.random.Generator], Feeds]
    architecture: Mapping[str, object]
    outputs: Sequence[str] = ("embedding",)
    further: Sequence[Feeds] = ()


class ImageSizes(Protocol):
    """Sizes of an image tower, a frozen dataclass; ``embedding``: the width of the space."""

    @property
    def embedding(self) -> int: ...
    def to_dict(self) -> dict[str, object]: ...


def image_part(tower: nn.Module, config: ImageSizes, how: PicturePreprocessing) -> Part:
    """An image tower, held against torch on drawn pictures and on noise."""
    settings = PictureSettings(how.size, how.mean, how.std, how.resample, how.resize)
    reference: Feeds = {"pixels": np.stack([read_picture(picture, settings) for picture in sample_pictures()])}

    def random(rng: np.random.Generator) -> Feeds:
        shape = (int(rng.integers(1, 3)), 3, how.size, how.size)
        return {"pixels": rng.standard_normal(shape).astype(np.float32)}

    return Part(tower, how, reference, random, config.to_dict())


def text_part(tower: ClipText, folder: Path, context: int) -> Part:
    """A CLIP's text tower, held against torch on captions and on random ids; the tokenizer lies in ``folder``."""
    tokenizer = Tokenizer.from_file(folder / TOKENIZER, context=context)
    reference = text_feed([tokenizer.encode(caption) for caption in CAPTIONS], tokenizer.eot)

    def random(rng: np.random.Generator) -> Feeds:
        lengths = rng.integers(3, context + 1, int(rng.integers(1, 4)))
        middle = [rng.integers(0, tokenizer.sot, length - 2).tolist() for length in lengths]
        return text_feed([[tokenizer.sot, *ids, tokenizer.eot] for ids in middle], tokenizer.eot)

    how = TextPreprocessing(describe_file(folder, TOKENIZER), context)
    longest = [tokenizer.sot, *range(context - 2), tokenizer.eot]
    sizes = [text_feed([ids], tokenizer.eot) for ids in ([tokenizer.sot, 0, tokenizer.eot], longest)]
    return Part(tower, how, reference, random, tower.config.to_dict(), further=sizes)


def write_parts(
    folder: Path,
    name: str,
    space: str,
    width: int,
    parts: Mapping[str, Part],
    provenance: Mapping[str, Any],
    say: Callable[[str], None],
    before: Manifest | None = None,
) -> Manifest:
    """Export every part into ``folder``, hold it against torch and write the manifest of a bundle called ``name``.

    ``provenance`` is that of the checkpoint, to which each part adds its sizes. ``before``: a bundle whose other
    encoders are kept, and with them its name, notice and licence. Raises BundleError where a graph is further than
    1e-4 from torch, or as ``keep``.
    """
    encoders = keep(before, space, width, list(parts), folder)
    like = before if encoders else None
    for encoder, part in parts.items():
        graph = folder / f"{encoder}.fp32.onnx"
        example = [torch.from_numpy(value[:2]) for value in part.reference.values()]
        data = graphs.export_graph(encoder, part.module, example, graph, part.outputs)
        feeds = [part.reference, *part.further, *graphs.random_shapes(part.random)]
        agreement = graphs.verify(graph, part.module, feeds, part.outputs)
        graphs.require(agreement, graph)
        parameters = sum(parameter.numel() for parameter in part.module.parameters())
        say(f"{encoder}: {parameters:,} parameters, fp32 differs from torch by {agreement.largest:.1e}")
        measured = {
            "parameters": parameters,
            "torch_max_abs_difference": agreement.largest,
            "torch_min_cosine": agreement.cosine,
            "torch_shapes": agreement.shapes,
        }
        if agreement.equal_ids is not None:
            measured["torch_equal_ids"] = agreement.equal_ids
        encoders[encoder] = describe_encoder(
            folder,
            encoder,
            space,
            width,
            {"fp32": describe_graph(folder, graph.name, data)},
            part.preprocessing,
            write_reference(folder, encoder, part.reference),
            {
                **provenance,
                "converter": f"sayclip-toolkit {sayclip.__version__}, torch {torch.__version__.split('+')[0]}",
                "architecture": dict(part.architecture),
            },
            measured,
        )
    created_by = f"sayclip-toolkit {sayclip.__version__}"
    made = Manifest(name=name, space=space, width=width, encoders=encoders, created_by=created_by)
    if like:
        made = replace(made, name=like.name, notice=like.notice, license=like.license)
    made.write(folder)
    return Manifest.read(folder)


class WithImage(Protocol):
    """A checkpoint that mints a space: its image tower and what goes before it."""

    @property
    def image(self) -> nn.Module: ...
    @property
    def image_config(self) -> ImageSizes: ...
    @property
    def picture(self) -> PicturePreprocessing: ...


def space_id(checkpoint: WithImage, kind: str = "clip") -> str:
    """``kind``, a hyphen, and 12 hex digits over the image tower's weights, its configuration and its preprocessing.

    The configuration counts because two of its values, heads and activation, show in no weight.
    """
    digest = hashlib.sha256()
    for name, value in sorted(checkpoint.image.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().data)
    for part in (checkpoint.image_config.to_dict(), asdict(checkpoint.picture)):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return f"{kind}-{digest.hexdigest()[:12]}"


class WithClip(WithImage, Protocol):
    """A checkpoint that holds a whole CLIP."""

    @property
    def text(self) -> ClipText: ...


def write_bundle(
    out: Path,
    name: str,
    checkpoint: WithClip,
    merges: Merges,
    context: int,
    provenance: Mapping[str, Any],
    say: Callable[[str], None],
    others: Callable[[Path], Mapping[str, Part]] = lambda folder: {},
) -> Manifest:
    """The bundle ``out`` called ``name`` with ``others``, given the folder, and the CLIP's image and text encoders.

    Where ``out`` is a bundle of the same space already, these are added to it, or replace those of their names; see
    `sayclip_export.placing`. ``context``: the longest text in tokens. Raises as ``write_parts`` and ``place``; then
    ``out`` is as it was.
    """
    out = out if out.name else out.absolute()  # "." is another folder afterwards
    image = checkpoint.image_config
    with place(out) as (fresh, before):
        merges.write(fresh / TOKENIZER)
        parts = {
            **others(fresh),
            "image": image_part(checkpoint.image, image, checkpoint.picture),
            "text": text_part(checkpoint.text, fresh, context),
        }
        space = space_id(checkpoint)
        write_parts(fresh, name, space, image.embedding, parts, provenance, say, before)
    return Manifest.read(out)


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


def text_feed(sequences: list[list[int]], pad: int) -> Feeds:
    """``token_ids`` i32 [B,L], padded to the longest, and ``length`` i32 [B]."""
    length = np.array([len(ids) for ids in sequences], np.int32)
    token_ids = np.full((len(sequences), int(length.max())), pad, np.int32)
    for row, ids in zip(token_ids, sequences, strict=True):
        row[: len(ids)] = ids
    return {"token_ids": token_ids, "length": length}
