"""One arm with one seed: trained, held against everything that is claimed, and left as one small JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sayclip_export.readers.speech_head import write_speech_head
from sayclip_training.claims.results import Stopwatch, file_name, machine
from sayclip_training.claims.segments import own, precision, spoken, units, vocabulary
from sayclip_training.claims.segments.arms import MAIN, trials
from sayclip_training.claims.study import Place, Say
from sayclip_training.heads.recipe import Material, Trained, checkpoint, gather, train_head
from sayclip_training.heads.segmentation import recurrences
from sayclip_training.testbed.splits import SPLITS, TRAIN, VOICE

FORMAT = 1


def prepare(place: Place) -> None:
    """Hear all recordings, see all pictures, and find what recurs, as far as that is not done."""
    material = _gather(place)
    recurrences(material.heard, material.rows(TRAIN), material.meaning, material.kept)


def run(name: str, seed: int, place: Place, say: Say) -> dict[str, Any]:
    """Train the arm ``name`` with ``seed`` and measure it; the content of its JSON."""
    watch, trial = Stopwatch(), trials(place.steps)[name]
    settings = replace(trial.settings, seed=seed)
    out = place.work / f"{file_name(name, seed)}.safetensors"
    material = _gather(place)
    for line in material.lines:
        say(line)
    trained = train_head(material, settings, out.with_suffix(".work"))
    write_speech_head(out, checkpoint(material, settings, trained))
    watch.learnt()
    say("trained")
    rows = {split: material.rows(split) for split in SPLITS if split != TRAIN}
    rows = {split: some for split, some in rows.items() if some}
    found = {
        "format": FORMAT,
        "arm": name,
        "about": trial.about,
        "seed": seed,
        "settings": asdict(settings),
        "data": dict(place.testbed.sha256),
        "teacher": {"name": material.teacher.name, "sha256": material.teacher.sha256},
        "speech": material.listener.identity,
        "parameters": trained.parameters,
        "machine": machine(),
        "pictures": len(material.exam.pictures),
        "utterances": {split: len(some) for split, some in rows.items()},
        **_measures(material, trained, rows),
    }
    if name == MAIN:
        found["baselines"] = _baselines(material, rows)
        if rows.get(VOICE):
            found["own"] = own.scores(place.clip, material, trained.speech.head, rows[VOICE])
            asked = precision.chosen(material, rows[VOICE], precision.ASKED)
            found["precision"] = precision.scores(out, place.clip, material, asked)
    found["seconds"] = watch.seconds()
    return found


def _gather(place: Place) -> Material:
    return gather(place.clip, place.clip, place.testbed.speech, place.kept)


def _measures(material: Material, trained: Trained, rows: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What is measured of every split, and of the utterances of unseen voices besides."""
    exam, head, names = material.exam, trained.speech.head, material.teacher.tokenizer
    assert names is not None  # the sides are a CLIP's
    scores, found = dict[str, dict[str, float]](), dict[str, Any]()
    for split, some in rows.items():
        pairs = [material.pairs.rows[row] for row in some]
        heard = exam.hear(head, some)
        measured = trained.measures[split] | units.hit_rate_by_chance(exam, heard, pairs)
        if heard.edges:
            measured |= units.boundaries(heard.edges, pairs) | units.named_whole(exam, heard, pairs)
        scores[split] = _rounded(measured)
        if split != VOICE:
            continue
        found["spoken"] = spoken.scores(material, head, some)
        if heard.named:
            named = vocabulary.named(heard)
            found["vocabulary"] = vocabulary.used(named, names)
            if heard.edges:
                found["more_units"] = units.more_than_words(heard.edges, pairs)
                found["examples"] = vocabulary.examples(exam, some, heard.edges, named, names)
    return {"scores": scores, **found}


def _baselines(material: Material, rows: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Boundaries of what has learnt nothing, by split."""
    found: dict[str, Any] = {"even": {}, "unlearnt": {}}
    for split, some in rows.items():
        pairs = [material.pairs.rows[row] for row in some]
        found["even"][split] = _rounded(units.boundaries(units.evenly(material.exam, some), pairs))
        found["unlearnt"][split] = _rounded(units.boundaries(units.unlearnt(material, some), pairs))
    return found


def _rounded(measures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measures.items()}
