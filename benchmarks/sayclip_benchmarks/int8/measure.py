"""Accuracy of int8 against fp32 over many items, and its speed beside PyTorch's, of the same files."""

from __future__ import annotations

import copy
import statistics
import sys
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
from sayclip.sessions.base import Session
from sayclip.sessions.cpu import default_threads
from sayclip.sessions.openvino import FLOATS
from sayclip.sessions.reference import OUTPUT
from sayclip_benchmarks.int8.making import Inputs, precision_here

CENTRED = 256  # inputs whose mean is taken off before any cosine
TOP = 10
REST_S = 0.05  # threads of the candidate before, PyTorch's above all, spin on for a while
EAGER = "torch fp32"
TOKENS, SAMPLES = 77, 48_000
Embeddings = NDArray[np.float32]
Feed = Mapping[str, NDArray[Any]]


def embed(bundle: Path, name: str, given: Inputs, precision: str, backend: str = "onnxruntime") -> Embeddings:
    """Embeddings [items, width] of one encoder."""
    with sayclip.load(bundle, backend=backend, precision=precision) as encoder:
        if name == "image":
            return encoder.image(list(given.pictures))
        return encoder.text(given.texts) if name == "text" else encoder.speech(list(given.recordings))


class Agreements:
    """``agreement`` with fp32 over the items of ``given``; fp32's own embeddings are computed once a graph."""

    def __init__(self, given: Inputs) -> None:
        self._given = given
        self._known: dict[str, Embeddings] = {}

    def of(self, bundle: Path, name: str) -> dict[str, dict[str, float]]:
        """That of the int8 graph on every backend of the processor that is here, by backend.

        Also, as ``openvino-bf16 fp16``, of the fp16 graph in bfloat16: what that costs alone.
        """
        graphs = Manifest.read(bundle).entry(name).graphs
        fp32 = graphs["fp32"].sha256
        if fp32 not in self._known:
            self._known[fp32] = embed(bundle, name, self._given, "fp32")
        found = {}
        for backend, precision in candidates("cpu"):
            if precision == "fp32" or precision not in graphs or backends.unavailable(backend):
                continue
            label = backend if precision.startswith("int8") else f"{backend} {precision}"
            try:
                seen = embed(bundle, name, self._given, precision, backend)
            except SayclipError as error:
                print(f"{name}: {backend} {precision} is left out: {error}", file=sys.stderr)
                continue
            found[label] = agreement(self._known[fp32], seen)
        return found


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


def torch_models(name: str, device: str) -> dict[str, Callable[[Feed], Any]]:
    """PyTorch at fp32, eager, and on a GPU compiled and at fp16 too: transformers' own classes at the same sizes.

    Nothing where they are not installed, or PyTorch has no such device. Results are fetched, so that time is whole.
    """
    try:
        import torch
        import transformers
    except ImportError:
        return {}
    if device == "cuda" and not torch.cuda.is_available():
        return {}
    torch.set_num_threads(default_threads())
    model: Any
    if name == "image":
        model, key = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig()), "pixels"
    elif name == "text":
        model, key = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig()), "token_ids"
    else:
        model, key = transformers.HubertModel(transformers.HubertConfig()), "waveform"
    model.eval().to(device)

    def runner(module: Any, kind: Any) -> Callable[[Feed], Any]:
        def run(feed: Feed) -> Any:
            with torch.inference_mode():
                value = torch.from_numpy(np.array(feed[key])).to(device)
                return module(value.long() if name == "text" else value.to(kind))[0].cpu()

        return run

    found = {EAGER: runner(model, torch.float32)}
    if device == "cuda":
        found["torch fp32, compiled"] = runner(torch.compile(model), torch.float32)
        found["torch fp16"] = runner(copy.deepcopy(model).half(), torch.float16)
    return found


def candidates(device: str) -> list[tuple[str, str]]:
    """Backend and precision of every session to time on ``device``; those that cannot run are left out later."""
    if device == "cpu":
        ours = precision_here()
        vino = [(backend, "int8") for backend in FLOATS]
        return [("onnxruntime", "fp32"), ("onnxruntime", ours), ("openvino", "fp32"), *vino, ("openvino-bf16", "fp16")]
    engines = [(backend, precision) for backend in backends.ENGINES for precision in ("fp32", "fp16", "int8")]
    return [("onnxruntime-cuda", "fp32"), ("onnxruntime-cuda", "fp16"), *engines]


def speed(bundle: Path, name: str, given: Inputs, turns: int, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Milliseconds (p50, p90) and speed-up over eager PyTorch of each candidate, in turns within one process.

    Of sessions also the smallest cosine to fp32 on the processor, over the inputs that are timed.
    """
    manifest, inputs = Manifest.read(bundle), feeds(bundle, name, given)
    runs: dict[str, Callable[[Feed], Any]] = dict(torch_models(name, device))
    sessions: dict[str, Session] = {}
    for backend, precision in candidates(device):
        if precision not in manifest.entry(name).graphs:
            continue
        try:
            label = f"{backend} {'int8' if precision.startswith('int8') else precision}"
            sessions[label] = backends.open_graph(manifest, name, precision, backend=backend)
            runs[label] = sessions[label].run
        except SayclipError as error:
            print(f"{name}: {backend} {precision} is left out: {error}", file=sys.stderr)
    times: dict[str, list[float]] = {label: [] for label in runs}
    for turn in range(turns + 1):
        for label, run in runs.items():
            time.sleep(REST_S)
            for feed in inputs[:2] if turn % 2 else inputs[2:]:
                started = time.perf_counter()
                run(feed)
                if turn:  # the first one warms up
                    times[label].append(1000 * (time.perf_counter() - started))
    exact = _cosines(manifest, name, inputs, sessions)
    for session in sessions.values():
        session.close()
    base = statistics.median(times[EAGER]) if EAGER in times else float("nan")
    return {
        label: {
            "p50_ms": statistics.median(values),
            "p90_ms": sorted(values)[int(0.9 * len(values))],
            "speedup": base / statistics.median(values),
            **({"cosine": exact[label]} if label in exact else {}),
        }
        for label, values in times.items()
    }


def _cosines(
    manifest: Manifest, name: str, inputs: Sequence[Feed], sessions: Mapping[str, Session]
) -> dict[str, float]:
    reference = backends.open_graph(manifest, name, "fp32", backend="onnxruntime")
    wanted = np.concatenate([reference.run(feed)[OUTPUT] for feed in inputs])
    reference.close()
    found = {}
    for label, session in sessions.items():
        seen = np.concatenate([session.run(feed)[OUTPUT] for feed in inputs])
        found[label] = float((_unit(wanted.astype(np.float64)) * _unit(seen.astype(np.float64))).sum(axis=1).min())
    return found


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
