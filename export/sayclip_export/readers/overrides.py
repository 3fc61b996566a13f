"""``--set KEY=VALUE``: what a checkpoint leaves open, told by the person who exports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sayclip.errors import InputError
from sayclip_export.readers.errors import CheckpointError

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LARGEST = 1 << 20


class Overrides:
    """Values by key, such as ``hubert.heads``; a reader asks for each it knows, and ``finish`` refuses the rest."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        self._known: set[str] = set()

    @classmethod
    def parse(cls, items: Sequence[str]) -> Overrides:
        """From ``KEY=VALUE`` strings. Raises InputError for one without a key, a value or given twice."""
        values: dict[str, str] = {}
        for item in items:
            key, equals, value = (part.strip() for part in item.partition("="))
            if not (key and equals and value):
                raise InputError(f"--set {item!r} is no KEY=VALUE", "write for example --set hubert.heads=12")
            if key in values:
                raise InputError(f"--set {key} is given twice", "give it once")
            values[key] = value
        return cls(values)

    def text(self, key: str, default: str | None = None, choices: Sequence[str] = ()) -> str | None:
        """The value of ``key`` as it stands, or ``default``. Raises InputError unless it is one of ``choices``."""
        value = self._take(key)
        if value is None:
            return default
        if choices and value not in choices:
            raise InputError(f"--set {key}={value}, wanted {_listed(choices)}", "correct the value")
        return value

    def integer(self, key: str, default: int | None = None) -> int | None:
        """The value of ``key``, at least 1, or ``default``. Raises InputError for anything else."""
        value = self._take(key)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and 1 <= int(value) <= _LARGEST):
            raise InputError(f"--set {key}={value}, wanted a whole number from 1", "correct the value")
        return int(value)

    def require_integer(self, key: str, why: str) -> int:
        """The value of ``key``. Raises CheckpointError with ``why`` and the key where it was not given."""
        value = self.integer(key)
        if value is None:
            raise CheckpointError(why, f"say it with --set {key}=NUMBER")
        return value

    def boolean(self, key: str, default: bool | None = None) -> bool | None:
        """The value of ``key``, or ``default``. Raises InputError for anything but true and false."""
        value = self._take(key)
        if value is None:
            return default
        if value.lower() not in _BOOLEANS:
            raise InputError(f"--set {key}={value}, wanted true or false", "correct the value")
        return _BOOLEANS[value.lower()]

    def finish(self) -> None:
        """Refuse, with InputError, keys that the reader never asked for: they would change nothing."""
        left = sorted(set(self._values) - self._known)
        if left:
            known = _listed(sorted(self._known)) if self._known else "nothing"
            raise InputError(f"--set {left[0]} means nothing for this checkpoint, which leaves open {known}", "drop it")

    def _take(self, key: str) -> str | None:
        self._known.add(key)
        return self._values.get(key)


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + (" or " if len(items) > 1 else "") + items[-1]
