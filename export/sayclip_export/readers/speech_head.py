"""The file of a trained head on a speech tower: safetensors, with all that makes an encoder of it in the metadata.

It holds every weight of the encoder, the frozen ones too. Keys of the metadata: ``format``; ``config`` as JSON, with
``kind``, ``head`` (a HeadConfig), ``speech`` (the sizes that the tower's frames hang on) and ``trim``; ``space``, the
embedding space it was trained for; ``tokens``, a hash of the token table, empty for a head without; ``history``.
``text`` of ``head`` says of what ``kind`` the text side is: ``roberta``, or without it CLIP's. For a RoBERTa, which no
bundle holds, ``words`` is JSON: the word of every id that the head may choose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sayclip.bundle.files import sha256_of
from sayclip_export.models.layers import ACTIVATIONS
from sayclip_export.models.roberta import RobertaConfig
from sayclip_export.models.segmental import (
    KINDS,
    VOCABULARIES,
    BranchHead,
    HeadConfig,
    SegmentalHead,
    SegmentalSpeech,
    build_head,
)
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.models.text import TextConfig
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.tensors import as_float32, read_safetensors
from sayclip_export.readers.trained import json_object, read_metadata, write_tensors

FORMAT = "sayclip-speech-1"
MOST_LAYERS, MOST_TOKENS, LARGEST = 128, 1 << 18, 8192  # of layers, of rows of the table, of every other size
_SPEECH = ("sample_rate", "window", "hop", "mels", "width", "layers", "heads", "hidden")
_HEAD_SIZES = ("heads", "keywords", "slots", "cif_kernel", "segment_hidden")
_HEAD_NUMBERS = ("tail", "threshold", "eps", "temperature")
_ABSENT = ("hidden", "cif_layers", "detector", "layers")  # sizes that may be 0
CLIP, ROBERTA = "clip", "roberta"  # kinds of text side
_COUNTER = "num_batches_tracked"
_REMEDY = "name a file that `sayclip train` wrote"


@dataclass(frozen=True)
class SpeechHeadCheckpoint:
    """``speech``: the whole encoder, not folded. ``space``: id of the embedding space that it was trained for.

    ``trim``: whether silence was cut off both ends of what it learnt from, so that the runtime does so too. ``words``
    by token id, at least those that a head on a RoBERTa may choose; empty for one on CLIP's text tower.
    """

    speech: SegmentalSpeech
    space: str
    history: str
    trim: bool = True
    sha256: str = ""
    words: Mapping[int, str] = field(default_factory=dict)


def table_sha256(table: Tensor) -> str:
    """SHA-256 (hex) of a token table f32 [V,W]: ids mean the same tokens where this is the same."""
    return hashlib.sha256(table.detach().to("cpu", torch.float32).contiguous().numpy().data).hexdigest()


def write_speech_head(path: Path, checkpoint: SpeechHeadCheckpoint) -> None:
    """Write ``checkpoint`` to ``path``, which is replaced only when all of it is written.

    Raises ValueError for an encoder whose batch norm is folded: what was trained cannot be told any more; and for one
    on a RoBERTa that may choose an id without a word.
    """
    speech = checkpoint.speech
    state = {key: value.contiguous() for key, value in speech.state_dict().items() if not key.endswith(_COUNTER)}
    if any(key.endswith("norm.scale") for key in state):
        raise ValueError("the encoder is folded, wanted it as it was trained: write its file first")
    sizes = asdict(speech.tower.config)
    config = {
        "kind": speech.kind,
        "head": speech.head.config.to_dict(),
        "speech": {name: sizes[name] for name in _SPEECH},
        "trim": checkpoint.trim,
    }
    reader = speech.head.reader
    ids = _needed(speech.head)
    if not checkpoint.words.keys() >= set(ids):
        raise ValueError("the head may choose ids without a word, wanted the words of all of them")
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config),
        "space": checkpoint.space,
        "tokens": "" if reader is None else table_sha256(reader.text.token_embedding.weight),
        "history": checkpoint.history,
    }
    if ids:
        metadata["words"] = json.dumps({number: checkpoint.words[number] for number in ids}, ensure_ascii=False)
    write_tensors(path, state, metadata)


def read_speech_head(path: Path) -> SpeechHeadCheckpoint:
    """Read ``path``. Raises CheckpointError for a file that is damaged, of another kind, or at odds with itself."""
    if not path.is_file():
        raise refuse(f"{path} is no file", _REMEDY)
    metadata = read_metadata(path, FORMAT, _REMEDY)
    tensors = read_safetensors(path)
    settings = Settings(json_object(metadata, "config", path, _REMEDY), f"{path}: config")
    kind = settings.choice("kind", "", KINDS)
    speech, head = _speech(_section(settings, "speech")), _head(_section(settings, "head"))
    if not metadata.get("space"):
        raise refuse(f"{path} names no space", _REMEDY)
    if head.width != speech.width:
        raise refuse(f"{path}: the head reads frames of {head.width}, the tower gives {speech.width}", _REMEDY)
    try:
        with torch.device("meta"):  # nothing of the sizes that a file claims is held before its tensors have them
            claimed = _module(kind, head, speech).state_dict()
    except (ValueError, RuntimeError) as error:
        raise refuse(f"{path}: config is of no use ({error})", _REMEDY) from None
    state = _checked({key: value for key, value in claimed.items() if not key.endswith(_COUNTER)}, tensors, path)
    module = _module(kind, head, speech)
    module.load_state_dict(state, strict=False)
    reader = module.head.reader
    if reader is not None and table_sha256(reader.text.token_embedding.weight) != metadata.get("tokens"):
        raise refuse(f"{path}: the token table is not the one whose hash it names", _REMEDY)
    words = _words(_needed(module.head), metadata, path)
    trim, history = settings.flag("trim", True), metadata.get("history", "")
    return SpeechHeadCheckpoint(module.eval(), metadata["space"], history, trim, sha256_of(path), words)


def _needed(head: BranchHead | SegmentalHead) -> list[int]:
    """The ids, ascending, whose words the file must hold: all that a head on a RoBERTa may choose."""
    if head.reader is None or not isinstance(head.config.text, RobertaConfig):
        return []
    return (head.reader.barred == 0).nonzero()[:, 0].tolist()


def _words(ids: list[int], metadata: Mapping[str, str], path: Path) -> dict[int, str]:
    if not ids:
        return {}
    given = json_object(metadata, "words", path, _REMEDY)
    words: dict[int, str] = {}
    for number in ids:
        word = given.get(str(number))
        if not isinstance(word, str) or not word.strip() or not word.isprintable():
            raise refuse(f"{path}: the word of token {number} is {str(word)[:40]!r}, wanted one that shows", _REMEDY)
        words[number] = word
    return words


def _module(kind: str, head: HeadConfig, speech: SpeechConfig) -> SegmentalSpeech:
    return SegmentalSpeech(SpeechTower(speech), build_head(kind, head))


def _checked(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise refuse(f"{path} {'lacks' if odd[0] in wanted else 'has the unknown'} {odd[0]}", _REMEDY)
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            shapes = f"{list(tensors[key].shape)}, wanted {list(value.shape)}"
            raise refuse(f"{path}: {key} has the shape {shapes}", _REMEDY)
    state = {key: as_float32(key, tensors[key], path) for key in wanted}
    for key, value in state.items():
        if key.endswith("running_var") and float(value.min()) < 0:
            raise refuse(f"{path}: {key} reaches {float(value.min()):g}, wanted no variance below 0", _REMEDY)
    return state


def _section(settings: Settings, key: str) -> Settings:
    section = settings.section(key)
    if section is None:
        raise settings.wrong(key, "an object")
    return section


def _size(settings: Settings, name: str, low: int = 1, high: int = LARGEST) -> int:
    value = settings.data.get(name)
    if type(value) is not int or not low <= value <= high:
        raise settings.wrong(name, f"a whole number from {low} to {high}")
    return value


def _speech(settings: Settings) -> SpeechConfig:
    """The tower as far as its frames go; what would sit on them is made as small as can be, and thrown away."""
    most = {"sample_rate": 1 << 18, "layers": MOST_LAYERS}
    sizes = {name: _size(settings, name, high=most.get(name, LARGEST)) for name in _SPEECH}
    config = SpeechConfig(**sizes, head_heads=1, head_hidden=1, pools=1, embedding=1)
    if config.width % config.heads:
        problem = f"{settings.where} has width {config.width} for {config.heads} heads, wanted a multiple"
        raise refuse(problem, _REMEDY)
    return config


def _head(settings: Settings) -> HeadConfig:
    layers = {"layers": MOST_LAYERS, "cif_layers": MOST_LAYERS}
    text = _text(_section(settings, "text"))
    given: dict[str, Any] = {name: _size(settings, name) for name in _HEAD_SIZES}
    given |= {name: _size(settings, name, 0, layers.get(name, LARGEST)) for name in _ABSENT}
    given |= {name: settings.number(name, getattr(HeadConfig, name)) for name in _HEAD_NUMBERS}
    given["vocabulary"] = settings.choice("vocabulary", "none", VOCABULARIES)
    try:
        return HeadConfig(_size(settings, "width"), text, **given)
    except ValueError as error:
        raise refuse(f"{settings.where}: {error}", _REMEDY) from None


def _text(settings: Settings) -> TextConfig | RobertaConfig:
    if settings.choice("kind", CLIP, (CLIP, ROBERTA)) == ROBERTA:
        return _roberta(settings)
    return TextConfig(**_common(settings, "context"), **_norms(settings, "quick_gelu"))


def _roberta(settings: Settings) -> RobertaConfig:
    rows: dict[str, Any] = {name: _size(settings, name, 0, MOST_TOKENS) for name in ("start", "end", "padding")}
    sizes = _common(settings, "positions")
    try:
        return RobertaConfig(**sizes, **rows, **_norms(settings, "gelu"))
    except ValueError as error:
        raise refuse(f"{settings.where}: {error}", _REMEDY) from None


def _common(settings: Settings, length: str) -> dict[str, Any]:
    """The sizes that every text side has; ``length``: how it calls the most that it can read."""
    most = {"vocabulary": MOST_TOKENS, "layers": MOST_LAYERS}
    names = ("vocabulary", "width", "layers", "heads", "hidden", length, "embedding")
    return {name: _size(settings, name, high=most.get(name, LARGEST)) for name in names}


def _norms(settings: Settings, activation: str) -> dict[str, Any]:
    found = settings.choice("activation", activation, ACTIVATIONS)
    return {"activation": found, "eps": settings.number("eps", 1e-5)}
