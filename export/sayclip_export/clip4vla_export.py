"""CLIP4VLA to a new bundle with audio, image and text encoders, all fp32 and held against torch.

Only encoders are exported: the fusion transformer scores pairs, and what it gives cannot be searched. Embeddings are
those of the towers alone, the model's ``feat_avg``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import sayclip
from sayclip.bundle.entries import EncoderEntry, Preprocessing, TextPreprocessing
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.errors import SayclipError
from sayclip.inputs.log_mel import log_mel_images
from sayclip.inputs.pictures import PictureSettings, read_picture
from sayclip.preparation import log_mel_settings
from sayclip.text.tokenizer import Tokenizer
from sayclip.text.vocabulary import read_merges
from sayclip_export import graphs
from sayclip_export.bundling import describe_encoder, describe_graph, write_reference
from sayclip_export.clip_export import CAPTIONS, TOKENIZER, fresh_folder, sample_pictures, space_id, text_feed
from sayclip_export.graphs import Feeds
from sayclip_export.readers.clip4vla import Clip4VlaCheckpoint, read_clip4vla
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_EXTRA_TOKENS = 3  # mask, unknown and padding, which no text holds


@dataclass(frozen=True)
class _Part:
    """One encoder to be: its module, what goes before it, real inputs and random ones, and its sizes."""

    module: nn.Module
    preprocessing: Preprocessing
    reference: Feeds
    random: Callable[[np.random.Generator], Feeds]
    architecture: Mapping[str, object]


def export_audio(
    path: Path,
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
) -> Manifest:
    """Convert the CLIP4VLA checkpoint ``path`` to the new bundle ``out``; returns its manifest.

    ``overrides``: see ``read_clip4vla``. ``vocabulary``: CLIP's list of merges; None takes it from an installed
    open_clip_torch, of which that one file is read. ``say`` is given one line a step. Raises CheckpointError for a
    checkpoint that cannot be converted or an ``out`` that is there already, InputError for a wrong override,
    BundleError where a graph is further than 1e-4 from torch; then nothing is left at or beside ``out``.
    """
    if os.path.lexists(out):
        raise CheckpointError(
            f"{out} exists already, and this version writes new bundles only", "name a folder that is not there"
        )
    merges = _merges(vocabulary)
    checkpoint = read_clip4vla(path, overrides or Overrides())
    _check_vocabulary(checkpoint, merges)
    say(f"read {path.name}: {_describe(checkpoint)}")
    with fresh_folder(out) as fresh:
        _fill(fresh, checkpoint, merges, say)
        Manifest.read(fresh)
    return Manifest.read(out)


def sample_sounds(sample_rate: int) -> list[NDArray[np.float64]]:
    """Four synthetic sounds float64 [S,2] of a second, the same every time: a sweep, tones, knocks, and noise."""
    t = np.arange(sample_rate) / sample_rate
    sweep = np.stack([0.4 * np.sin(2 * np.pi * (200 + a * t) * t) for a in (600, 900)], axis=1)
    tones = np.stack([0.2 * sum(np.sin(2 * np.pi * f * k * t) for k in (1, 2, 3)) for f in (220, 330)], axis=1)
    knocks = np.sin(2 * np.pi * 150 * t) * np.exp(-30 * (t % 0.25))
    noise = np.random.default_rng(0).normal(0, 0.1, (sample_rate, 2)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))[:, None]
    return [sweep, tones, np.stack([0.8 * knocks, 0.3 * knocks], axis=1), noise]


def _describe(checkpoint: Clip4VlaCheckpoint) -> str:
    """Its sizes and what is left behind, such as ``audio 768 wide, 12 layers, joint width 512; dropped: ...``."""
    audio = checkpoint.audio_config
    dropped = ", ".join(f"{rule} ({count})" for rule, count in checkpoint.dropped.items())
    words = f"audio {audio.width} wide, {audio.layers} layers, joint width {audio.embedding}"
    return f"{words}; dropped: {dropped}" if dropped else words


def _merges(vocabulary: Path | None) -> list[tuple[str, str]]:
    if vocabulary is None:
        spec = importlib.util.find_spec("open_clip")
        vocabulary = Path(spec.origin).with_name(VOCABULARY) if spec is not None and spec.origin else None
    if vocabulary is None:
        raise CheckpointError(
            "this checkpoint comes without CLIP's vocabulary",
            f"`pip install --no-deps open_clip_torch`, whose {VOCABULARY} is then read, or name one with --vocabulary",
        )
    try:
        return read_merges(vocabulary)
    except SayclipError as error:
        raise CheckpointError(error.problem, f"give CLIP's {VOCABULARY}") from None


def _check_vocabulary(checkpoint: Clip4VlaCheckpoint, merges: list[tuple[str, str]]) -> None:
    tokens = Tokenizer(merges).vocabulary_size + _EXTRA_TOKENS
    rows = checkpoint.text_config.vocabulary
    if rows != tokens:
        raise CheckpointError(
            f"{checkpoint.path}: clip.token_embedding.weight has {rows} rows, the vocabulary and CLIP4VLA's "
            f"{_EXTRA_TOKENS} own tokens want {tokens}",
            "give the vocabulary that the checkpoint was trained with",
        )


def _fill(
    fresh: Path, checkpoint: Clip4VlaCheckpoint, merges: list[tuple[str, str]], say: Callable[[str], None]
) -> None:
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (fresh / TOKENIZER).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    space = space_id(checkpoint)
    parts = {"audio": _audio(checkpoint), "image": _image(checkpoint), "text": _text(checkpoint, fresh)}
    Manifest(
        name=checkpoint.path.resolve().name,
        space=space,
        width=checkpoint.image_config.embedding,
        encoders={name: _encoder(fresh, name, part, checkpoint, space, say) for name, part in parts.items()},
        created_by=f"sayclip-toolkit {sayclip.__version__}",
    ).write(fresh)


def _audio(checkpoint: Clip4VlaCheckpoint) -> _Part:
    how, side = checkpoint.log_mel, checkpoint.audio_config.size
    settings = log_mel_settings(how)
    segments = np.stack([log_mel_images(sound, settings)[0] for sound in sample_sounds(how.sample_rate)])
    mix = np.array([0, 0.5, 1, how.type_mix], np.float32)

    def random(rng: np.random.Generator) -> Feeds:
        count = int(rng.integers(1, 3))
        segments = rng.standard_normal((count, 3, side, side)).astype(np.float32)
        return {"segments": segments, "type_mix": rng.random(count, np.float32)}

    reference: Feeds = {"segments": segments, "type_mix": mix}
    return _Part(checkpoint.audio, how, reference, random, checkpoint.audio_config.to_dict())


def _image(checkpoint: Clip4VlaCheckpoint) -> _Part:
    how = checkpoint.picture
    settings = PictureSettings(how.size, how.mean, how.std, how.resample, how.resize)
    reference: Feeds = {"pixels": np.stack([read_picture(picture, settings) for picture in sample_pictures()])}

    def random(rng: np.random.Generator) -> Feeds:
        shape = (int(rng.integers(1, 3)), 3, how.size, how.size)
        return {"pixels": rng.standard_normal(shape).astype(np.float32)}

    return _Part(checkpoint.image, how, reference, random, checkpoint.image_config.to_dict())


def _text(checkpoint: Clip4VlaCheckpoint, fresh: Path) -> _Part:
    tokenizer = Tokenizer.from_file(fresh / TOKENIZER, context=checkpoint.context)
    how = TextPreprocessing(describe_file(fresh, TOKENIZER), checkpoint.context)
    reference = text_feed([tokenizer.encode(caption) for caption in CAPTIONS], tokenizer.eot)

    def random(rng: np.random.Generator) -> Feeds:
        lengths = rng.integers(3, checkpoint.context + 1, int(rng.integers(1, 4)))
        middle = [rng.integers(0, tokenizer.sot, length - 2).tolist() for length in lengths]
        return text_feed([[tokenizer.sot, *ids, tokenizer.eot] for ids in middle], tokenizer.eot)

    return _Part(checkpoint.text, how, reference, random, checkpoint.text_config.to_dict())


def _encoder(
    fresh: Path, name: str, part: _Part, checkpoint: Clip4VlaCheckpoint, space: str, say: Callable[[str], None]
) -> EncoderEntry:
    graph = fresh / f"{name}.fp32.onnx"
    graphs.export_graph(name, part.module, [torch.from_numpy(value[:2]) for value in part.reference.values()], graph)
    agreement = graphs.verify(graph, part.module, [part.reference, *graphs.random_shapes(part.random)])
    graphs.require(agreement, graph)
    parameters = sum(parameter.numel() for parameter in part.module.parameters())
    say(f"{name}: {parameters:,} parameters, fp32 differs from torch by {agreement.largest:.1e}")
    provenance: dict[str, Any] = {
        "source": checkpoint.path.resolve().name,
        "sha256": checkpoint.weights_sha256,
        "format": "CLIP4VLA state dict",
        "converter": f"sayclip-toolkit {sayclip.__version__}, torch {torch.__version__.split('+')[0]}",
        "architecture": dict(part.architecture),
        "dropped": dict(checkpoint.dropped),
    }
    measured = {
        "parameters": parameters,
        "torch_max_abs_difference": agreement.largest,
        "torch_min_cosine": agreement.cosine,
        "torch_shapes": agreement.shapes,
    }
    return describe_encoder(
        fresh,
        name,
        space,
        checkpoint.image_config.embedding,
        {"fp32": describe_graph(fresh, graph.name)},
        part.preprocessing,
        write_reference(fresh, name, part.reference),
        provenance,
        measured,
    )
