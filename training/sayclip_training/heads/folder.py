"""Which run a folder of work holds: one may be resumed only by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayclip_training import whole
from sayclip_training.loop import TrainingError

FILE = "run.json"
_REMEDY = "name another folder with --work, or remove it to begin anew"


def hold(work: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Make ``work`` the folder of the run of ``facts``. Raises TrainingError where it holds the state of another."""
    if (work / f"{name}.state.pt").exists():
        try:
            before = json.loads((work / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            raise TrainingError(f"{work / FILE} does not say which run lies in its folder", _REMEDY)
        for key, value in facts.items():
            if before.get(key) != value:
                raise TrainingError(f"{work} holds a run with {key} {before.get(key)}, this one has {value}", _REMEDY)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    whole.write(work / FILE, lambda target: target.write_text(text, encoding="utf-8"))
