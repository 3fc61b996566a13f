"""Typed reading of JSON objects: every refusal names the place, the value seen and the value wanted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from sayclip.errors import BundleError

REMEDY = "fetch the bundle again, or make it again with `sayclip export`"
_REQUIRED: Any = object()


def refuse(problem: str, remedy: str = REMEDY) -> BundleError:
    """The error for a manifest that cannot be used."""
    return BundleError(problem, remedy)


def shown(value: object) -> str:
    """``value`` as it appears in a message: one line, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse_json(text: str, where: str) -> Any:
    """JSON as RFC 8259 has it: no NaN or Infinity, and no name twice in one object.

    Raises BundleError with ``where`` in the message.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise refuse(f"{where} has the name {shown(key)} twice in one object, wanted once")
            result[key] = value
        return result

    def constant(name: str) -> Any:
        raise refuse(f"{where} holds {name}, wanted finite numbers only")

    def number(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else constant(digits)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=number)
    except json.JSONDecodeError as error:
        raise refuse(f"{where} is not valid JSON ({error.msg} at line {error.lineno})") from None
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        raise refuse(f"{where} is not usable JSON (nested too deeply, or a number too long)") from None


class Fields:
    """A JSON object, read field by field. ``where`` is its place in the manifest, such as ``encoders.image``."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise refuse(f"{where} is {shown(data)}, wanted an object")
        self.data: dict[str, Any] = data
        self.where = where

    def wrong(self, key: str, wanted: str) -> BundleError:
        """The refusal of the value at ``key``."""
        if key not in self.data:
            return refuse(f"{self.where} has no {key!r}, wanted {wanted}")
        return refuse(f"{self.where}.{key} is {shown(self.data[key])}, wanted {wanted}")

    def _get(self, key: str, default: Any, wanted: str, fits: Callable[[Any], bool]) -> Any:
        if key not in self.data and default is not _REQUIRED:
            return default
        if key not in self.data or not fits(self.data[key]):
            raise self.wrong(key, wanted)
        return self.data[key]

    def text(self, key: str, default: str = _REQUIRED, *, one_of: Iterable[str] = (), pattern: str = "") -> str:
        """A string of one line without control characters; one of ``one_of`` or matching ``pattern`` if given.

        Without a ``default`` it has to be there and may not be empty.
        """
        choices = tuple(one_of)
        wanted = "one of " + ", ".join(choices) if choices else "a string of one line"
        wanted = f"a string like {pattern}" if pattern else wanted

        def fits(value: Any) -> bool:
            if not isinstance(value, str) or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
                return False
            if not value and default is _REQUIRED:
                return False
            return (not choices or value in choices) and (not pattern or re.fullmatch(pattern, value) is not None)

        return str(self._get(key, default, wanted, fits))

    def integer(self, key: str, default: int = _REQUIRED, *, low: int = 0, high: int = 2**53) -> int:
        """An integer from ``low`` to ``high``; true and false are not integers."""

        def fits(value: Any) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

        return int(self._get(key, default, f"an integer from {low} to {high}", fits))

    def number(self, key: str, default: float = _REQUIRED, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from ``low`` to ``high``."""
        return float(self._get(key, default, _number_wanted(low, high), lambda v: is_number(v, low, high)))

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._get(key, default, "true or false", lambda v: isinstance(v, bool)))

    def numbers(
        self,
        key: str,
        default: tuple[float, ...] = _REQUIRED,
        *,
        count: int | None = None,
        low: float = -math.inf,
    ) -> tuple[float, ...]:
        """A list of finite numbers of at least ``low``, ``count`` of them if given."""
        wanted = f"a list of {count if count is not None else 'some'} finite numbers"
        wanted += "" if low == -math.inf else f" of at least {low:g}"

        def fits(value: Any) -> bool:
            if not isinstance(value, (list, tuple)) or (count is not None and len(value) != count):
                return False
            return all(is_number(number, low, math.inf) for number in value)

        return tuple(float(number) for number in self._get(key, default, wanted, fits))

    def items(self, key: str) -> list[Any]:
        """A list; empty when absent."""
        return list(self._get(key, [], "a list", lambda v: isinstance(v, (list, tuple))))

    def object(self, key: str) -> Fields:
        """The object at ``key``, to be read in turn."""
        if not isinstance(self.data.get(key), dict):
            raise self.wrong(key, "an object")
        return Fields(self.data[key], f"{self.where}.{key}")

    def free(self, key: str) -> dict[str, Any]:
        """The object at ``key`` as it is; empty when absent."""
        return dict(self._get(key, {}, "an object", lambda v: isinstance(v, dict)))


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether ``value`` is a finite JSON number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and low <= value <= high
    except OverflowError:  # an integer beyond any float
        return False


def _number_wanted(low: float, high: float) -> str:
    bounds = [f"at least {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    return "a finite number" + (" of " + " and ".join(bounds) if bounds else "")
