"""The folder that a test bed is built in: begun, gone on with, finished, or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayclip.errors import InputError
from sayclip_training.testbed.files import write

ABOUT = "about.json"
PARTS = ".parts"
_BEGUN = "begun.json"
_ANOTHER = "name another folder, or remove this one"


def begin(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether there is anything left to do in ``folder`` for ``recipe``: the options, and the versions they meet.

    Raises InputError for a folder that holds something else, a test bed of another recipe, or cannot be written.
    """
    finished, begun = folder / ABOUT, folder / PARTS / _BEGUN
    try:
        if finished.exists():
            _compare(finished, "was made", recipe)
            return False
        if begun.exists():
            _compare(begun, "was begun", recipe)
            return True
        if folder.exists() and any(path.name != PARTS for path in folder.iterdir()):
            raise InputError(f"{folder} is not empty, and holds no test bed", "name another folder")
        write(begun, json.dumps(dict(recipe)).encode())
        return True
    except OSError as error:
        raise InputError(
            f"{error.filename or folder} cannot be written ({error.strerror or error})", "name another folder"
        ) from error


def _compare(path: Path, how: str, recipe: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        made = _flat(before.get("recipe", before))
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error})", _ANOTHER) from error
    root = path.parent.parent if path.name == _BEGUN else path.parent
    for key, value in _flat(recipe).items():
        if made.get(key) != value:
            raise InputError(f"the test bed in {root} {how} with {key} {made.get(key)}, not with {value}", _ANOTHER)


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {**recipe, **recipe.get("versions", {}), "versions": None}
