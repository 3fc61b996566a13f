"""Accuracy of int8 against fp32 over many items, and its speed beside PyTorch's, of the same files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sayclip
from sayclip.bundle.manifest import Manifest
from sayclip.errors import SayclipError
from sayclip.sessions import backends
from sayclip.sessions.cpu import default_threads, is_x86
from sayclip_benchmarks.int8.making import Inputs

CENTRED = 256  # inputs whose mean is taken off before any cosine
TOP = 10
TOKENS, SAMPLES = 77, 48_000
Embeddings = NDArray[np.float32]
Feed = Mapping[str, NDArray[Any]]


def precision_here() -> str:
    """The int8 form that ONNX Runtime is quick with on this processor."""
    return "int8-u8" if is_x86() else "int8"


def embed(bundle: Path, name: str, given: Inputs, precision: str) -> Embeddings:
    """Embeddings [items, width] of one encoder by ONNX Runtime."""
    with sayclip.load(bundle, backend="onnxruntime", precision=precision) as encoder:
        if name == "image":
            return encoder.image(list(given.pictures))
        return encoder.text(given.texts) if name == "text" else encoder.speech(list(given.recordings))


def agreement(reference: Embeddings, seen: Embeddings) -> dict[str, float]:
    """Cosines of the first ``CENTRED`` rows less the mean of fp32's, and how many of the nearest ten are the same."""
    centre = reference[:CENTRED].mean(axis=0)
    one, two = (_unit(rows.astype(np.float64) - centre) for rows in (reference, seen))
    cosines = (one * two).sum(axis=1)[:CENTRED]
    near = [_nearest(rows) for rows in (one, two)]
    overlap = [len(set(a) & set(b)) / TOP for a, b in zip(*near, strict=True)]
    raw = (_unit(reference.astype(np.float64)) * _unit(seen.astype(np.float64))).sum(axis=1)
    return {
        "mean_cosine": float(cosines.mean()),
        "worst_cosine": float(cosines.min()),
        "raw_worst_cosine": float(raw.min()),
        "top10_overlap": float(np.mean(overlap)),
    }


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _nearest(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    scores = rows[:CENTRED] @ rows.T
    scores[np.arange(len(scores)), np.arange(len(scores))] = -np.inf
    nearest: NDArray[np.int64] = np.argsort(-scores, axis=1)[:, :TOP]
    return nearest


def feeds(bundle: Path, name: str, given: Inputs, count: int = 4) -> list[Feed]:
    """Inputs of the sizes that the figures are for: a picture, a text of 77 tokens, 3 s of speech."""
    from sayclip.preparation import Preparation

    preparation = Preparation(Manifest.read(bundle))
    if name == "image":
        return [{"pixels": preparation.picture(path)[None]} for path in given.pictures[:count]]
    if name == "text":
        rng = np.random.default_rng(0)
        made = []
        for ids in preparation.texts(given.texts[:count]):
            middle = rng.integers(300, 40_000, TOKENS - 2).astype(np.int32)
            made.append(np.concatenate([ids[:1], middle, ids[-1:]])[None])
        return [{"token_ids": ids, "length": np.array([TOKENS], np.int32)} for ids in made]
    waves = preparation.recordings(None, list(given.recordings[:count]))
    return [{"waveform": np.resize(wave, SAMPLES)[None], "length": np.array([SAMPLES], np.int32)} for wave in waves]


def torch_model(name: str) -> Callable[[Feed], Any] | None:
    """PyTorch eager at fp32: transformers' own classes at the same sizes; None where they are not installed."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    torch.set_num_threads(default_threads())
    model: Any
    if name == "image":
        model, key = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig()), "pixels"
    elif name == "text":
        model, key = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig()), "token_ids"
    else:
        model, key = transformers.HubertModel(transformers.HubertConfig()), "waveform"
    model.eval()

    def run(feed: Feed) -> Any:
        with torch.inference_mode():
            value = torch.from_numpy(np.array(feed[key]))
            return model(value.long() if name == "text" else value)

    return run


def speed(bundle: Path, name: str, given: Inputs, turns: int) -> dict[str, dict[str, float]]:
    """Milliseconds (p50, p90) and speed-up over PyTorch of each candidate, in turns within one process."""
    manifest, inputs = Manifest.read(bundle), feeds(bundle, name, given)
    candidates: dict[str, Callable[[Feed], Any]] = {}
    eager = torch_model(name)
    if eager is not None:
        candidates["torch fp32"] = eager
    sessions = []
    for label, backend, precision in (
        ("onnxruntime fp32", "onnxruntime", "fp32"),
        ("onnxruntime int8", "onnxruntime", precision_here()),
        ("openvino fp32", "openvino", "fp32"),
        ("openvino int8", "openvino", "int8"),
    ):
        try:
            session = backends.open_graph(manifest, name, precision, backend=backend)
        except SayclipError:
            continue
        sessions.append(session)
        candidates[label] = session.run
    times: dict[str, list[float]] = {label: [] for label in candidates}
    for turn in range(turns + 1):
        for label, run in candidates.items():
            for feed in inputs[:2] if turn % 2 else inputs[2:]:
                started = time.perf_counter()
                run(feed)
                if turn:  # the first one warms up
                    times[label].append(1000 * (time.perf_counter() - started))
    for session in sessions:
        session.close()
    base = statistics.median(times["torch fp32"]) if eager is not None else float("nan")
    return {
        label: {
            "p50_ms": statistics.median(values),
            "p90_ms": sorted(values)[int(0.9 * len(values))],
            "speedup": base / statistics.median(values),
        }
        for label, values in times.items()
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
