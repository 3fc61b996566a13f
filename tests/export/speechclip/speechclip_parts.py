"""Golden files of SpeechCLIP, checkpoints made from them, and the shortest way to a graph."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip_export.graphs import Feeds, export_graph
from sayclip_export.models.speechclip import SpeechClip
from sayclip_export.readers.lightning import read_lightning
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.speechclip import SpeechClipCheckpoint, read_speechclip
from sayclip_export.readers.state import State
from sayclip_export.speechclip_export import wave_feed

NAMES = ("base_parallel", "base_cascaded", "large_parallel", "plus_base_hybrid_plus")
# What the tiny sizes leave open; the vectors of the last one were made from raw waves, whatever its configuration says.
SET = {"hubert.heads": "4", "text.heads": "2"}
RAW = {"waveform_normalisation": "false"}


def golden_path(*parts: str) -> Path:
    """A golden file; where there is none the test is skipped, except in continuous integration."""
    default = Path(__file__).resolve().parents[4] / "shared" / "golden"
    path = Path(os.environ.get("SAYCLIP_GOLDEN", default)).joinpath(*parts)
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing")
    return path


def settings(name: str) -> dict[str, str]:
    return SET | RAW if name.startswith("plus") else dict(SET)


class Golden:
    """One golden checkpoint, read, and its arrays."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = golden_path("speechclip", f"{name}.ckpt")

    @cached_property
    def checkpoint(self) -> SpeechClipCheckpoint:
        return read_speechclip(self.path, Overrides(settings(self.name)))

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        with np.load(golden_path("speechclip", f"{self.name}.npz"), allow_pickle=False) as data:
            return dict(data)

    def waves(self, tag: str) -> list[NDArray[np.float32]]:
        """The recordings behind ``single0`` … ``single3`` or ``batch``."""
        numbers = range(4) if tag == "batch" else [int(tag[-1])]
        return [self.arrays[f"wav{number}"] for number in numbers]


def tensors(feeds: Feeds) -> list[Tensor]:
    return [torch.from_numpy(value) for value in feeds.values()]


def named(model: SpeechClip, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """The model's outputs by their names."""
    with torch.inference_mode():
        found = model(*tensors(feeds))
    return {name: value.numpy() for name, value in zip(model.outputs, found, strict=True)}


def largest(got: Any, wanted: Any, counts: Iterable[int]) -> float:
    """The largest difference over the first ``count`` rows of each item of two batches."""
    parts = [np.abs(np.asarray(a)[:n] - np.asarray(b)[:n]).max() for a, b, n in zip(got, wanted, counts, strict=True)]
    return float(max(parts))


def random_waves(*lengths: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(sum(lengths))
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def export(model: SpeechClip, path: Path) -> Path:
    export_graph("speech", model, tensors(wave_feed(random_waves(9000, 5000))), path, model.outputs)
    return path


def loaded(golden: Golden) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and configuration of a golden checkpoint, free to be changed."""
    file = read_lightning(golden.path)
    return dict(file.tensors), dict(file.config)


def read_state(state: Mapping[str, Tensor], config: Mapping[str, Any], **more: str) -> SpeechClipCheckpoint:
    """As ``read_speechclip`` does, without a file between; ``more`` with _ for the dot of a key."""
    from sayclip_export.readers.speechclip import from_state

    overrides = Overrides(SET | {key.replace("__", "."): value for key, value in more.items()})
    found = from_state(State(state, Path("some.ckpt")), config, overrides)
    overrides.finish()
    return found


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("cascaded_branch.clip.")}


def save(path: Path, state: Mapping[str, Tensor], config: object, **more: object) -> Path:
    """A file in the shape that Lightning gives it."""
    whole = {
        "epoch": 3,
        "global_step": 9,
        "pytorch-lightning_version": "1.5.10",
        "state_dict": dict(state),
        "callbacks": {},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4)}}}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"config": config},
    }
    torch.save(whole | more, path)
    return path


def foreign_class(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[..., Any]:
    """A class under the dotted ``name``, for as long as a test pickles it."""
    module, _, last = name.rpartition(".")
    made = type(last, (), {"__module__": module})
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        part = ".".join(parts[:end])
        if part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setattr(sys.modules[module], last, made, raising=False)
    return made
