"""optimum's ORTModel on models of the same sizes, exported by optimum itself: what a user of it would have.

It runs in an environment of its own, whose transformers is older than the toolkit's. Weights are random, which time
does not care about; the head of a speech encoder, a hundredth of its work, is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import InputError, MissingDependencyError
from sayclip_benchmarks.suite.cases import FULL, Case, Run

_CLASSES = {
    "image": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", "pixel_values"),
    "text": ("CLIPTextModelWithProjection", "CLIPTextConfig", "input_ids"),
    "speech": ("HubertModel", "HubertConfig", "input_values"),
}


def exported(encoder: str, work: Path) -> Path:
    """The graph that optimum's own exporter makes of the encoder, kept under ``work``; its folder is what it loads.

    Raises InputError for an encoder that it has no class for, MissingDependencyError, and what the exporter raises.
    """
    if encoder not in _CLASSES:
        raise InputError(f"optimum has no {encoder} encoder", "time others")
    folder = work / "optimum" / encoder
    path = folder / "onnx" / "model.onnx"
    if not path.exists():
        transformers, loader = _libraries()
        model, config, _ = _CLASSES[encoder]
        getattr(transformers, model)(getattr(transformers, config)()).save_pretrained(folder / "torch")
        loader.from_pretrained(folder / "torch", export=True).save_pretrained(folder / "onnx")
    return path


def _libraries() -> tuple[Any, Any]:
    try:
        import transformers  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from optimum.onnxruntime import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            ORTModelForFeatureExtraction,
        )
    except ImportError as error:
        raise MissingDependencyError(f"optimum is not here ({error})", "pip install optimum-onnx") from None
    return transformers, ORTModelForFeatureExtraction


class Optimum:
    """``spec``: ``encoder``, and ``work``, a folder where what optimum exported is kept."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = str(spec["encoder"])
        path = exported(encoder, Path(spec["work"]))
        self._key = _CLASSES[encoder][2]
        self._model = _libraries()[1].from_pretrained(path.parent)
        self.label = "optimum fp32"
        self.model_bytes: int | None = path.stat().st_size

    def function(self, case: Case) -> Run:
        if case.what != "session":
            raise InputError(f"optimum has no {case.what}", "time its session")
        return self._run

    def _run(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        import torch

        array = next(iter(feed.values()))
        if self._key == "input_ids":  # as CLIP's processor gives them
            array = np.pad(array, [(0, 0), (0, FULL - array.shape[1])]).astype(np.int64)
        told = {self._key: torch.from_numpy(np.ascontiguousarray(array))}
        if self._key == "input_ids":
            told["attention_mask"] = torch.ones_like(told[self._key])
        made = self._model(**told)
        first: NDArray[np.float32] = np.asarray(made[0])
        return first
