"""Which run a folder of work holds: one may be resumed only by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayclip_training import whole
from sayclip_training.loop import TrainingError

FILE = "run.json"
REMEDY = "name another folder with --work, or remove it to begin anew"


def hold(work: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Make ``work`` the folder of the run ``name`` of ``facts``. Raises TrainingError as ``require_same``."""
    require_same(work, name, facts)
    keep(work, facts)


def require_same(work: Path, name: str, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts of the run whose state ``work`` holds, None without one. Raises TrainingError for another run's."""
    if not (work / f"{name}.state.pt").exists():
        return None
    path = work / FILE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        raise TrainingError(f"{path} does not say which run lies in its folder", REMEDY)
    for key, value in facts.items():
        if before.get(key) != value:
            raise TrainingError(f"{work} holds a run with {key} {before.get(key)}, this one has {value}", REMEDY)
    return before


def keep(work: Path, facts: Mapping[str, Any]) -> None:
    """Write down which run ``work`` holds."""
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    whole.write(work / FILE, lambda target: target.write_text(text, encoding="utf-8"))
