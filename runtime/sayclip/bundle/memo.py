"""Small facts that take long to find out, remembered between processes as JSON in the user's cache.

The cache is a convenience and never a source of errors: a missing, damaged or unwritable one means that facts are
found out again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WRITING = threading.Lock()


def _user_folder(variable: str, below_home: str) -> Path | None:
    """An XDG base folder; relative values are ignored, as the XDG specification asks. None without a home."""
    value = os.environ.get(variable, "")
    if value and os.path.isabs(value):
        return Path(value)
    try:
        return Path.home() / below_home
    except RuntimeError:
        return None


def cache_folder() -> Path | None:
    """``$XDG_CACHE_HOME/sayclip`` (default ``~/.cache/sayclip``), not created; None when there is no home folder."""
    base = _user_folder("XDG_CACHE_HOME", ".cache")
    return None if base is None else base / "sayclip"


def data_folder() -> Path | None:
    """``$XDG_DATA_HOME/sayclip`` (default ``~/.local/share/sayclip``), not created; None without a home folder."""
    base = _user_folder("XDG_DATA_HOME", os.path.join(".local", "share"))
    return None if base is None else base / "sayclip"


class Memo:
    """A persistent mapping of strings to JSON objects that keeps its newest ``limit`` entries.

    Writing is atomic (a temporary file, then a rename); of two processes that write at once one may lose its entry,
    which only means that the fact is found out once more.
    """

    def __init__(self, name: str, limit: int = 2000) -> None:
        folder = cache_folder()
        self.path = None if folder is None else folder / f"{name}.json"
        self.limit = limit
        self._entries: dict[str, dict[str, Any]] | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        """The fact remembered under ``key``, or None."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries.get(key)

    def put(self, facts: Mapping[str, dict[str, Any]]) -> None:
        """Remember ``facts``; silently without effect on disk where the cache cannot be written."""
        if not facts:
            return
        with _WRITING:
            entries = self._read()
            for key, value in facts.items():
                entries.pop(key, None)
                entries[key] = value
            for old in list(entries)[: max(0, len(entries) - self.limit)]:
                del entries[old]
            self._entries = entries
            self._write(entries)

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.path is None:
            return {}
        try:
            loaded = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(loaded, dict):
            return {}
        return {key: value for key, value in loaded.items() if isinstance(value, dict)}

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        if self.path is None:
            return
        import tempfile  # hardly any start has something to write

        temporary = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=self.path.name, suffix=".tmp", dir=self.path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file)
            os.replace(temporary, self.path)
        except OSError:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
