"""``sayclip export head``: a trained head and the tower below it, as the speech encoder of a bundle of their space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sayclip.bundle.entries import AudioPreprocessing, FileEntry, TextPreprocessing
from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.text.vocabulary import read_merges
from sayclip_export.graphs import Feeds
from sayclip_export.keyword_words import token_words, write_keywords, write_words
from sayclip_export.models.segmental.detector import AS_THEY_ARE, FLAT
from sayclip_export.models.segmental.units import UnitReader
from sayclip_export.parts import Part, write_parts
from sayclip_export.placing import place, require_place
from sayclip_export.readers import text_graph
from sayclip_export.readers.speech_head import SpeechHeadCheckpoint, read_speech_head, table_sha256
from sayclip_export.speechclip_export import KEYWORDS, sample_waves, voices, wave_feed

MIN_SECONDS, MAX_SECONDS = 0.1, 15.0
_REMEDY = "name the bundle that the head was trained for"


def export_head(path: Path, out: Path, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """Convert the trained head ``path`` to the speech encoder of the bundle ``out``; returns its manifest.

    A head with units on CLIP's text tower needs the bundle's text encoder, whose token table it was trained on: their
    words come from its vocabulary. Any other, such as one on a RoBERTa, which brings its words along, may also go to a
    bundle that is not there yet. ``say`` is given one line a step. Raises CheckpointError for a file that cannot be
    converted or an ``out`` that is no bundle, BundleError where the graph is further than 1e-4 from torch, or ``out``
    is of another space or vocabulary; ``out`` is then as it was.
    """
    require_place(out)
    checkpoint = read_speech_head(path)
    speech = checkpoint.speech
    width = speech.head.config.text.embedding
    say(f"read {path.name}: {speech.kind} head, width {width}, space {checkpoint.space}")
    provenance = {
        "source": path.resolve().name,
        "sha256": checkpoint.sha256,
        "format": "safetensors",
        "training": checkpoint.history,
    }
    with place(out) as (fresh, before):
        reader, words = speech.head.reader, None
        if reader is not None:
            _write_words(fresh / KEYWORDS, reader, checkpoint, before, out)
            words = describe_file(fresh, KEYWORDS)
        parts = {"speech": head_part(checkpoint, words)}
        write_parts(fresh, path.stem, checkpoint.space, width, parts, provenance, say, before)
    return Manifest.read(out)


def _write_words(
    path: Path, reader: UnitReader, checkpoint: SpeechHeadCheckpoint, before: Manifest | None, out: Path
) -> None:
    """The words of every id that the head may choose. Raises BundleError where the bundle's tokens are not its own."""
    if before is not None and before.space != checkpoint.space:
        raise BundleError(f"{out} is of space {before.space!r}, the head gives {checkpoint.space!r}", _REMEDY)
    if checkpoint.words:
        write_words(path, checkpoint.words)
        return
    if before is None or "text" not in before.encoders:
        raise BundleError(f"{out} has no text encoder, which gives the words of this head's units", _REMEDY)
    entry = before.encoders["text"]
    how, graph = entry.preprocessing, entry.graphs.get("fp32")
    assert isinstance(how, TextPreprocessing)  # reading the manifest refuses any other
    pairs = read_merges(before.path(how.tokenizer.file))
    known, table = len(token_words(pairs)) + 2, reader.text.token_embedding.weight
    if known != len(table):
        raise BundleError(f"{out} knows {known} tokens, the head was trained on {len(table)}", _REMEDY)
    tower = text_graph.recover(before.path(graph.file), {}) if graph else None
    # A graph of another make than ours cannot be compared; that the space is the same must do then.
    if tower is not None and table_sha256(tower.token_embedding.weight) != table_sha256(table):
        raise BundleError(f"{out} has another token table than the one that the head was trained on", _REMEDY)
    write_keywords(path, pairs, (reader.barred == 0).nonzero()[:, 0].tolist())


def head_part(checkpoint: SpeechHeadCheckpoint, words: FileEntry | None) -> Part:
    """The encoder, folded, held against torch on gliding voices and on noise; ``words``: the file of its keywords."""
    speech = checkpoint.speech.fold()
    config, rate = speech.tower.config, speech.tower.config.sample_rate

    def random(rng: np.random.Generator) -> Feeds:
        lengths = rng.integers(config.window, 40_000, int(rng.integers(1, 3)))
        return wave_feed([rng.normal(0, 0.1, int(length)).astype(np.float32) for length in lengths])

    how = AudioPreprocessing(rate, "none", MIN_SECONDS, MAX_SECONDS, "log-mel", trim=checkpoint.trim, keywords=words)
    longest = round(MAX_SECONDS * rate)
    sizes = [[voices(config.window)], [voices(longest)], [voices(12_345), voices(config.window)]]
    architecture: dict[str, object] = {"kind": speech.kind, **speech.head.config.to_dict(), "speech": config.to_dict()}
    if speech.kind == "segmental":  # what the detector does where the papers leave a choice
        scaled = AS_THEY_ARE if speech.head.config.detector else FLAT  # differences of cosines up to this are not
        architecture |= {"overflow": "highest stay", "missing_neighbour": 0, "first_segment": 0, "flat": scaled}
    return Part(
        *(speech, how, wave_feed(sample_waves()), random, architecture, speech.outputs),
        further=[wave_feed(waves) for waves in sizes],
    )
