"""What a bundle's manifest says about one encoder: its files, graphs, preprocessing and reference outputs.

Each entry is a frozen dataclass with ``from_fields`` (validates; BundleError) and ``to_dict`` (JSON-ready).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sayclip.bundle.fields import Fields, is_number, refuse, shown
from sayclip.bundle.log_mel_entry import LogMelPreprocessing

if TYPE_CHECKING:
    from typing import TypeAlias

SHA256 = "[0-9a-f]{64}"
DTYPES = ("float32", "float16", "int8", "uint8", "int32", "int64", "bool")


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle: its path inside the folder (POSIX, relative), SHA-256 in hex and size in bytes."""

    file: str
    sha256: str
    bytes: int

    @classmethod
    def from_fields(cls, data: Fields) -> FileEntry:
        name = data.text("file")
        parts = name.split("/")
        if "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise refuse(f"{data.where}.file is {shown(name)}, wanted a relative path that stays inside the bundle")
        return cls(name, data.text("sha256", pattern=SHA256), data.integer("bytes"))

    def to_dict(self) -> dict[str, Any]:
        return {"file": self.file, "sha256": self.sha256, "bytes": self.bytes}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; a dimension is a size, or a name where it is free. ``dtype`` is numpy's name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @classmethod
    def from_fields(cls, data: Fields) -> TensorSpec:
        shape = data.items("shape")
        for size in shape:
            named = isinstance(size, str) and size != ""
            if not named and not (isinstance(size, int) and not isinstance(size, bool) and size > 0):
                raise data.wrong("shape", "a list of positive sizes or names")
        return cls(data.text("name"), data.text("dtype", one_of=DTYPES), tuple(shape))

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


def _tensors(data: Fields, key: str) -> tuple[TensorSpec, ...]:
    found = [Fields(item, f"{data.where}.{key}[{i}]") for i, item in enumerate(data.items(key))]
    tensors = tuple(TensorSpec.from_fields(item) for item in found)
    names = [tensor.name for tensor in tensors]
    if not names or len(set(names)) < len(names):
        raise refuse(f"{data.where}.{key} has the names {shown(names)}, wanted at least one and each once")
    return tensors


@dataclass(frozen=True)
class GraphEntry(FileEntry):
    """An ONNX graph at one precision; ``data`` are the files of external weights that it refers to."""

    data: tuple[FileEntry, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def from_fields(cls, data: Fields) -> GraphEntry:
        own = FileEntry.from_fields(data)
        external = [Fields(item, f"{data.where}.data[{i}]") for i, item in enumerate(data.items("data"))]
        files = tuple(FileEntry.from_fields(item) for item in external)
        return cls(own.file, own.sha256, own.bytes, files, _tensors(data, "inputs"), _tensors(data, "outputs"))

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "data": [file.to_dict() for file in self.data],
            "inputs": [tensor.to_dict() for tensor in self.inputs],
            "outputs": [tensor.to_dict() for tensor in self.outputs],
        }


@dataclass(frozen=True)
class Reference(FileEntry):
    """Real inputs and their fp32 outputs, with a tolerance per precision.

    For fp32 the tolerance is the largest absolute difference allowed, for any other precision the smallest cosine.
    """

    tolerance: Mapping[str, float]

    @classmethod
    def from_fields(cls, data: Fields) -> Reference:
        own = FileEntry.from_fields(data)
        limits = data.object("tolerance")
        for precision, limit in limits.data.items():
            if not is_number(limit, 0.0, 1.0):
                raise limits.wrong(precision, "a number from 0 to 1")
        return cls(own.file, own.sha256, own.bytes, {key: float(value) for key, value in limits.data.items()})

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "tolerance": dict(self.tolerance)}


@dataclass(frozen=True)
class PicturePreprocessing:
    """Square RGB input of ``size`` pixels; ``mean`` and ``std`` are those of channels scaled to [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: str = "bicubic"
    resize: str = "shortest"
    kind: str = field(default="picture", init=False)

    @classmethod
    def from_fields(cls, data: Fields) -> PicturePreprocessing:
        mean, std = data.numbers("mean", count=3), data.numbers("std", count=3, low=1e-6)
        return cls(
            data.integer("size", low=1, high=4096),
            (mean[0], mean[1], mean[2]),
            (std[0], std[1], std[2]),
            data.text("resample", "bicubic", one_of=("bicubic", "bilinear", "lanczos", "nearest", "box", "hamming")),
            data.text("resize", "shortest", one_of=("shortest", "squash")),
        )


@dataclass(frozen=True)
class TextPreprocessing:
    """A byte-pair encoding in the format of CLIP's vocabulary, cut to ``context`` tokens."""

    tokenizer: FileEntry
    context: int = 77
    kind: str = field(default="text", init=False)

    @classmethod
    def from_fields(cls, data: Fields) -> TextPreprocessing:
        return cls(FileEntry.from_fields(data.object("tokenizer")), data.integer("context", 77, low=3, high=65536))


