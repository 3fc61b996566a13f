"""Typed reading of a checkpoint's JSON files, where a missing value means the library's default."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sayclip_export.readers.errors import CheckpointError, refuse

_MAX_BYTES = 64 << 20  # vocabularies of CLIP have about 4 MB


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises CheckpointError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise refuse(f"{path} has {path.stat().st_size} bytes, wanted at most {_MAX_BYTES}")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise refuse(f"{path} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise refuse(f"{path} holds a {type(value).__name__}, wanted a JSON object")
    return value


class Settings:
    """One JSON object of a checkpoint; ``where`` names it in messages. Null counts as missing."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def section(self, key: str) -> Settings | None:
        """The object under ``key``; None where there is none."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Settings(value, f"{self.where}: {key}")

    def integer(self, key: str, default: int, high: int = 1 << 20) -> int:
        """A whole number from 1 to ``high``."""
        value = self._get(key, default)
        if type(value) is not int or not 1 <= value <= high:
            raise self.wrong(key, f"a whole number from 1 to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number above 0."""
        value = self._get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise self.wrong(key, "a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, default: str, one_of: Collection[str]) -> str:
        """One of some names."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in one_of:
            raise self.wrong(key, " or ".join(repr(name) for name in one_of))
        return value

    def triple(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three finite numbers."""
        value = self._get(key, default)
        good = isinstance(value, (list, tuple)) and len(value) == 3
        if not good or not all(type(part) in (int, float) and math.isfinite(part) for part in value):
            raise self.wrong(key, "three numbers")
        return float(value[0]), float(value[1]), float(value[2])

    def wrong(self, key: str, wanted: str) -> CheckpointError:
        """The error for a value that is not as it should be."""
        seen = repr(self.data.get(key))
        seen = seen if len(seen) <= 80 else seen[:77] + "..."
        return refuse(f"{self.where}: {key} is {seen}, wanted {wanted}")

    def _get(self, key: str, default: Any) -> Any:
        value = self.data.get(key)
        return default if value is None else value
