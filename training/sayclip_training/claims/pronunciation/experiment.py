"""One arm with one seed: trained, held against everything that is claimed, and left as one small JSON."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sayclip_export.readers.pronunciation import read_pronunciation
from sayclip_training.claims.pronunciation import phonemes, precision, translations
from sayclip_training.claims.pronunciation.arms import trials
from sayclip_training.claims.pronunciation.asking import Asking, halved
from sayclip_training.claims.results import Stopwatch, file_name, machine
from sayclip_training.claims.study import Place, Say
from sayclip_training.claims.testbed import LEARNT, misspelt
from sayclip_training.distillation.recipe import train_pronunciation
from sayclip_training.distillation.teacher import open_teacher

FORMAT = 1


def run(name: str, seed: int, place: Place, say: Say) -> dict[str, Any]:
    """Train the arm ``name`` with ``seed`` and measure it; the content of its JSON."""
    watch, trial = Stopwatch(), trials(place.steps)[name]
    testbed, kept = place.testbed, place.kept
    out = place.work / f"{file_name(name, seed)}.safetensors"
    settings = replace(trial.settings, seed=seed)
    captions = [str(testbed.captions)]
    for language in trial.languages:
        captions.append(f"{translations.write_captions(testbed, language, place.work)},lang={language}")
    trained = train_pronunciation(
        place.clip, captions, out, out.with_suffix(".work"), settings, kept=kept, say_line=say
    )
    watch.learnt()
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
    found["seconds"] = watch.seconds()
    return found


def _int8(trained: Path, asking: Asking) -> dict[str, Any]:
    questions = asking.testbed.questions()
    asked = {}
    for kind in ("clean", misspelt(1)):
        chosen = [one for one in questions[kind] if one.part == LEARNT]
        asked[kind] = asking.ipa([one.text for one in chosen], "en-us"), chosen
    learnt = [one.text for one in questions["clean"] if one.part == LEARNT]
    return precision.scores(trained, asking.ipa(learnt, "en-us"), asking.bank, asked)
