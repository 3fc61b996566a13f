"""The frozen text encoder that is learnt from: that of a published CLIP, or of a sayclip bundle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import sayclip
from sayclip.bundle.entries import PicturePreprocessing, TextPreprocessing
from sayclip.bundle.files import verify_files
from sayclip.bundle.find import demo_folder
from sayclip.bundle.manifest import FILE, Manifest
from sayclip.errors import BundleError, InputError
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.models.text import TextConfig, TextTower
from sayclip_export.parts import space_id
from sayclip_export.readers import text_graph
from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.overrides import Overrides
from sayclip_training.clip import pad_tokens
from sayclip_training.distillation import cache

DEMO = "demo"  # the name of the installed demo's bundle
AT_ONCE = 64

Read = Callable[[Sequence[str]], NDArray[np.float32]]
See = Callable[[Sequence[Path]], NDArray[np.float32]]


@dataclass(frozen=True)
class Teacher:
    """A text encoder of ``width`` numbers and the space that it belongs to.

    ``read(texts)``: embeddings f32 [N,D], of length 1 where ``unit`` is true, as they leave the projection otherwise.
    ``see(paths)``: those of pictures, f32 [N,D], of length 1; None where there is no image encoder, whose
    SHA-256 is ``seen_by``. ``tower``: its
    weights, or None where only its graph is known; ``sizes``: of the student. ``sha256``: of weights and vocabulary.
    """

    name: str
    kind: str
    sha256: str
    space: str
    width: int
    unit: bool
    read: Read
    see: See | None
    seen_by: str
    tower: TextTower | None
    sizes: TextConfig
    tokenizer: Tokenizer


def open_teacher(source: str, overrides: Overrides | None = None, vocabulary: Path | None = None) -> Teacher:
    """The teacher at ``source``: ``demo``, the folder of a bundle, or whatever ``sayclip export clip`` reads.

    Raises BundleError, CheckpointError or InputError.
    """
    folder = named_folder(source)
    if (folder / FILE).is_file():
        if overrides is not None:
            overrides.finish()
        return _of_bundle(folder)
    return _of_checkpoint(read_clip(source, overrides, vocabulary))


def named_folder(source: str) -> Path:
    """The path ``source``; for ``demo``, unless there is a bundle of that name, the installed demo's bundle.

    Raises InputError where that is not installed.
    """
    demo = demo_folder() if source == DEMO and not Path(DEMO, FILE).is_file() else None
    if source == DEMO and demo is None and not Path(source).exists():
        raise InputError("sayclip-demo is not installed", "`pip install ./demo`, or name a bundle or a CLIP")
    return demo / "bundle" if demo else Path(source).expanduser()


def _of_checkpoint(checkpoint: ClipCheckpoint) -> Teacher:
    tower, settings = checkpoint.text, checkpoint.picture
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.txt"
        checkpoint.merges.write(path)
        tokenizer = Tokenizer.from_file(path, context=tower.config.context)
        vocabulary = path.read_text(encoding="utf-8")
    identity = [checkpoint.weights_sha256, json.dumps(checkpoint.text_config.to_dict()), vocabulary]
    return Teacher(
        *(checkpoint.name, checkpoint.layout, cache.digest(identity), space_id(checkpoint), tower.config.embedding),
        unit=False,
        read=reader(tower, tokenizer),
        see=seeing(checkpoint.image, settings),
        seen_by=cache.digest([checkpoint.weights_sha256, json.dumps(asdict(settings))]),
        tower=tower,
        sizes=tower.config,
        tokenizer=tokenizer,
    )


def _of_bundle(folder: Path) -> Teacher:
    manifest = Manifest.read(folder)
    entry, how = manifest.entry("text"), manifest.entry("text").preprocessing
    graph = entry.graphs.get("fp32")
    if graph is None:
        raise BundleError(
            f"the text encoder of bundle {manifest.name} has {', '.join(entry.graphs)} and no fp32 graph",
            "name a bundle that has one",
        )
    assert isinstance(how, TextPreprocessing)  # reading the manifest refuses any other
    verify_files(manifest)
    tokenizer = Tokenizer.from_file(manifest.path(how.tokenizer.file), context=how.context)
    given = entry.provenance.get("architecture")
    sizes: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    tower = text_graph.recover(manifest.path(graph.file), sizes)
    if tower is not None and tower.config.vocabulary < tokenizer.vocabulary_size:
        tower = None  # whose table the ids would overrun
    encoder = sayclip.load(folder, backend="onnxruntime", precision="fp32")

    def read(texts: Sequence[str]) -> NDArray[np.float32]:
        return encoder.text(list(texts))

    image = manifest.encoders.get("image")
    how_precise = "fp32" if image and "fp32" in image.graphs else "auto"

    def see(paths: Sequence[Path]) -> NDArray[np.float32]:
        with sayclip.load(folder, precision=how_precise) as seeing:
            return seeing.image(list(paths))

    files = [graph.sha256, *(file.sha256 for file in graph.data), how.tokenizer.sha256]
    return Teacher(
        *(manifest.name, "sayclip bundle", cache.digest(files), manifest.space, manifest.width),
        unit=tower is None,
        read=read if tower is None else reader(tower, tokenizer),
        see=see if image else None,
        seen_by=cache.digest(image.graphs[name].sha256 for name in sorted(image.graphs)) if image else "",
        tower=tower,
        sizes=_sizes(sizes, manifest.width, how.context) if tower is None else tower.config,
        tokenizer=tokenizer,
    )


def seeing(tower: nn.Module, how: PicturePreprocessing) -> See:
    """What the image ``tower`` makes of pictures that are prepared as ``how`` says."""
    settings = PictureSettings(how.size, how.mean, how.std, how.resample, how.resize)

    def see(paths: Sequence[Path]) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(paths), AT_ONCE):
                pixels = np.stack([read_picture(path, settings) for path in paths[start : start + AT_ONCE]])
                rows.append(tower(torch.from_numpy(pixels)).numpy())
        return np.concatenate(rows)

    return see


def reader(tower: TextTower, tokenizer: Tokenizer) -> Read:
    """What ``tower`` makes of texts, before it is brought to length 1."""

    def read(texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.empty((len(texts), tower.config.embedding), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(texts), AT_ONCE):
                places = order[start : start + AT_ONCE]
                ids, length = pad_tokens(tokenizer, [texts[place] for place in places])
                found[places] = tower.features(tower.token_embedding(ids), length).numpy()
        return found

    return read


def _sizes(given: Mapping[str, Any], width: int, context: int) -> TextConfig:
    """The sizes that a bundle names for its text encoder, and those of a small one where it does not."""
    plain = TextConfig(1, context=context, embedding=width)
    known = {field.name: type(getattr(plain, field.name)) for field in fields(TextConfig)}
    named = {key: value for key, value in given.items() if key in known and type(value) is known[key]}
    return replace(plain, **{**named, "embedding": width, "context": context, "vocabulary": 1, "dropout": 0.0})
