"""``about.json``: how a test bed was made, how much it holds, and the hashes by which two can be compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sayclip.bundle.files import sha256_of
from sayclip_training.testbed.captions import KINDS, Caption
from sayclip_training.testbed.misspellings import LEVELS, WANTED
from sayclip_training.testbed.speech import RATE
from sayclip_training.testbed.splits import SPLITS

_HASHED = ("pictures/*.webp", "scenes/*.webp", "captions.tsv", "words.json", "speech.tsv", "languages/*.tsv")


def about(
    target: Path,
    recipe: Mapping[str, Any],
    captions: Sequence[Caption],
    words: Sequence[Mapping[str, Any]],
    speech: Sequence[Mapping[str, Any]],
    planned: int,
) -> dict[str, Any]:
    """The content of the file. ``planned``: recordings that were tried, some of which a voice cannot say."""
    files = sorted(path.relative_to(target).as_posix() for pattern in _HASHED for path in target.glob(pattern))
    hashes = sorted(row["sha256"] for row in speech)
    return {
        "recipe": dict(recipe),
        "seed": recipe["seed"],
        "versions": recipe["versions"],
        "counts": {
            "captions": {
                kind: _count([caption.split for caption in captions if caption.kind == kind]) for kind in KINDS
            },
            "words": len(words),
            "with_homophones": sum(bool(word["homophones"]) for word in words),
            "homophones": sum(len(word["homophones"]) for word in words),
            "misspelt": {str(level): _misspelt(words, str(level)) for level in LEVELS},
            "recordings": _count([row["split"] for row in speech]),
            "recordings_left_out": planned - len(speech),
            "voices": len({row["voice"] for row in speech}),
            "hours": round(sum(row["samples"] for row in speech) / RATE / 3600, 3),
        },
        "sha256": {file: sha256_of(target / file) for file in files},
        "speech_sha256": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
    }


def _count(splits: Sequence[str]) -> dict[str, int]:
    often = Counter(splits)
    return {split: often[split] for split in SPLITS if often[split]}


def _misspelt(words: Sequence[Mapping[str, Any]], level: str) -> dict[str, float]:
    """How many spellings there are, and the share of names that have one, and as many as wanted."""
    counts = [len(word["misspelt"][level]) for word in words]
    return {
        "spellings": sum(counts),
        "share_with_any": round(sum(count > 0 for count in counts) / max(1, len(counts)), 3),
        "share_with_all": round(sum(count >= WANTED for count in counts) / max(1, len(counts)), 3),
    }
