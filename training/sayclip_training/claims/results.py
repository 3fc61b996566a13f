"""The JSONs of experiments: their names, what stands in all of them, and how they are written and read."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from sayclip.errors import InputError
from sayclip_training import whole
from sayclip_training.claims.study import Study


def file_name(arm: str, seed: int) -> str:
    """The name of the files of an experiment, without an ending."""
    return f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"


def write(found: dict[str, Any], path: Path) -> None:
    """Write the JSON of an experiment to ``path``, a line for each part of each field, whole or not at all."""
    lines = []
    for key, value in found.items():
        parts = value.items() if isinstance(value, dict) else ()
        inner = [f"  {json.dumps(name)}: {json.dumps(part, ensure_ascii=False)}" for name, part in parts]
        text = "{\n" + ",\n".join(inner) + "\n }" if inner else json.dumps(value, ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {text}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    whole.write(path, lambda target: target.write_text(text, encoding="utf-8"))


def read(study: Study, folder: Path) -> list[dict[str, Any]]:
    """The JSONs of all experiments in ``folder``, by arm and seed. Raises InputError for a file that is none."""
    order = list(study.arms)
    found = [_read(study, path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: (order.index(one["arm"]), one["seed"]))


def done(study: Study, folder: Path, arm: str, seed: int) -> bool:
    """Whether an experiment has left its JSON. Raises InputError for a file of its name that is none."""
    path = folder / f"{file_name(arm, seed)}.json"
    return path.is_file() and _read(study, path)["arm"] == arm


def machine() -> dict[str, Any]:
    """What it ran on."""
    from sayclip.sessions import cpu

    return {
        "architecture": platform.machine(),
        "instructions": " ".join(cpu.features()),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class Stopwatch:
    """Time since it was made: on the clock, until learning was done, and of the processor."""

    def __init__(self) -> None:
        self._began, self._busy, self._learnt = time.monotonic(), time.process_time(), 0.0

    def learnt(self) -> None:
        """Training is done, measuring begins."""
        self._learnt = time.monotonic() - self._began

    def seconds(self) -> dict[str, float]:
        """What the JSON says of it."""
        return {
            "training": round(self._learnt, 1),
            "everything": round(time.monotonic() - self._began, 1),
            "processor": round(time.process_time() - self._busy, 1),
        }


def _read(study: Study, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        good = found["format"] == study.format and found["arm"] in study.arms and isinstance(found["seed"], int)
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise InputError(f"{path} is no result of this version", "remove it")
    return dict(found)
