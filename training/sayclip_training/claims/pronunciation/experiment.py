"""One arm with one seed: trained, held against everything that is claimed, and left as one small JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sayclip_export.readers.pronunciation import read_pronunciation
from sayclip_training import whole
from sayclip_training.claims.pronunciation import phonemes, precision, translations
from sayclip_training.claims.pronunciation.arms import Trial
from sayclip_training.claims.pronunciation.asking import Asking, halved
from sayclip_training.claims.testbed import LEARNT, TestBed, misspelt
from sayclip_training.distillation.recipe import train_pronunciation
from sayclip_training.distillation.teacher import open_teacher

FORMAT = 1


@dataclass(frozen=True)
class Place:
    """Where things are: the test bed, the teacher's name, and the folder of what resumes."""

    testbed: TestBed
    clip: str
    work: Path


def run(name: str, trial: Trial, seed: int, place: Place, say: Callable[[str], None]) -> dict[str, Any]:
    """Train ``trial`` with ``seed`` and measure it; the content of its JSON."""
    began, busy = time.monotonic(), time.process_time()
    testbed, kept = place.testbed, place.work / "kept"
    out = place.work / f"{file_name(name, seed)}.safetensors"
    settings = replace(trial.settings, seed=seed)
    captions = [str(testbed.captions)]
    for language in trial.languages:
        captions.append(f"{translations.write_captions(testbed, language, place.work)},lang={language}")
    trained = train_pronunciation(
        place.clip, captions, out, out.with_suffix(".work"), settings, kept=kept, say_line=say
    )
    learning = time.monotonic() - began
    asking = Asking(read_pronunciation(out), open_teacher(place.clip), testbed, kept)
    found = {
        "format": FORMAT,
        "arm": name,
        "about": trial.about,
        "seed": seed,
        "languages": ["en", *trial.languages],
        "settings": asdict(settings),
        "data": dict(testbed.sha256),
        "teacher": {"name": asking.teacher.name, "sha256": asking.teacher.sha256},
        "g2p": asdict(asking.checkpoint.g2p),
        "parameters": trained.parameters,
        "machine": machine(),
        "held_out": {key: round(value, 4) for key, value in trained.measures.items()},
        "phonemes": phonemes.scores(asking.checkpoint),
        "retrieval": {kind: asking.found(halved(asked)) for kind, asked in testbed.questions().items()},
        "translations": translations.scores(asking, trial.languages),
    }
    if trial.int8:
        found["int8"] = _int8(out, asking)
    found["seconds"] = {
        "training": round(learning, 1),
        "everything": round(time.monotonic() - began, 1),
        "processor": round(time.process_time() - busy, 1),
    }
    return found


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


def _int8(trained: Path, asking: Asking) -> dict[str, Any]:
    questions = asking.testbed.questions()
    asked = {}
    for kind in ("clean", misspelt(1)):
        chosen = [one for one in questions[kind] if one.part == LEARNT]
        asked[kind] = asking.ipa([one.text for one in chosen], "en-us"), chosen
    learnt = [one.text for one in questions["clean"] if one.part == LEARNT]
    return precision.scores(trained, asking.ipa(learnt, "en-us"), asking.bank, asked)
