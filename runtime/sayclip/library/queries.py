"""From what is asked (text, speech, pictures, pronunciations, vectors, any of them together) to unit vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BundleError, InputError, LibraryError, SpaceMismatchError
from sayclip.explanation import Explanation
from sayclip.library import sounds_like
from sayclip.library.checks import finite_number
from sayclip.library.finding import printable
from sayclip.library.protocol import EncoderLike

ENCODER_OF = {
    "text": "text",
    "speech": "speech",
    "image": "image",
    "ipa": "pronunciation",
    "words": "pronunciation",
    "vector": None,
    "sounds_like": "text",  # and pronunciation, by their shares
}
_CANCELLED = 1e-6


class Query(NamedTuple):
    """What to search for: float32 `[n, width]` of length 1, and what they were made of.

    More than one where a spelling is read in several ways: an item then counts by the largest of its cosines, each
    times its number in `factors` `[n]`.
    """

    vectors: NDArray[np.float32]
    factors: list[float]
    parts: list[dict[str, Any]]


class Reading(NamedTuple):
    """How what is asked is to be read: the recordings' `sample_rate` in Hz, the `language` of words and spellings,
    and the share of sound in a query by `sounds_like` (None: the default of each)."""

    sample_rate: int | None = None
    language: str | None = None
    sound_share: float | None = None


def encode_queries(
    asked: Mapping[str, Any],
    encoder: EncoderLike | None,
    width: int,
    *,
    weights: Mapping[str, float | Sequence[float]] | None = None,
    reading: Reading = Reading(),  # noqa: B008 (immutable)
) -> Query:
    """Encode what is asked by modality (one value or a list each; None is passed over) and fuse it by weight.

    Every embedding has length 1 and weight 1 unless `weights` says otherwise: a number for each query of a modality,
    or a list with one number a query. The weighted sum is brought to length 1 again. A negative weight pushes away.
    Spellings (`sounds_like`) are read in two ways, each of which is fused with all else. Speech may be an
    `Explanation`, whose embedding is taken as it is.

    Raises `InputError` for nothing asked and for weights of no use, `BundleError` for an encoder that is not there,
    and whatever the encoder raises for a query that it cannot encode.
    """
    given = {modality: _listed(modality, value) for modality, value in asked.items() if value is not None}
    if not given:
        raise InputError("nothing to search for", f"give at least one of {', '.join(ENCODER_OF)}")
    factors = _factors(given, weights or {})
    share = sounds_like.checked_share(reading.sound_share)
    if reading.sound_share is not None and "sounds_like" not in given:
        raise InputError("sound_share is given and sounds_like is not", "leave it out, or ask by sounds_like")
    if reading.language is not None and not {"words", "sounds_like"} & given.keys():
        raise InputError(f"language is {reading.language!r}, but no words are asked for", "leave it out, or give words")
    for modality in given:
        _require(modality, encoder, share)
    readings = sounds_like.factors(share) if "sounds_like" in given else {"": 1.0}
    totals = np.zeros((len(readings), width))
    parts: list[dict[str, Any]] = []
    for modality, values in given.items():
        for row, rows in enumerate(_embedded(modality, values, encoder, width, reading, share)):
            totals[row if modality == "sounds_like" else slice(None)] += np.asarray(factors[modality]) @ rows
        more = {"sound_share": share} if modality == "sounds_like" else {}
        for value, weight in zip(values, factors[modality], strict=True):
            parts.append({"modality": modality, "query": _shown(value), "weight": weight, **more})
    lengths = np.linalg.norm(totals, axis=1, keepdims=True)
    if lengths.min() < _CANCELLED:
        raise InputError("the queries cancel each other out", "give other weights")
    return Query((totals / lengths).astype(np.float32), list(readings.values()), parts)


def unit_vectors(value: object, width: int, name: str = "vector") -> NDArray[np.float64]:
    """Check one vector `[width]` or several `[n, width]` and bring each to length 1; raises `InputError`."""
    try:
        rows = np.atleast_2d(np.asarray(value, np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is no array of numbers ({error})", f"give float32 [{width}]") from None
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise InputError(f"{name} has shape {list(rows.shape)}", f"give [{width}] or [n, {width}]")
    if not np.isfinite(rows).all():
        raise InputError(f"{name} holds NaN or Inf", "give finite numbers")
    rows = rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(f"{name} is all zeros", "give a vector that points somewhere")
    unit: NDArray[np.float64] = rows / lengths
    return unit


def _embedded(
    modality: str, values: list[Any], encoder: EncoderLike | None, width: int, reading: Reading, share: float
) -> list[NDArray[np.float64]]:
    """Embeddings `[n, width]` of `values`, one array for each way in which they are read."""
    if modality == "vector":
        return [np.concatenate([unit_vectors(value, width) for value in values])]
    assert encoder is not None  # `_require` saw to it
    if modality == "sounds_like":
        found = sounds_like.embed(values, encoder, share, reading.language)
        return [_checked(rows, values, width, modality, name) for name, rows in found.items()]
    if modality == "text":
        rows = encoder.text(values)
    elif modality == "speech":
        rows = _spoken(values, encoder, reading.sample_rate)
    elif modality == "image":
        rows = encoder.image(values)
    elif modality == "ipa":
        rows = encoder.pronunciation(values)
    elif reading.language is None:
        rows = encoder.pronunciation(words=values)
    else:
        rows = encoder.pronunciation(words=values, language=reading.language)
    return [_checked(rows, values, width, modality, str(ENCODER_OF[modality]))]


def _spoken(values: list[Any], encoder: EncoderLike, sample_rate: int | None) -> NDArray[Any]:
    """Embeddings of recordings `[n, width]`; those of what was explained before are not made again."""
    recordings = [value for value in values if not isinstance(value, Explanation)]
    if len(recordings) == len(values):
        return encoder.speech(values, sample_rate=sample_rate)
    for value in values:
        if isinstance(value, Explanation) and value.space != encoder.space:
            raise SpaceMismatchError(
                f"the explanation of {_shown(value)} is of space {value.space}, the library's of {encoder.space}",
                "explain the recording by the encoder that the library was opened with",
            )
    rows: Iterator[NDArray[Any]] = iter(())
    if recordings:
        encoded = encoder.speech(recordings, sample_rate=sample_rate)
        rows = iter(_checked(encoded, recordings, encoder.width, "speech", "speech"))
    return np.stack([value.embedding if isinstance(value, Explanation) else next(rows) for value in values])


def _checked(rows: NDArray[Any], values: list[Any], width: int, modality: str, name: str) -> NDArray[np.float64]:
    if rows.shape != (len(values), width):
        raise BundleError(
            f"the {name} encoder gave {list(rows.shape)}, wanted [{len(values)}, {width}]",
            "load the bundle that made the library",
        )
    return unit_vectors(rows, width, f"the embedding of the {modality} query")


def _require(modality: str, encoder: EncoderLike | None, share: float) -> None:
    name = ENCODER_OF[modality]
    if name is None:
        return
    if encoder is None:
        raise LibraryError(
            f"the library was opened without an encoder, so it cannot take {modality}",
            "open it with one, or search by vector",
        )
    for needed in sounds_like.factors(share) if modality == "sounds_like" else (name,):
        if needed not in encoder.names:
            has = ", ".join(encoder.names) or "no encoder"
            raise BundleError(
                f"searching by {modality} needs the {needed} encoder, the bundle has {has}",
                f"load a bundle of space {encoder.space} that has it, or ask in another way",
            )


def _listed(modality: str, value: Any) -> list[Any]:
    if modality == "vector":
        rows = np.asarray(value) if not isinstance(value, np.ndarray) else value
        return list(rows) if rows.ndim == 2 and len(rows) else [value]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise InputError(f"{modality} is an empty list", "give at least one query, or leave it out")
    return values


def _factors(given: Mapping[str, list[Any]], weights: Mapping[str, float | Sequence[float]]) -> dict[str, list[float]]:
    if not isinstance(weights, Mapping):
        raise InputError(f"weights is {weights!r}", "give a number by name, such as {'text': 1, 'speech': 0.5}")
    factors = {modality: [1.0] * len(values) for modality, values in given.items()}
    for modality, weight in weights.items():
        if modality not in given:
            raise InputError(f"weights names {modality!r}", f"name only what is asked: {', '.join(given)}")
        several = isinstance(weight, (list, tuple, np.ndarray))
        numbers = [finite_number(f"the weight of {modality}", number) for number in (weight if several else [weight])]  # type: ignore[union-attr]
        if several and len(numbers) != len(given[modality]):
            raise InputError(
                f"{len(numbers)} weights for {len(given[modality])} {modality} queries",
                "give one number, or one a query",
            )
        factors[modality] = numbers if several else numbers * len(given[modality])
    if not any(number for numbers in factors.values() for number in numbers):
        raise InputError("all weights are 0", "give at least one query another weight")
    return factors


def _shown(value: Any) -> str:
    if isinstance(value, Explanation):
        value = value.source
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return printable(value)
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} {list(shape)}" if shape is not None else type(value).__name__
