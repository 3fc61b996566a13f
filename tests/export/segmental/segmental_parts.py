"""Small heads and encoders of random weights, and the plain procedure that the detector stands for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayclip.bundle.manifest import Manifest
from sayclip_export.models.roberta import RobertaConfig
from sayclip_export.models.segmental import HeadConfig, SegmentalSpeech, build_head
from sayclip_export.models.segmental.detector import FLAT
from sayclip_export.models.speech import SpeechConfig, SpeechTower
from sayclip_export.models.text import TextConfig, TextTower
from sayclip_export.models.text_side import TextSide
from sayclip_export.readers import text_graph
from sayclip_export.readers.speech_head import SpeechHeadCheckpoint, write_speech_head

WIDTH = 32
SPEECH = SpeechConfig(width=WIDTH, layers=2, heads=4, hidden=48, head_heads=4, head_hidden=48, pools=2, embedding=16)
TEXT = TextConfig(60, width=24, layers=2, heads=4, hidden=48, context=20, embedding=16)
ROBERTA = RobertaConfig(60, width=24, layers=2, heads=4, hidden=48, positions=24, embedding=16)
CONFIG = HeadConfig(WIDTH, TEXT, hidden=48, keywords=3, slots=12, layers=1, segment_hidden=48)
# Every kind, and what a segmental head may have besides.
VARIANTS = {
    "parallel": ("parallel", CONFIG),
    "cascaded": ("cascaded", replace(CONFIG, hidden=0)),
    "hybrid": ("hybrid", CONFIG),
    "cif": ("cif", CONFIG),
    "segmental": ("segmental", CONFIG),
    "quantised": ("segmental", replace(CONFIG, vocabulary="quantise", detector=8)),
    "roberta": ("segmental", replace(CONFIG, text=ROBERTA)),
}
RATE = 16_000
Floats = NDArray[np.float64]
Wave = NDArray[np.float32]


def text_tower() -> TextTower:
    torch.manual_seed(7)
    return TextTower(TEXT).eval()


def text_side(config: HeadConfig) -> TextSide:
    torch.manual_seed(7)
    return config.text.build().eval()


def head(variant: str) -> Any:
    kind, config = VARIANTS[variant]
    torch.manual_seed(1)
    return build_head(kind, config, text_side(config))


def encoder(variant: str) -> SegmentalSpeech:
    """With running statistics that training moved."""
    torch.manual_seed(2)
    made = SegmentalSpeech(SpeechTower(SPEECH), head(variant)).train()
    frames, count = made.frames(torch.randn(6, 12_000) * 0.1, torch.full((6,), 12_000, dtype=torch.int32))
    for _ in range(3):
        made.head(frames + torch.randn_like(frames), count)
    return made.eval()


def frames_of(counts: list[int], seed: int = 0, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Frames f32 [B,T,32], noise past each count too, and the counts i32 [B]."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(counts), max(counts) + extra, WIDTH, generator=generator)
    return frames, torch.tensor(counts, dtype=torch.int32)


def procedure(frames: Floats, threshold: float, eps: float, slots: int) -> tuple[list[int], Floats, Floats]:
    """One frame after the other, unpadded [T,W]: first frames of segments after the first, prominences [T], means."""
    count = len(frames)
    unit = frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-6)
    cosine = {t: float(unit[t - 1] @ unit[t]) for t in range(1, count)}
    least, most = min(cosine.values(), default=0.0), max(cosine.values(), default=0.0)
    distance = {t: 1 - (s - least) / max(most - least, FLAT) for t, s in cosine.items()}

    def rise(t: int, other: int) -> float:
        return max(distance[t] - distance[other], 0.0) if other in distance else 0.0

    prominence = np.zeros(count)
    for t in distance:
        near, wide = (min(rise(t, t - step), rise(t, t + step)) for step in (1, 2))
        prominence[t] = min(max(max(near, wide) - threshold, 0.0), near)
    found = sorted((t for t in range(count) if prominence[t] > eps), key=lambda t: (-prominence[t], t))
    starts = sorted(found[: slots - 1])
    edges = [0, *starts, count]
    means = np.stack([frames[a:b].mean(0) for a, b in itertools.pairwise(edges)])
    return starts, prominence, means


def random_waves(*lengths: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(sum(lengths))
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def hard_waves() -> dict[str, Wave]:
    """Of every length and kind; ``instant`` holds three frames, of which the outer cannot be peaks: no boundary."""
    queries = [soundfile.read(path, dtype="float32")[0] for path in sorted((DEMO / "queries").glob("*.wav"))]
    one, other = queries[0], queries[7]
    shorter = min(len(one), len(other))
    loudest = int(np.abs(one).argmax())
    return {
        "400 samples": one[loudest : loudest + 400],
        "a minute": np.resize(np.concatenate(queries), 60 * RATE),
        "silence": np.zeros(RATE, np.float32),
        "noise": (0.2 * np.random.default_rng(0).standard_normal(4 * RATE)).clip(-1, 1).astype(np.float32),
        "two speakers": (one[:shorter] + other[:shorter]) / 2,
        "instant": one[loudest : loudest + RATE // 10],
        "many units": np.concatenate(queries)[: 14 * RATE],
    }


def feeds_as_tensors(feed: dict[str, NDArray[Any]]) -> list[Tensor]:
    return [torch.from_numpy(value) for value in feed.values()]


DEMO = Path(__file__).resolve().parents[3] / "demo" / "sayclip_demo"
SPACE = Manifest.read(DEMO / "bundle").space


def demo_text() -> TextTower:
    """The demo's text tower with the first of its blocks alone: conversion takes as long as there are blocks."""
    found = text_graph.recover(DEMO / "bundle" / "text.fp32.onnx", {})
    assert found is not None
    found.config, found.blocks = replace(found.config, layers=1), found.blocks[:1]
    return found


def write_head(path: Path, kind: str, text: TextTower, space: str = SPACE, slots: int = 12) -> SegmentalSpeech:
    """A head of random weights on a small tower, that never says a token below 600, in the file ``path`` too."""
    torch.manual_seed(0)
    head = build_head(kind, replace(CONFIG, text=text.config, slots=slots), text)
    if head.reader is not None:
        head.reader.bar(range(600))
    speech = SegmentalSpeech(SpeechTower(replace(SPEECH, layers=1)), head).eval()
    write_speech_head(path, SpeechHeadCheckpoint(speech, space, "by hand"))
    return speech
