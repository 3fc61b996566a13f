"""The speech encoder that heads are put on: that of a bundle, as PyTorch knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.preparation import pad
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.reference import OUTPUT
from sayclip_export.models.speech import STRIDE, SpeechTower
from sayclip_export.readers import speech_graph
from sayclip_training.distillation import cache
from sayclip_training.distillation.teacher import named_folder
from sayclip_training.heads.features import Source

AT_ONCE = 16


@dataclass(frozen=True)
class Listener:
    """``tower`` in evaluation mode; ``identity``: a hash of its graph; a frame lasts ``frame_seconds``.

    ``graph``: that of the whole encoder, which ends in ``space``.
    """

    tower: SpeechTower
    identity: str
    width: int
    frame_seconds: float
    graph: Path
    space: str

    def source(self, *, live: bool) -> Source:
        """Its frames; for a tower that is to learn, ``live``, the log-mel that they are made of."""
        if not live:
            return Source("frames", self.identity, self.width, self.hear)
        config = self.tower.config
        sizes = (config.sample_rate, config.window, config.hop)
        return Source("log-mel", cache.digest(["log-mel", *map(str, sizes)]), config.mels, self.log_mel)

    def log_mel(self, waves: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float16]]:
        """Log-mel f16 [T,M] of each wave f32 [S] at 16 kHz."""
        with torch.inference_mode():
            found = [self.tower.front(*map(torch.from_numpy, pad([wave], np.float32)))[0][0] for wave in waves]
        return [log_mel.numpy().astype(np.float16) for log_mel in found]

    def hear(self, waves: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float16]]:
        """Frames f16 [T,W] of each wave f32 [S] at 16 kHz."""
        order = np.argsort([len(wave) for wave in waves], kind="stable")
        found: dict[int, NDArray[np.float16]] = {}
        with torch.inference_mode():
            for start in range(0, len(order), AT_ONCE):
                places = order[start : start + AT_ONCE]
                waveform, length = pad([waves[place] for place in places], np.float32)
                log_mel, valid = self.tower.front(torch.from_numpy(waveform), torch.from_numpy(length))
                frames = self.tower.mixed(log_mel, valid)[0].numpy().astype(np.float16)
                counts = self.tower.frames(valid.sum(1)).tolist()
                for place, row, count in zip(places.tolist(), frames, counts, strict=True):
                    found[place] = row[:count]
        return [found[place] for place in range(len(waves))]

    def say(self, waves: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """What the whole encoder says of each wave f32 [S] at 16 kHz, S >= 400: embeddings f32 [N,D] of length 1."""
        order = np.argsort([len(wave) for wave in waves], kind="stable")
        session = OnnxRuntimeSession(self.graph, threads=torch.get_num_threads())
        try:
            parts = []
            for start in range(0, len(order), AT_ONCE):
                waveform, length = pad([waves[place] for place in order[start : start + AT_ONCE]], np.float32)
                parts.append(session.run({"waveform": waveform, "length": length})[OUTPUT])
        finally:
            session.close()
        found = np.empty((len(waves), parts[0].shape[1]), np.float32)
        found[order] = np.concatenate(parts)
        return found


def open_listener(source: str) -> Listener:
    """The speech encoder of the bundle ``source``, or of the installed demo's for ``demo``.

    Raises BundleError for a bundle without one whose weights can be told from its fp32 graph.
    """
    manifest = Manifest.read(named_folder(source))
    entry = manifest.entry("speech")
    graph = entry.graphs.get("fp32")
    if graph is None:
        raise BundleError(f"the speech encoder of {manifest.name} has no fp32 graph", "name a bundle that has one")
    verify_files(manifest)
    sizes = entry.provenance.get("architecture")
    tower = speech_graph.recover(manifest.path(graph.file), sizes if isinstance(sizes, Mapping) else {})
    if tower is None:
        raise BundleError(
            f"the speech encoder of {manifest.name} is of a make that heads cannot be put on",
            "name a bundle whose speech encoder `sayclip train demo` made, such as demo",
        )
    config = tower.config
    identity = cache.digest([graph.sha256, *(file.sha256 for file in graph.data)])
    seconds = STRIDE * config.hop / config.sample_rate
    return Listener(tower, identity, config.width, seconds, manifest.path(graph.file), manifest.space)
