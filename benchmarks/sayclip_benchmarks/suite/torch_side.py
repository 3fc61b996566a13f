"""PyTorch as the baseline: our plain definitions at the sizes that the bundle names, eager or compiled, at a precision.

Weights are those of the bundle where they can be made again (random ones, from their seed); else random ones of the
same sizes, whose time is the same. The cosine in a row tells which: near 1 where they are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError, MissingDependencyError
from sayclip.preparation import Preparation, pad
from sayclip.sessions.cpu import default_threads
from sayclip_benchmarks.suite.cases import FULL, Case, Run


class Torch:
    """``spec``: ``bundle``, ``encoder``, ``precision`` (fp32, bf16 or fp16), ``compiled``, ``device``, ``threads``."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError(f"PyTorch is not here ({error})", "pip install torch") from None
        self._torch, self._spec = torch, spec
        self._name, self._device = str(spec["encoder"]), str(spec.get("device", "cpu"))
        precision = str(spec["precision"])
        self.label = f"torch {precision}{', compiled' if spec.get('compiled') else ''}"
        if self._device == "cpu":
            torch.set_num_threads(spec.get("threads") or default_threads())
            if precision == "fp16":
                raise InputError("fp16 is for GPUs in PyTorch", "see bf16")
        manifest = Manifest.read(Path(spec["bundle"]))
        module = build(manifest, self._name).to(self._device)
        self._kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        module = module.to(self._kind) if precision != "fp32" else module
        self.model_bytes: int | None = sum(value.numel() * value.element_size() for value in module.parameters())
        self._module = torch.compile(module) if spec.get("compiled") else module
        if self._device != "cpu":
            self.clock = functools.partial(_by_events, torch.cuda)
        self._preparation = Preparation(manifest)
        self._how = manifest.entry(self._name).preprocessing

    def function(self, case: Case) -> Run:
        if case.what == "session":
            return self._embed
        if case.what == "preprocessing":
            return self._prepare
        if case.what == "encoder":
            return lambda source: self._embed(self._prepare(source))
        vectors: NDArray[np.float32] = np.load(self._spec["vectors"])

        def query(source: Any) -> Any:
            scores = vectors @ self._embed(self._prepare(source))[0]
            best = np.argpartition(-scores, 10)[:10]
            return best[np.argsort(-scores[best])]

        return query

    def _embed(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        torch = self._torch
        values = []
        for name, array in feed.items():
            if name == "token_ids" and array.shape[1] < FULL:  # as it is used: zeros after the end
                array = np.pad(array, [(0, 0), (0, FULL - array.shape[1])])
            value = torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
            values.append(value.to(self._kind) if value.is_floating_point() else value)
        with torch.inference_mode():
            made = self._module(*values)
            first = made[0] if isinstance(made, tuple) else made
            result: NDArray[np.float32] = first.float().cpu().numpy()
        return result

    def _prepare(self, source: Any) -> dict[str, NDArray[Any]]:
        """As PyTorch's users do it: Pillow decodes the whole picture, resizes, crops; numpy normalises."""
        if self._name == "image":
            return {"pixels": _whole_picture(source, self._how)[None]}
        if self._name == "speech":
            waveform, length = pad(self._preparation.recordings(None, [source]), np.float32)
            return {"waveform": waveform, "length": length}
        [ids] = self._preparation.texts([source])
        return {"token_ids": ids[None], "length": np.array([len(ids)], np.int32)}


def _by_events(cuda: Any, run: Run, one: Any) -> float:
    """Milliseconds of one run between two events on the GPU's stream, of which the second waits for the run's end."""
    began, ended = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    began.record()
    run(one)
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def _whole_picture(path: Path, how: Any) -> NDArray[np.float32]:
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    scale = how.size / min(width, height)
    picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - how.size) // 2, (picture.height - how.size) // 2
    picture = picture.crop((left, top, left + how.size, top + how.size))
    values = np.asarray(picture, np.float32) / np.float32(255)
    normalised = (values - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    pixels: NDArray[np.float32] = np.ascontiguousarray(normalised.transpose(2, 0, 1))
    return pixels


def build(manifest: Manifest, name: str) -> Any:
    """The encoder's module at the sizes that the manifest gives. Raises InputError where it gives none."""
    entry = manifest.entry(name)
    sizes = entry.provenance.get("architecture")
    if not isinstance(sizes, Mapping):
        raise InputError(
            f"the bundle {manifest.name} does not say the sizes of {name}", "export it with this version of the toolkit"
        )
    from sayclip_export import full_size, hard
    from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig

    module: Any
    if name == "image":
        module = ClipImage(_of(ClipImageConfig, sizes))
    elif name == "text":
        module = ClipText(_of(ClipTextConfig, sizes))
    elif name == "speech" and "hubert" in sizes:
        module = _speech(sizes)
    else:
        raise InputError(f"there is no plain PyTorch definition of {name} here", "time its graphs alone")
    made = hard.harden(module) if manifest.name.startswith("hard ") else full_size.fill(module)
    return made.eval()


def _speech(sizes: Mapping[str, Any]) -> Any:
    from sayclip_export.models.hubert import HubertConfig
    from sayclip_export.models.speechclip import BranchConfig, SpeechClip, SpeechClipConfig
    from sayclip_export.models.text import TextConfig

    branches = []
    for branch in sizes["branches"]:
        text = _of(TextConfig, branch["text"]) if branch.get("text") else None
        branches.append(_of(BranchConfig, {**branch, "text": text}))
    hubert = _of(HubertConfig, sizes["hubert"])
    return SpeechClip(SpeechClipConfig(hubert, bool(sizes["normalise_states"]), tuple(branches)))


def _of(kind: Any, values: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in known})
