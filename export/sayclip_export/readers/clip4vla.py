"""Checkpoints of CLIP4VLA (``pytorch_model.bin.*``): audio, image and text towers, mapped to ours by key.

Every key is used, or dropped by a rule of ``clip4vla_names``, or refused; fp16 and fp32 may be mixed and become fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.files import sha256_of
from sayclip.bundle.log_mel_entry import CUTS, EDGES, LogMelPreprocessing
from sayclip.errors import InputError
from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.models.clip4vla import ClipAudio, ClipAudioConfig
from sayclip_export.readers.clip4vla_file import REMEDY, read_state_dict
from sayclip_export.readers.clip4vla_names import Source, cross_layouts, sort_left_over, text_sources, vision_sources
from sayclip_export.readers.clip4vla_sizes import Shapes
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.picture_settings import MEAN, STD
from sayclip_export.readers.tensors import as_float32

AUDIO, IMAGE, TEXT = "audio.visual.", "clip.visual.", "clip."
AUDIO_ALONE = "visual."
_CONTEXT = 32  # CLIP4VLA was trained on texts of so many tokens, though its table has 77 places


@dataclass(frozen=True)
class Clip4VlaCheckpoint:
    """A whole CLIP4VLA, ready for export: its towers in fp32 and evaluation mode, and what goes before them.

    ``cross``: the layout of its fusion transformer, ``CLIP-like``, ``BERT-like`` or empty; ``dropped``: how many keys
    each rule left behind. ``context``: tokens that a text is cut to. ``weights_sha256``: of the file, in hex.
    """

    path: Path
    audio: ClipAudio
    image: ClipImage
    text: ClipText
    audio_config: ClipAudioConfig
    image_config: ClipImageConfig
    text_config: ClipTextConfig
    log_mel: LogMelPreprocessing
    picture: PicturePreprocessing
    context: int
    cross: str
    dropped: Mapping[str, int]
    weights_sha256: str


@dataclass(frozen=True)
class Arrangement:
    """What a file's keys and shapes make: sizes and sources by tower, and the keys that are dropped, by rule."""

    audio: ClipAudioConfig
    image: ClipImageConfig | None
    text: ClipTextConfig | None
    sources: Mapping[str, Mapping[str, Source]]
    dropped: Mapping[str, list[str]]
    cross: str


def read_clip4vla(path: Path, overrides: Overrides) -> Clip4VlaCheckpoint:
    """Read the CLIP4VLA in ``path``.

    Taken from ``overrides``: ``audio.heads``, ``image.heads``, ``text.heads`` (default: width / 64), ``audio.edge``
    (reflect), ``audio.segments`` (10), ``audio.cut`` (centre), ``audio.type_mix`` (0.5), ``text.context`` (32).
    Raises CheckpointError, naming the file and the key, InputError for a wrong override.
    """
    tensors = read_state_dict(path)
    found = arrange(tensors, path, overrides)
    if found.image is None or found.text is None:
        raise refuse(f"{path} holds an audio tower alone, wanted the image and text towers of its space too", REMEDY)
    log_mel = _log_mel(overrides, found.audio.size)
    context = min(found.text.context, overrides.integer("text.context", _CONTEXT) or _CONTEXT)
    if context < 3:
        raise InputError(f"--set text.context={context}, wanted at least 3", "leave it out")
    overrides.finish()
    with torch.device("meta"):
        audio, image = ClipAudio(found.audio), ClipImage(found.image)
    text = ClipText(found.text)
    for name, tower in (("audio", audio), ("image", image), ("text", text)):
        _load(tower, found.sources[name], tensors, path)
    return Clip4VlaCheckpoint(
        path,
        audio,
        image,
        text,
        found.audio,
        found.image,
        found.text,
        log_mel,
        PicturePreprocessing(found.image.size, MEAN, STD),
        context,
        found.cross,
        {rule: len(keys) for rule, keys in found.dropped.items()},
        sha256_of(path),
    )


