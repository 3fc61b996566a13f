"""Optimisation profiles: the ranges of shapes that an engine is built for, from what the manifest says.

A ``query`` plan takes one input at a time, an ``index`` plan batches. Each holds a profile for every range of lengths,
so that kernels are chosen for a short query and for a long one apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sayclip.bundle.entries import (
    AudioPreprocessing,
    EncoderEntry,
    GraphEntry,
    PhonemePreprocessing,
    Preprocessing,
    TextPreprocessing,
)
from sayclip.bundle.fields import refuse
from sayclip.bundle.log_mel_entry import LogMelPreprocessing

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""For every input its smallest, its likeliest and its largest shape."""

PLANS = ("query", "index")
BATCH = 32
# Recordings are encoded this many at once, and longer batches of them would only ask for more memory.
SOUND_BATCH = 8
TOKEN_EDGES = (16, 32)
SPEECH_EDGES_S = (3.0,)
# NVIDIA's own tools keep attention out of int8 over 512 frames: other kernels are best there than below.
ATTENTION_FRAMES, FRAME_S = 512, 0.02
# The convolutions in front of speech encoders need this many samples for one frame.
LEAST_SAMPLES = 400


def profiles(entry: EncoderEntry, graph: GraphEntry, plan: str) -> list[Profile]:
    """The profiles of one plan of ``graph``, shortest first. Raises BundleError for a free dimension nobody knows."""
    batch = batches(entry.preprocessing, plan)
    free = {axis for spec in graph.inputs for axis in spec.shape[1:] if isinstance(axis, str)}
    if len(free) > 1:
        raise refuse(f"{graph.file} has the free dimensions {', '.join(sorted(free))} beside the batch, wanted one")
    ranges = lengths(entry.preprocessing) if free else [(0, 0, 0)]
    if not ranges:
        raise refuse(f"{graph.file} has the free dimension {free.pop()}, and its preprocessing names no lengths")
    found: list[Profile] = []
    for length in ranges:
        shapes = {}
        for spec in graph.inputs:
            axes = [
                (size, size, size) if isinstance(size, int) else batch if place == 0 else length
                for place, size in enumerate(spec.shape)
            ]
            shapes[spec.name] = (
                tuple(axis[0] for axis in axes),
                tuple(axis[1] for axis in axes),
                tuple(axis[2] for axis in axes),
            )
        found.append(shapes)
    return found


def batches(how: Preprocessing, plan: str) -> tuple[int, int, int]:
    """The smallest, the likeliest and the largest batch of a plan."""
    if plan == "query":
        return 1, 1, 1
    most = SOUND_BATCH if isinstance(how, (AudioPreprocessing, LogMelPreprocessing)) else BATCH
    return 1, most, most


def lengths(how: Preprocessing) -> list[tuple[int, int, int]]:
    """Ranges of tokens, phonemes or samples, each its smallest, likeliest and largest; empty where none is free."""
    if isinstance(how, (TextPreprocessing, PhonemePreprocessing)):
        return _between(2, [*TOKEN_EDGES, how.context], padded=False)
    if not isinstance(how, AudioPreprocessing):
        return []
    rate = how.sample_rate
    low = max(LEAST_SAMPLES, math.floor(how.min_seconds * rate) - 1)
    # Resampling may round up; a recording may also be padded up to a bucket beyond the longest.
    high = math.ceil(how.max_seconds * rate) + rate // 100
    buckets = [round(seconds * rate) for seconds in how.buckets]
    high = max(high, min((size for size in buckets if size >= high), default=high))
    attention = round(ATTENTION_FRAMES * FRAME_S * rate)
    edges = buckets or [round(seconds * rate) for seconds in SPEECH_EDGES_S]
    return _between(
        min(low, high), [*(edge for edge in (*edges, attention) if edge < high), high], padded=bool(buckets)
    )


def _between(low: int, edges: list[int], padded: bool) -> list[tuple[int, int, int]]:
    """Ranges that end at each edge. Where inputs are ``padded`` up to the edges, the end is the likeliest."""
    found = []
    for high in sorted(set(edges)):
        if low <= high <= max(edges):
            found.append((low, high if padded else (low + high) // 2, high))
            low = high + 1
    return found
