"""``sayclip export pronunciation``: a trained pronunciation encoder into a bundle of its space, fp32."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sayclip.bundle.entries import PhonemePreprocessing
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.phonemes.inventory import SPECIAL
from sayclip.preparation import pad
from sayclip_export.graphs import Feeds
from sayclip_export.parts import Part, write_parts
from sayclip_export.placing import place, require_place
from sayclip_export.readers.pronunciation import PronunciationCheckpoint, read_pronunciation

PHONEMES = "phonemes.json"
_SEGMENTS = (3, 7, 12, 20)  # of the transcripts that it is held against torch on


def export_pronunciation(path: Path, out: Path, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """Convert the trained encoder ``path`` to the bundle ``out``, new or added to; returns its manifest.

    The chart is folded into the token table. ``say`` is given one line a step. Raises CheckpointError for a file that
    cannot be converted or an ``out`` that is no bundle, BundleError where the graph is further than 1e-4 from torch or
    ``out`` is of another space; ``out`` is then as it was.
    """
    require_place(out)
    checkpoint = read_pronunciation(path)
    config = checkpoint.tower.config
    say(f"read {path.name}: {config.vocabulary} phonemes, width {config.embedding}, space {checkpoint.space}")
    provenance = {
        "source": path.resolve().name,
        "sha256": checkpoint.sha256,
        "format": "safetensors",
        "training": checkpoint.history,
        "chart_sha256": checkpoint.phonemes["chart_sha256"],
    }
    with place(out) as (fresh, before):
        (fresh / PHONEMES).write_text(json.dumps(checkpoint.phonemes, ensure_ascii=False), encoding="utf-8")
        parts = {"pronunciation": pronunciation_part(checkpoint, fresh)}
        write_parts(fresh, path.stem, checkpoint.space, config.embedding, parts, provenance, say, before)
    return Manifest.read(out)


def pronunciation_part(checkpoint: PronunciationCheckpoint, folder: Path) -> Part:
    """The encoder, held against torch on random phonemes; ``folder`` holds phonemes.json."""
    config = checkpoint.tower.config

    def said(rng: np.random.Generator, count: int) -> list[int]:
        phonemes = rng.integers(len(SPECIAL), config.vocabulary, min(count, config.context - 2)).tolist()
        return [SPECIAL["<sot>"], *phonemes, SPECIAL["<eot>"]]

    def random(rng: np.random.Generator) -> Feeds:
        counts = rng.integers(1, config.context - 1, int(rng.integers(1, 4)))
        return phoneme_feed([said(rng, int(count)) for count in counts])

    rng = np.random.default_rng(0)
    reference = phoneme_feed([said(rng, count) for count in _SEGMENTS])
    how = PhonemePreprocessing(describe_file(folder, PHONEMES), checkpoint.g2p, config.context)
    sizes = [phoneme_feed([said(rng, count)]) for count in (1, config.context)]
    return Part(checkpoint.tower.folded(), how, reference, random, asdict(config), further=sizes)


def phoneme_feed(sequences: list[list[int]]) -> Feeds:
    """``phoneme_ids`` i32 [B,L], padded with 0 to the longest, and ``length`` i32 [B]."""
    phoneme_ids, length = pad([np.array(ids, np.int32) for ids in sequences], np.int32)
    return {"phoneme_ids": phoneme_ids, "length": length}