def arrange(tensors: Mapping[str, Tensor], path: Path, overrides: Overrides) -> Arrangement:
    """Sort the keys of ``tensors``, whose values are never looked at, so that meta tensors will do.

    A file of the audio tower alone, under ``visual.``, is recognised too. Raises CheckpointError for a key that is
    missing, left over or of the wrong shape.
    """
    shapes = Shapes(tensors, path, overrides)
    alone = f"{AUDIO_ALONE}control_embedding" in tensors
    prefix = AUDIO_ALONE if alone else AUDIO
    if not any(key.startswith(prefix) for key in tensors):
        first = min(tensors, default="nothing")
        raise refuse(f"{path} holds {first}, but no {prefix}*, wanted the keys of CLIP4VLA", REMEDY)
    audio = shapes.audio(prefix)
    image, text = (None, None) if alone else (shapes.image(IMAGE), shapes.text(TEXT))
    with torch.device("meta"):
        towers: dict[str, nn.Module] = {"audio": ClipAudio(audio)}
        if image is not None and text is not None:
            towers |= {"image": ClipImage(image), "text": ClipText(text)}
    sources = {"audio": vision_sources(towers["audio"], prefix)}
    if not alone:
        sources |= {"image": vision_sources(towers["image"], IMAGE), "text": text_sources(towers["text"], TEXT)}
    used: set[str] = set()
    for name, tower in towers.items():
        for ours, empty in tower.state_dict().items():
            source = sources[name][ours]
            _check(source, empty, tensors, path)
            used.add(source.key)
    dropped, unknown = sort_left_over(set(tensors) - used)
    if unknown:
        more = f" and {len(unknown) - 1} more keys" if unknown[1:] else ""
        raise refuse(f"{path} holds {unknown[0]}{more}, which CLIP4VLA does not have", REMEDY)
    layouts = cross_layouts(dropped)
    if len(layouts) > 1:
        raise refuse(f"{path} holds cross.* in the layouts {' and '.join(layouts)}, wanted one of them", REMEDY)
    _check_widths(audio, image, text, path)
    return Arrangement(audio, image, text, sources, dropped, "".join(layouts))


def _check(source: Source, ours: Tensor, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = source.shape(ours)
    if source.key not in tensors:
        raise refuse(f"{path} lacks {source.key}, wanted {wanted}", REMEDY)
    if list(tensors[source.key].shape) != wanted:
        raise refuse(f"{path}: {source.key} has the shape {list(tensors[source.key].shape)}, wanted {wanted}", REMEDY)


def _check_widths(
    audio: ClipAudioConfig, image: ClipImageConfig | None, text: ClipTextConfig | None, path: Path
) -> None:
    widths = {config.embedding for config in (audio, image, text) if config is not None}
    if len(widths) > 1:
        raise CheckpointError(f"{path}: its towers end in the widths {sorted(widths)}, wanted one for all", REMEDY)


def _load(tower: nn.Module, sources: Mapping[str, Source], tensors: Mapping[str, Tensor], path: Path) -> None:
    state = {ours: as_float32(source.key, source.cut(tensors[source.key]), path) for ours, source in sources.items()}
    tower.load_state_dict(state, assign=True)
    tower.requires_grad_(False)
    tower.eval()


def _log_mel(overrides: Overrides, size: int) -> LogMelPreprocessing:
    """The front end as CLIP4VLA was trained on it; what differs from training to training can be told."""
    default = LogMelPreprocessing()
    value = overrides.text("audio.type_mix")
    try:
        mix = default.type_mix if value is None else float(value)
    except ValueError:
        mix = -1.0
    if not 0 <= mix <= 1:
        raise InputError(f"--set audio.type_mix={value}, wanted a number from 0 to 1", "correct the value")
    return LogMelPreprocessing(
        mels=size,
        edge=overrides.text("audio.edge", default.edge, EDGES) or default.edge,
        max_segments=overrides.integer("audio.segments", default.max_segments) or default.max_segments,
        cut=overrides.text("audio.cut", default.cut, CUTS) or default.cut,
        type_mix=mix,
    )
