"""``sayclip export speech``: SpeechCLIP or SpeechCLIP+ to speech, image and text encoders of a bundle, all fp32.

The speech graph takes the waveform as it is; where there are two branches ``embedding`` is the parallel one's, and each
has an output of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.entries import AudioPreprocessing, FileEntry
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.preparation import pad
from sayclip_export.graphs import Feeds
from sayclip_export.keyword_words import write_keywords
from sayclip_export.models.speechclip import SpeechClip
from sayclip_export.parts import Part, write_bundle
from sayclip_export.placing import require_place
from sayclip_export.readers.clip_vocabulary import clip_vocabulary
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.speechclip import read_speechclip

KEYWORDS = "keywords.tsv"
SAMPLE_RATE = 16000
MIN_SECONDS, MAX_SECONDS = 0.1, 20.0
SHORTEST = 400  # samples: HuBERT's first frame


def export_speech(
    path: Path,
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    overrides: Overrides | None = None,
    vocabulary: Path | None = None,
    buckets: Sequence[float] = (),
    hubert: Path | None = None,
) -> Manifest:
    """Convert the SpeechCLIP checkpoint ``path`` to the bundle ``out``, new or added to; returns its manifest.

    ``overrides`` and ``hubert``: see ``read_speechclip``. ``vocabulary``: CLIP's merges; None takes those of an
    installed open_clip_torch. ``buckets``: lengths in seconds that the runtime pads recordings up to, so that engines
    see only these; the graph is held against torch at each. ``say`` is given one line a step. Raises CheckpointError
    for a checkpoint that cannot be converted or an ``out`` that is no bundle, InputError for a wrong override or
    bucket, BundleError where a graph is further than 1e-4 from torch, gives other keywords or is of another space;
    ``out`` is then as it was.
    """
    require_place(out)
    require_buckets(buckets)
    checkpoint = read_speechclip(path, overrides, hubert)
    context = checkpoint.text_config.context
    merges = clip_vocabulary(vocabulary, checkpoint.text_config.vocabulary, context)
    say(f"read {path.name}: {checkpoint.format}")
    name = path.resolve().name
    provenance = {"source": name, "sha256": checkpoint.sha256, "format": checkpoint.format}

    def others(folder: Path) -> dict[str, Part]:
        words = None
        if "keyword_ids" in checkpoint.speech.outputs:
            write_keywords(folder / KEYWORDS, merges.pairs, checkpoint.vocabulary)
            words = describe_file(folder, KEYWORDS)
        return {"speech": speech_part(checkpoint.speech, words, buckets)}

    return write_bundle(out, name, checkpoint, merges, context, provenance, say, others)


def sample_waves() -> list[NDArray[np.float32]]:
    """Four synthetic waves f32 [S] at 16 kHz, the same every time: gliding voices of 1 to 2.5 s, with pauses."""
    waves = []
    for number, seconds in enumerate((1.0, 1.4, 1.9, 2.5)):
        t = np.arange(int(SAMPLE_RATE * seconds)) / SAMPLE_RATE
        pitch = 110 * (1 + 0.4 * number) * (1 + 0.1 * np.sin(2 * np.pi * 1.3 * t))
        voice = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / SAMPLE_RATE) / k for k in range(1, 12))
        syllables = np.clip(np.sin(2 * np.pi * (2 + number) * t), 0, 1)
        noise = np.random.default_rng(number).normal(0, 0.01, len(t))
        waves.append((0.15 * voice * syllables + noise).astype(np.float32))
    return waves


def require_buckets(buckets: Sequence[float]) -> None:
    """Raise InputError unless all are lengths in seconds that the speech encoder may be given."""
    for seconds in buckets:
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:  # also where it is NaN
            raise InputError(
                f"a bucket is {seconds:g} s, wanted {MIN_SECONDS:g} to {MAX_SECONDS:g}", "give such as --buckets 2,5,10"
            )


def speech_part(speech: SpeechClip, words: FileEntry | None, buckets: Sequence[float] = ()) -> Part:
    """The speech encoder, held against torch on gliding voices and on noise; ``words``: the file of its keywords.

    ``buckets``: see ``export_speech``.
    """

    def random(rng: np.random.Generator) -> Feeds:
        lengths = rng.integers(SHORTEST, 40_000, int(rng.integers(1, 3)))
        return wave_feed([rng.normal(0, 0.1, int(length)).astype(np.float32) for length in lengths])

    lengths = tuple(sorted(set(buckets)))
    how = AudioPreprocessing(SAMPLE_RATE, "none", MIN_SECONDS, MAX_SECONDS, "HuBERT", lengths, keywords=words)
    longest = round(MAX_SECONDS * SAMPLE_RATE)
    sizes = [wave_feed([voices(SHORTEST)]), wave_feed([voices(longest)]), wave_feed([voices(12_345), voices(SHORTEST)])]
    for size in (round(seconds * SAMPLE_RATE) for seconds in lengths):
        sizes.append(wave_feed([voices(size), voices(max(SHORTEST, size * 2 // 3))], size))
    return Part(speech, how, wave_feed(sample_waves()), random, asdict(speech.config), speech.outputs, sizes)


def voices(samples: int) -> NDArray[np.float32]:
    """The sample waves one after the other, again and again, f32 [samples]."""
    return np.resize(np.concatenate(sample_waves()), samples)


def wave_feed(waves: Sequence[NDArray[np.float32]], longest: int = 0) -> Feeds:
    """``waveform`` f32 [B,S], zeros past each end, S at least ``longest``, and ``length`` i32 [B] in samples."""
    waveform, length = pad(waves, np.float32, longest)
    return {"waveform": waveform, "length": length}
