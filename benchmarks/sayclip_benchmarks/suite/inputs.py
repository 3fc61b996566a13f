"""Inputs that rotate: real recordings, captions and pictures at the sizes that are timed, never zeros, never one alone.

They are made once and shared by all candidates through files, so that all of them see the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.bundle.manifest import Manifest
from sayclip.preparation import Preparation, pad
from sayclip_benchmarks.suite.cases import Case

ROTATE = 4  # different inputs of every case
RATE = 16_000
_MEGAPIXELS = (4000, 3000)
Feed = dict[str, NDArray[Any]]


class Sources:
    """Pictures, captions and recordings that inputs are made from, as paths and texts."""

    def __init__(self, pictures: Sequence[Path], texts: Sequence[str], recordings: Sequence[Path]) -> None:
        self.pictures, self.texts, self.recordings = list(pictures), list(texts), list(recordings)


def make(
    manifest: Manifest, case: Case, sources: Sources, folder: Path, *, count: int = ROTATE, first: int = 0
) -> dict[str, Any]:
    """Write inputs of ``case`` into ``folder``; what ``load`` needs to find them.

    Of sessions ``count`` of them, from number ``first`` on; of all else ``ROTATE``.
    """
    preparation = Preparation(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / case.key.replace("/", "-").replace(" ", "_")
    if case.encoder == "image" and case.what != "session":
        return {"files": [str(path) for path in _photographs(sources, folder)]}
    if case.encoder in ("text", "pronunciation") and case.what != "session":
        return {"texts": _captions(preparation, case, sources)}
    numbers = range(first * case.batch, (first + count) * case.batch)
    rows = [_row(preparation, case, sources, number) for number in numbers]
    if case.encoder == "speech" and case.what != "session":
        arrays: dict[str, Any] = {f"{number}.wave": row for number, row in enumerate(rows)}
    else:
        feeds = [_feed(preparation, case, rows[i * case.batch : (i + 1) * case.batch]) for i in range(count)]
        arrays = {f"{number}.{name}": array for number, feed in enumerate(feeds) for name, array in feed.items()}
    path = stem.with_suffix(".npz")
    np.savez(path, **arrays)
    return {"arrays": str(path)}


def load(made: dict[str, Any]) -> list[Any]:
    """What ``make`` wrote: paths, texts, waves f32 [S], or feeds."""
    if "files" in made:
        return [Path(file) for file in made["files"]]
    if "texts" in made:
        return list(made["texts"])
    with np.load(made["arrays"]) as arrays:
        feeds: dict[int, Feed] = {}
        for key in arrays.files:
            number, name = key.split(".", 1)
            feeds.setdefault(int(number), {})[name] = arrays[key]
    found = [feeds[number] for number in sorted(feeds)]
    return [feed["wave"] for feed in found] if "wave" in found[0] else found


def _row(preparation: Preparation, case: Case, sources: Sources, number: int) -> NDArray[Any]:
    if case.encoder == "image":
        return preparation.picture(sources.pictures[number % len(sources.pictures)])
    if case.encoder == "speech":
        samples = round(case.amount * RATE)
        picked = [sources.recordings[place] for place in _drawn(number, len(sources.recordings), 12)]
        waves = np.concatenate(preparation.recordings(None, picked))
        return np.resize(waves, samples).astype(np.float32)
    if case.encoder == "pronunciation":
        words = " ".join(_SPOKEN).split()
        said = " ".join(words[place] for place in _drawn(number, len(words), len(words)))
        entry = preparation.pronunciations([_SPOKEN[number] if number < len(_SPOKEN) else said])[0]
        start = number % 5 if number >= len(_SPOKEN) else 0  # within a word, or the few words would soon repeat
        return np.concatenate([entry[:1], np.resize(entry[1 + start : -1], int(case.amount) - 2), entry[-1:]])
    ids = preparation.texts([sources.texts[number % len(sources.texts)]])[0]
    longer = np.concatenate([part[1:-1] for part in preparation.texts(sources.texts[number % 7 : number % 7 + 60])])
    middle = np.resize(np.concatenate([ids[1:-1], longer]), int(case.amount) - 2)
    return np.concatenate([ids[:1], middle, ids[-1:]])


def _drawn(number: int, among: int, count: int) -> list[int]:
    """Places, one after another from ``number`` on; once all have been first, in an order of that number's own."""
    if number < among:
        return [(number + more) % among for more in range(count)]
    return [int(place) for place in np.resize(np.random.default_rng(number).permutation(among), count)]


_SPOKEN = ("ɹɛd æpəl", "blu kɑɹ", "jɛloʊ boʊt", "ɡɹin tɹi")


def _feed(preparation: Preparation, case: Case, rows: Sequence[NDArray[Any]]) -> Feed:
    if case.encoder == "image":
        return {"pixels": np.stack(rows)}
    if case.encoder == "speech":
        # Of exactly the length that the case names; the runtime pads what its users bring.
        waveform, length = pad(list(rows), np.float32)
        return {"waveform": waveform, "length": length}
    ids, length = pad(list(rows), np.int32)
    return {"phoneme_ids" if case.encoder == "pronunciation" else "token_ids": ids, "length": length}


def _captions(preparation: Preparation, case: Case, sources: Sources) -> list[str]:
    """Texts of as many tokens as the case has, as they are typed; IPA for a pronunciation encoder."""
    if case.encoder == "pronunciation":
        return list(_SPOKEN)
    found: list[str] = []
    for start in range(0, len(sources.texts)):
        words = " and ".join(sources.texts[start : start + 12]).split()
        for count in range(1, len(words)):
            text = " ".join(words[:count])
            tokens = len(preparation.texts([text])[0])
            if tokens == case.amount and text not in found:
                found.append(text)
            if tokens >= case.amount:
                break
        if len(found) == ROTATE:
            return found
    return (found or list(sources.texts[:1])) * ROTATE


def _photographs(sources: Sources, folder: Path) -> list[Path]:
    """JPEGs of 12 megapixels, from the pictures there are, enlarged, with the grain that a camera's have."""
    from PIL import Image

    made = []
    for number in range(ROTATE):
        target = folder / f"photograph{number}.jpg"
        made.append(target)
        if target.exists():
            continue
        source = sources.pictures[number % len(sources.pictures)]
        with Image.open(source) as picture:
            large = picture.convert("RGB").resize(_MEGAPIXELS, Image.Resampling.BICUBIC)
        rng = np.random.default_rng(number)
        coarse = rng.normal(0, 12, (_MEGAPIXELS[1] // 8, _MEGAPIXELS[0] // 8))
        grain = np.repeat(np.repeat(coarse, 8, 0), 8, 1) + rng.normal(0, 4, coarse.repeat(8, 0).repeat(8, 1).shape)
        pixels = np.clip(np.asarray(large, np.float32) + grain[..., None], 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(target, quality=92)
    return made