@dataclass(frozen=True)
class G2P:
    """The grapheme-to-phoneme converter that made the IPA an encoder was trained on.

    ``language``: the one that words are read in unless another is asked for, such as ``en-us``; ``also``: further ones
    that the encoder was trained on.
    """

    name: str
    version: str
    language: str
    also: tuple[str, ...] = ()

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages that the encoder was trained on."""
        return (self.language, *self.also)


@dataclass(frozen=True)
class PhonemePreprocessing:
    """IPA segments looked up in the file ``inventory``, cut to ``context`` ids."""

    inventory: FileEntry
    g2p: G2P
    context: int = 77
    kind: str = field(default="phonemes", init=False)

    @classmethod
    def from_fields(cls, data: Fields) -> PhonemePreprocessing:
        g2p = data.object("g2p")
        also = g2p.items("also")
        if not all(isinstance(language, str) and language for language in also):
            raise g2p.wrong("also", "a list of languages")
        return cls(
            FileEntry.from_fields(data.object("inventory")),
            G2P(g2p.text("name"), g2p.text("version", ""), g2p.text("language", "en-us"), tuple(also)),
            data.integer("context", 77, low=3, high=65536),
        )


_STEPS = 8
"""Lengths of recordings to an octave, of those above half a second."""


@dataclass(frozen=True)
class AudioPreprocessing:
    """Mono waveform at ``sample_rate`` Hz; ``front`` tells what the graph computes first and is only informative.

    ``buckets`` are lengths in seconds that batches are padded up to, see ``padded``. ``trim``: silence is cut off both
    ends first. ``keywords``: the words of the keywords that the graph gives, if it gives any.
    """

    sample_rate: int = 16000
    normalisation: str = "none"
    min_seconds: float = 0.05
    max_seconds: float = 20.0
    front: str = ""
    buckets: tuple[float, ...] = ()
    trim: bool = False
    keywords: FileEntry | None = None
    kind: str = field(default="audio", init=False)

    @classmethod
    def from_fields(cls, data: Fields) -> AudioPreprocessing:
        shortest = data.number("min_seconds", 0.05, low=0.0)
        longest = data.number("max_seconds", 20.0, low=0.0)
        if longest <= shortest:
            raise data.wrong("max_seconds", f"more than min_seconds, {shortest:g}")
        return cls(
            data.integer("sample_rate", low=4000, high=384000),
            data.text("normalisation", "none", one_of=("none", "utterance")),
            shortest,
            longest,
            data.text("front", ""),
            tuple(sorted(data.numbers("buckets", (), low=1e-6))),
            data.boolean("trim", False),
            FileEntry.from_fields(data.object("keywords")) if data.data.get("keywords") is not None else None,
        )

    def padded(self, samples: int) -> int:
        """Samples that a batch is padded to whose longest recording has ``samples``; at least as many.

        The next bucket. Without any that is long enough, steps that grow with the length: 1/8 s from 1 to 2 seconds,
        1/4 s from 2 to 4 and so on, within ``max_seconds``. Lengths of speech hardly repeat, and what prepares itself
        for every shape anew (OpenVINO, CUDA graphs) takes up to a third longer for one not seen before.
        """
        buckets = (round(seconds * self.sample_rate) for seconds in self.buckets)
        bucket = min((size for size in buckets if size >= samples), default=0)
        if bucket:
            return bucket
        octave = max(math.frexp((samples - 0.5) / self.sample_rate)[1], -1)  # 1 is (1 s, 2 s]
        step = max(round(2.0 ** (octave - 1) * self.sample_rate) // _STEPS, 1)
        return max(min(-(-samples // step) * step, round(self.max_seconds * self.sample_rate)), samples)


Preprocessing: TypeAlias = (
    "PicturePreprocessing | TextPreprocessing | PhonemePreprocessing | AudioPreprocessing | LogMelPreprocessing"
)
_READERS: dict[str, Callable[[Fields], Preprocessing]] = {
    "picture": PicturePreprocessing.from_fields,
    "text": TextPreprocessing.from_fields,
    "phonemes": PhonemePreprocessing.from_fields,
    "audio": AudioPreprocessing.from_fields,
    "log-mel": LogMelPreprocessing.from_fields,
}
_KIND_OF = {"image": "picture", "text": "text", "pronunciation": "phonemes", "speech": "audio", "audio": "log-mel"}


@dataclass(frozen=True)
class EncoderEntry:
    """One encoder: its graphs by precision and everything needed to feed and to check them."""

    space: str
    width: int
    graphs: Mapping[str, GraphEntry]
    preprocessing: Preprocessing
    reference: Reference
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_fields(cls, data: Fields, name: str) -> EncoderEntry:
        graphs = data.object("graphs")
        if not graphs.data or not all(re.fullmatch("[a-z0-9][a-z0-9-]*", precision) for precision in graphs.data):
            raise refuse(f"{graphs.where} has the precisions {shown(list(graphs.data))}, wanted such as fp32 or int8")
        preprocessing = data.object("preprocessing")
        wanted = _KIND_OF.get(name)
        kind = preprocessing.text("kind", one_of=(wanted,) if wanted else tuple(_READERS))
        reference = Reference.from_fields(data.object("reference"))
        for precision in graphs.data:
            if precision not in reference.tolerance:
                raise refuse(f"{data.where}.reference.tolerance has no {precision!r}, wanted one for every graph")
        return cls(
            data.text("space"),
            data.integer("width", low=1, high=65536),
            {precision: GraphEntry.from_fields(graphs.object(precision)) for precision in graphs.data},
            _READERS[kind](preprocessing),
            reference,
            data.free("provenance"),
            data.free("measured"),
        )

    def files(self) -> list[FileEntry]:
        """Every file of this encoder, graphs first."""
        found: list[FileEntry] = []
        for graph in self.graphs.values():
            found += [graph, *graph.data]
        found.append(self.reference)
        if isinstance(self.preprocessing, TextPreprocessing):
            found.append(self.preprocessing.tokenizer)
        elif isinstance(self.preprocessing, PhonemePreprocessing):
            found.append(self.preprocessing.inventory)
        elif isinstance(self.preprocessing, AudioPreprocessing) and self.preprocessing.keywords is not None:
            found.append(self.preprocessing.keywords)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "space": self.space,
            "width": self.width,
            "graphs": {precision: graph.to_dict() for precision, graph in self.graphs.items()},
            "preprocessing": asdict(self.preprocessing),
            "reference": self.reference.to_dict(),
            "provenance": dict(self.provenance),
            "measured": dict(self.measured),
        }
