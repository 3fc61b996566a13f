"""Inputs of one size for an encoder's graph: the real ones of a bundle's reference, cut or repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.entries import AudioPreprocessing, EncoderEntry
from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.sessions.reference import read_reference

Feed = dict[str, NDArray[Any]]
SECONDS, TOKENS = 3.0, 8
"""What is profiled unless a size is given."""


def make(manifest: Manifest, name: str, size: str | None) -> tuple[list[Feed], str]:
    """One feed for each reference input of the encoder ``name``, a row each, all of one size; and that size in words.

    ``size``: such as ``3 s`` for recordings or ``77 tokens`` for texts and pronunciations (the unit may be left out);
    None for 3 s, 8 tokens, or the only size there is. Raises InputError, BundleError.
    """
    entry = manifest.entry(name)
    inputs, _ = read_reference(manifest, name)
    rows = range(min(len(array) for array in inputs.values()))
    if "length" not in inputs:
        if size is not None:
            raise InputError(f"encoder {name!r} has inputs of one size, given {size!r}", "leave out --size")
        return [{key: array[row : row + 1] for key, array in inputs.items()} for row in rows], ""
    how = entry.preprocessing
    if isinstance(how, AudioPreprocessing):
        seconds = _number(size, ("s", "second", "seconds"), SECONDS, how.min_seconds, how.max_seconds)
        buckets = (round(one * how.sample_rate) for one in how.buckets)
        samples = round(seconds * how.sample_rate)
        width = min((bucket for bucket in buckets if bucket >= samples), default=samples)
        return [_sequence(inputs, row, samples, width) for row in rows], f"{seconds:g} s"
    tokens = round(_number(size, ("token", "tokens"), float(min(TOKENS, _context(entry))), 3.0, float(_context(entry))))
    return [_sequence(inputs, row, tokens, tokens, ends=True) for row in rows], f"{tokens} tokens"


def _context(entry: EncoderEntry) -> int:
    return int(getattr(entry.preprocessing, "context", 77))


def _number(size: str | None, units: tuple[str, ...], default: float, low: float, high: float) -> float:
    if size is None:
        return default
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size)
    if not found or found[2] not in ("", *units) or not low <= float(found[1]) <= high:
        unit = units[-1]
        raise InputError(f"--size is {size!r}", f"give {low:g} to {high:g} {unit}, such as '{default:g} {units[0]}'")
    return float(found[1])


def _sequence(inputs: Mapping[str, NDArray[Any]], row: int, length: int, width: int, ends: bool = False) -> Feed:
    """Row ``row`` repeated or cut to ``length`` and padded to ``width``; with ``ends``, its first and last id stay."""
    feed: Feed = {"length": np.full_like(inputs["length"][:1], length)}
    for name, array in inputs.items():
        if array.ndim == 1:
            feed.setdefault(name, array[row : row + 1])
            continue
        real = array[row, : int(inputs["length"][row])]
        middle = real[1:-1] if ends and len(real) > 2 else real
        places = np.arange(length) % len(middle)
        line = middle[places]
        if ends:
            line[0], line[-1] = real[0], real[-1]
        feed[name] = np.zeros((1, width, *array.shape[2:]), array.dtype)
        feed[name][0, :length] = line
    return {name: feed[name] for name in inputs}
