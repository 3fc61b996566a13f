"""Checks of small values that callers give."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sayclip.errors import InputError

POSE_LENGTHS = (3, 16)


def checked_details(
    *,
    caption: object = None,
    stamp: object = None,
    pose: object = None,
    frame_id: object = None,
    meta: object = None,
) -> dict[str, Any]:
    """Check what accompanies a picture and return what is not None, as JSON can hold it.

    Raises `InputError` for a caption or frame that is not text, a stamp or pose that is not finite numbers,
    a pose of fewer than 3 or more than 16 numbers, and metadata that JSON cannot hold.
    """
    details: dict[str, Any] = {}
    if caption is not None:
        details["caption"] = checked_text("caption", caption)
    if stamp is not None:
        details["stamp"] = finite_number("stamp", stamp)
    if pose is not None:
        details["pose"] = _pose(pose)
    if frame_id is not None:
        details["frame_id"] = checked_text("frame_id", frame_id)
    if meta is not None:
        details["extra"] = _meta(meta)
    return details


def checked_text(name: str, value: object) -> str:
    """Return `value` if it is text that UTF-8 can hold, else raise `InputError`."""
    if not isinstance(value, str):
        raise InputError(f"{name} is a {type(value).__name__}", "give it as a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} {value!r} cannot be written as UTF-8", "give plain Unicode text") from None
    return value


def finite_number(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number, else raise `InputError`."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]  # whatever has __float__, such as numpy's scalars
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {value!r}", "give it as a number") from None
    if not math.isfinite(number):
        raise InputError(f"{name} is {number}", "give a finite number")
    return number


def _pose(value: object) -> list[float]:
    shortest, longest = POSE_LENGTHS
    remedy = f"give {shortest} to {longest} finite numbers"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InputError(f"pose is {value!r}", remedy)
    flat = value.ravel() if isinstance(value, np.ndarray) else value  # a 4×4 matrix, row by row
    numbers = [finite_number("a number of the pose", number) for number in flat]
    if not shortest <= len(numbers) <= longest:
        raise InputError(f"pose has {len(numbers)} numbers", remedy)
    return numbers


def _meta(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"meta is a {type(value).__name__}", "give a mapping from strings to what JSON can hold")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"meta cannot be written as JSON ({error})", "give what JSON can hold") from None
    plain: dict[str, Any] = json.loads(text)
    return plain


def whole_number(name: str, value: object) -> int:
    """Return `value` as an int if it is a whole number of at least 1, else raise `InputError`."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # whatever has __index__
    except TypeError:
        raise InputError(f"{name} is {value!r}", "give a whole number of at least 1") from None
    if number < 1:
        raise InputError(f"{name} is {number}", "give a whole number of at least 1")
    return number


def cosine(value: object) -> float:
    """Return a threshold on the score; no threshold for None. Raises `InputError`."""
    if value is None:
        return -np.inf
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.floating)) or not np.isfinite(value):
        raise InputError(f"min_score is {value!r}", "give a cosine between -1 and 1")
    return float(value)
