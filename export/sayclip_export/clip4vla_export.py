"""``sayclip export audio``: CLIP4VLA to audio, image and text encoders of a bundle, all fp32.

Only encoders are exported: the fusion transformer scores pairs, and what it gives cannot be searched. Embeddings are
those of the towers alone, the model's ``feat_avg``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip.inputs.log_mel import log_mel_images
from sayclip.preparation import log_mel_settings
from sayclip_export.graphs import Feeds
from sayclip_export.parts import Part, write_bundle
from sayclip_export.placing import require_place
from sayclip_export.readers.clip4vla import Clip4VlaCheckpoint, read_clip4vla
from sayclip_export.readers.clip_vocabulary import clip_vocabulary
from sayclip_export.readers.overrides import Overrides

_EXTRA_TOKENS = 3  # mask, unknown and padding, which no text holds


def export_audio(
    path: Path,
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
) -> Manifest:
    """Convert the CLIP4VLA checkpoint ``path`` to the bundle ``out``, new or added to; returns its manifest.

    ``overrides``: see ``read_clip4vla``. ``vocabulary``: CLIP's merges; None takes those of an installed
    open_clip_torch. ``say`` is given one line a step. Raises CheckpointError for a checkpoint that cannot be converted
    or an ``out`` that is no bundle, InputError for a wrong override, BundleError where a graph is further than 1e-4
    from torch or of another space; ``out`` is then as it was.
    """
    require_place(out)
    checkpoint = read_clip4vla(path, overrides or Overrides())
    merges = clip_vocabulary(vocabulary, checkpoint.text_config.vocabulary - _EXTRA_TOKENS, checkpoint.context)
    say(f"read {path.name}: {_describe(checkpoint)}")
    name = checkpoint.path.resolve().name
    provenance = {
        "source": name,
        "sha256": checkpoint.weights_sha256,
        "format": "CLIP4VLA state dict",
        "dropped": dict(checkpoint.dropped),
    }

    def audio(_: Path) -> dict[str, Part]:
        return {"audio": _audio(checkpoint)}

    return write_bundle(out, name, checkpoint, merges, checkpoint.context, provenance, say, audio)


def sample_sounds(sample_rate: int) -> list[NDArray[np.float64]]:
    """Four synthetic sounds float64 [S,2] of a second, the same every time: a sweep, tones, knocks, and noise."""
    t = np.arange(sample_rate) / sample_rate
    sweep = np.stack([0.4 * np.sin(2 * np.pi * (200 + a * t) * t) for a in (600, 900)], axis=1)
    tones = np.stack([0.2 * sum(np.sin(2 * np.pi * f * k * t) for k in (1, 2, 3)) for f in (220, 330)], axis=1)
    knocks = np.sin(2 * np.pi * 150 * t) * np.exp(-30 * (t % 0.25))
    noise = np.random.default_rng(0).normal(0, 0.1, (sample_rate, 2)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))[:, None]
    return [sweep, tones, np.stack([0.8 * knocks, 0.3 * knocks], axis=1), noise]


def _describe(checkpoint: Clip4VlaCheckpoint) -> str:
    """Its sizes and what is left behind, such as ``audio 768 wide, 12 layers, joint width 512; dropped: ...``."""
    audio = checkpoint.audio_config
    dropped = ", ".join(f"{rule} ({count})" for rule, count in checkpoint.dropped.items())
    words = f"audio {audio.width} wide, {audio.layers} layers, joint width {audio.embedding}"
    return f"{words}; dropped: {dropped}" if dropped else words


def _audio(checkpoint: Clip4VlaCheckpoint) -> Part:
    how, side = checkpoint.log_mel, checkpoint.audio_config.size
    settings = log_mel_settings(how)
    segments = np.stack([log_mel_images(sound, settings)[0] for sound in sample_sounds(how.sample_rate)])
    mix = np.array([0, 0.5, 1, how.type_mix], np.float32)

    def random(rng: np.random.Generator) -> Feeds:
        count = int(rng.integers(1, 3))
        segments = rng.standard_normal((count, 3, side, side)).astype(np.float32)
        return {"segments": segments, "type_mix": rng.random(count, np.float32)}

    reference: Feeds = {"segments": segments, "type_mix": mix}
    return Part(checkpoint.audio, how, reference, random, checkpoint.audio_config.to_dict())
