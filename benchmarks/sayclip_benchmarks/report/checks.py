"""Checks of plain data, put together like the data: each takes a value and where it stands, and raises WrongValue."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]
_LONGEST = 60
_LEAST, _MOST = 1e-9, 1e15  # nothing that is measured lies beyond, and ratios stay finite


class WrongValue(Exception):
    """A value is not what it should be; ``str(error)`` says where it stands, what was seen and what was wanted."""


def wrong(where: str, seen: Any, wanted: str) -> WrongValue:
    """The error for a value that is there."""
    return WrongValue(f"{where} is {shown(seen)}, wanted {wanted}")


def shown(value: Any) -> str:
    """A value as a message quotes it: in JSON, short; of objects and lists only what they are."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return f"of the type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def text(value: Any, where: str) -> None:
    """Any string."""
    if not isinstance(value, str):
        raise wrong(where, value, "a text")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong(where, value, "true or false")


def anything(value: Any, where: str) -> None:
    """Whatever stands there."""


def whole(least: int = 0) -> Check:
    """A whole number of at least ``least``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise wrong(where, value, f"a whole number of at least {least}")

    return check


def number(least: float = -_MOST, most: float = _MOST) -> Check:
    """A finite number from ``least`` to ``most``."""
    limits = "".join(
        words
        for words, said in ((f" of at least {least:g}", least > -_MOST), (f" of at most {most:g}", most < _MOST))
        if said
    )

    def check(value: Any, where: str) -> None:
        if not _finite(value) or not least <= value <= most:
            raise wrong(where, value, f"a number{limits}")

    return check


def positive(value: Any, where: str) -> None:
    """A number above 0, between a billionth and a million of billions."""
    if not _measurable(value):
        raise wrong(where, value, "a number above 0")


def interval(value: Any, where: str) -> None:
    """Two numbers above 0, the lower first."""
    ends = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_measurable, value))
    if not ends or value[0] > value[1]:
        raise wrong(where, value, "two numbers above 0, the lower first")


def one_of(*values: str) -> Check:
    """One of a few words."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise wrong(where, value, f"one of {', '.join(values)}")

    return check


def or_null(check: Check) -> Check:
    """What ``check`` takes, or null."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def scalar(value: Any, where: str) -> None:
    """A text, a number, true, false or null."""
    if not (value is None or isinstance(value, (str, bool)) or _finite(value)):
        raise wrong(where, value, "a text, a number, true, false or null")


def each(check: Check, least: int = 0) -> Check:
    """A list of at least ``least`` values that ``check`` takes."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise wrong(where, value, f"a list of at least {least}" if least else "a list")
        for place, member in enumerate(value):
            check(member, f"{where}[{place}]")

    return checked


def by_name(check: Check) -> Check:
    """An object whose values ``check`` takes, whatever their names."""

    def checked(value: Any, where: str) -> None:
        _object(value, where)
        for name, member in value.items():
            check(member, f"{where}.{_shortened(name)}")

    return checked


def fields(wanted: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object that has every field of ``wanted`` and may have those of ``optional``; others are let through."""

    def checked(value: Any, where: str) -> None:
        _object(value, where)
        for name, check in wanted.items():
            if name not in value:
                raise WrongValue(f"{where}.{name} is missing")
            check(value[name], f"{where}.{name}")
        for name, check in (optional or {}).items():
            if name in value:
                check(value[name], f"{where}.{name}")

    return checked


def _object(value: Any, where: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise wrong(where, value, "an object")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _measurable(value: Any) -> bool:
    return _finite(value) and bool(_LEAST <= value <= _MOST)


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False
