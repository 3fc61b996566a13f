"""fastembed's own CLIP code on a bundle's fp32 graph: its preprocessing, tokenising, session and all between them.

fastembed loads a model from a folder that is named to it (``specific_model_path``), without asking its hub, so that
folder is made from the bundle: the graph, and the files that its preprocessing or its tokenizer is described by. Its
text class feeds ``input_ids`` (int64), which a bundle's graph does not have; a subclass renames them and adds lengths.
It runs in an environment of its own where one is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.entries import PicturePreprocessing, TextPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError, MissingDependencyError
from sayclip.sessions.backends import graph_bytes
from sayclip.sessions.reference import OUTPUT
from sayclip.text.vocabulary import END_OF_WORD, byte_characters, read_merges
from sayclip_benchmarks.suite.cases import Case, Run

ENCODERS = {"image": "Qdrant/clip-ViT-B-32-vision", "text": "Qdrant/clip-ViT-B-32-text"}
"""Names by which fastembed knows its CLIP code, by encoder; neither is fetched."""
START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of transformers' CLIP tokenizer


class Fastembed:
    """``spec``: ``bundle``, ``encoder`` (image or text), and ``work``, a folder where what it loads is put."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        name = str(spec["encoder"])
        if name not in ENCODERS:
            raise InputError(f"fastembed's CLIP has no {name} encoder", "time others")
        manifest = Manifest.read(Path(spec["bundle"]))
        graph = manifest.entry(name).graphs["fp32"]
        folder = Path(spec["work"]) / "fastembed" / f"{name}-{graph.sha256[:12]}"
        model_folder(manifest, name, folder)
        self._model = _image(folder) if name == "image" else _text(folder)
        session = self._model.model
        if session.get_outputs()[0].name != OUTPUT:  # fastembed takes the first one
            raise InputError(f"the first output of {graph.file} is no {OUTPUT}", "export the bundle again")
        self.label = "fastembed fp32"
        self.model_bytes: int | None = graph_bytes(graph)
        self._name, self._session = name, session

    def function(self, case: Case) -> Run:
        model, session = self._model, self._session
        if case.what == "session":
            return lambda feed: session.run(None, feed)[0]
        if case.what == "encoder":
            return lambda source: np.stack(list(model.embed([source])))
        if case.what != "preprocessing":
            raise InputError(f"fastembed has no {case.what}", "time its encoder")
        prepare: Callable[[Any], Any] = self._picture if self._name == "image" else lambda text: model.tokenize([text])
        return prepare

    def _picture(self, path: Path) -> NDArray[Any]:
        from PIL import Image

        with Image.open(path) as picture:
            return np.array(self._model.processor([picture]))


def _image(folder: Path) -> Any:
    try:
        from fastembed.image.onnx_embedding import (  # type: ignore[import-not-found, unused-ignore]
            OnnxImageEmbedding,
        )
    except ImportError as error:
        raise _missing(error) from None
    return OnnxImageEmbedding(ENCODERS["image"], **_told(folder))


def _text(folder: Path) -> Any:
    try:
        from fastembed.text.clip_embedding import (  # type: ignore[import-not-found, unused-ignore]
            CLIPOnnxEmbedding,
        )
    except ImportError as error:
        raise _missing(error) from None

    class Renamed(CLIPOnnxEmbedding):  # type: ignore[misc, unused-ignore]
        def _preprocess_onnx_input(self, onnx_input: dict[str, NDArray[Any]], **_: Any) -> dict[str, NDArray[Any]]:
            ids = onnx_input["input_ids"].astype(np.int32)
            # The end is what texts of a batch are filled up with, too: the first one counts.
            length = (ids == self.special_token_to_id[END]).argmax(axis=1) + 1
            return {"token_ids": ids, "length": length.astype(np.int32)}

    return Renamed(ENCODERS["text"], **_told(folder))


def _told(folder: Path) -> dict[str, Any]:
    return {"specific_model_path": str(folder), "cache_dir": str(folder), "providers": ["CPUExecutionProvider"]}


def _missing(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(f"fastembed is not here ({error})", "pip install fastembed")


def model_folder(manifest: Manifest, name: str, folder: Path) -> None:
    """Write into ``folder`` what fastembed loads for the encoder ``name``, image or text; the graph as a link.

    Raises InputError for a graph whose weights lie in another file, which fastembed is not told of, and for a
    preprocessing that fastembed's CLIP code does not have.
    """
    entry = manifest.entry(name)
    graph, how = entry.graphs["fp32"], entry.preprocessing
    if graph.data:
        raise InputError(f"{graph.file} has its weights in a file of their own", "time a bundle that has them in one")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").unlink(missing_ok=True)
    (folder / "model.onnx").symlink_to(manifest.path(graph.file).resolve())
    if isinstance(how, PicturePreprocessing):
        files = {"preprocessor_config.json": _picture_config(how)}
    else:
        assert isinstance(how, TextPreprocessing)
        files = {
            "tokenizer.json": tokenizer_json(read_merges(manifest.path(how.tokenizer.file))),
            "tokenizer_config.json": {"model_max_length": how.context, "pad_token": END},
            "special_tokens_map.json": {"bos_token": START, "eos_token": END, "pad_token": END},
        }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content), encoding="utf-8")


def _picture_config(how: PicturePreprocessing) -> dict[str, Any]:
    from PIL import Image

    if how.resize != "shortest":
        raise InputError(f"fastembed's CLIP code does not resize by {how.resize}", "time others")
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": how.size},
        "resample": int(Image.Resampling[how.resample.upper()]),
        "do_center_crop": True,
        "crop_size": how.size,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }


def tokenizer_json(merges: list[tuple[str, str]]) -> dict[str, Any]:
    """CLIP's tokenizer with these merges, as the ``tokenizers`` library reads it; what transformers makes of them."""
    tokens = list(byte_characters().values())
    tokens += [token + END_OF_WORD for token in tokens]
    tokens += [first + second for first, second in merges]
    ids = {token: number for number, token in enumerate(tokens)}
    start, end = len(tokens), len(tokens) + 1
    blank = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": start, "content": START, **blank}, {"id": end, "content": END, **blank}],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, end],
            "cls": [START, start],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {**ids, START: start, END: end},
            "merges": [f"{first} {second}" for first, second in merges],
        },
    }
