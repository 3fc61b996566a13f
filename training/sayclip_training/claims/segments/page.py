"""``docs/segments.md``: the claims, every arm, and the pictures, written from the JSONs that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sayclip.errors import InputError
from sayclip_training.claims import writing
from sayclip_training.claims.segments import precision, units
from sayclip_training.claims.segments.arms import CASCADED, MAIN, VOCABULARIES
from sayclip_training.claims.segments.plots import draw
from sayclip_training.claims.segments.summary import (
    LOWERED,
    SPLITS,
    baselines,
    changed,
    claims,
    embeddings,
    recalled,
    splits,
    with_edges,
)
from sayclip_training.claims.spread import over
from sayclip_training.claims.study import Arms, Result, by_arm
from sayclip_training.claims.writing import NOTHING, table
from sayclip_training.testbed.splits import VOICE

_TEMPLATE = "page.template.md"
_UNITS = {"f1": "F1, 40 ms", "precision": "precision", "recall": "recall", "f1_20": "F1, 20 ms", "near": "number ± 1"}


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page to ``path``, its pictures beside it. Raises InputError without a result of the main arm."""
    arms = by_arm(results)
    if not arms.get(MAIN):
        raise InputError(f"there is no result of the arm {MAIN} yet", "name the test bed with --data, without --arm")
    main = arms[MAIN]
    one = main[0]
    fields = {
        "claims": table(["claim", "wanted", "seen", ""], (claim.cells() for claim in claims(arms))),
        "pictures": f"{one['pictures']:,}",
        "utterances": ", ".join(f"{SPLITS[split]} {one['utterances'][split]:,}" for split in splits(main)),
        "arms": writing.about(arms),
        "seeds": _seeds(arms),
        "training": f"{one['settings']['steps']} steps of {one['settings']['batch']} utterances; an experiment takes "
        f"{writing.taken(arms, one)}",
        "sizes": _sizes(arms),
        "found": _found(arms),
        "own": _own(main),
        "chance": ", ".join(f"R@{k} {100 * k / one['pictures']:.2g}" for k in (1, 10)),
        "units": _units(arms),
        "threshold": f"{units.THRESHOLD:g}",
        "keywords": _keywords(arms),
        "vocabularies": _vocabularies(arms),
        "spoken": _spoken(arms),
        "gallery": f"{one['spoken'].get('gallery', 0):,}",
        "asked": f"{one['spoken'].get('n', 0):,}",
        "boundaries": f"{precision.BOUNDARIES:g}",
        "precision": _precision([seed for seed in main if "precision" in seed]),
        "stem": path.stem,
    }
    text = writing.fill(__package__, _TEMPLATE, fields)
    draw(arms, path.parent, path.stem)
    writing.write(path, text)


def _seeds(arms: Arms) -> str:
    most, fewest = max(map(len, arms.values())), min(map(len, arms.values()))
    if most == 1:
        return "One seed, so there is no spread."
    counted = f"{most} seeds" if most == fewest else f"{fewest} to {most} seeds"
    return f"Mean ± sample standard deviation of {counted}."


def _sizes(arms: Arms) -> str:
    sizes = {arm: int(seeds[0]["parameters"]) for arm, seeds in arms.items()}
    text = ", ".join(f"{arm} {size:,}" for arm, size in sizes.items())
    if CASCADED not in sizes:
        return text
    more = 100 * sizes[MAIN] / sizes[CASCADED] - 100
    return f"{text}; {MAIN} has {abs(more):.0f} % {'more' if more > 0 else 'fewer'} than {CASCADED}"


def _found(arms: Arms) -> str:
    there = splits([seed for seeds in arms.values() for seed in seeds])
    rows = []
    for arm, seeds in arms.items():
        for name in embeddings(seeds):
            label = f"{arm}, {name}" if len(embeddings(seeds)) > 1 else arm
            rows.append([label, *(recalled(seeds, split, k, name).percent() for split in there for k in (1, 10))])
    return table(["arm", *(f"{SPLITS[split]} R@{k}" for split in there for k in (1, 10))], rows)


def _own(main: Sequence[Result]) -> str:
    seeds = [seed for seed in main if "own" in seed]
    if not seeds:
        return NOTHING
    kinds = seeds[0]["own"]
    # The encoder's own figures hang on no seed, so they have no spread.
    asked = {"the encoder's own": (seeds[:1], "own"), MAIN: (seeds, embeddings(seeds)[0])}
    rows = (
        [label, *(over(some, "own", kind, name, f"r{k}").percent() for kind in kinds for k in (1, 10))]
        for label, (some, name) in asked.items()
    )
    return table(["", *(f"{kind} ({kinds[kind]['n']:,}) R@{k}" for kind in kinds for k in (1, 10))], rows)


def _units(arms: Arms) -> str:
    rows = [
        [arm, *(over(seeds, "scores", VOICE, name).percent() for name in (*_UNITS, "named", "named_whole"))]
        for arm, seeds in with_edges(arms).items()
    ]
    for label, found in baselines(arms[MAIN]).items():
        numbers = {name: f"{100 * found[VOICE][name]:.1f}" for name in _UNITS}
        rows.append([label, *numbers.values(), "", ""])
    return table(["", *_UNITS.values(), "named", "by whole words"], rows)


def _keywords(arms: Arms) -> str:
    named = {arm: seeds for arm, seeds in arms.items() if "hit_rate" in seeds[0]["scores"][VOICE]}
    rows = (
        [arm, *(over(seeds, "scores", VOICE, name).percent() for name in ("hit_rate", "hit_rate_by_chance"))]
        for arm, seeds in named.items()
    )
    return table(["arm", "hit rate", "captions of other utterances"], rows)


def _vocabularies(arms: Arms) -> str:
    rows = [
        [
            label,
            recalled(arms[arm], VOICE, 1).percent(),
            recalled(arms[arm], VOICE, 10).percent(),
            over(arms[arm], "scores", VOICE, "named").percent(),
            over(arms[arm], "vocabulary", "cosine").plain(),
            over(arms[arm], "vocabulary", "distinct").plain(0),
            _most(arms[arm][0]["vocabulary"]),
        ]
        for label, arm in VOCABULARIES.items()
        if arms.get(arm)
    ]
    return table(["", "R@1", "R@10", "named", "cosine", "tokens", f"most used (seed {arms[MAIN][0]['seed']})"], rows)


def _most(vocabulary: Any) -> str:
    return ", ".join(f"{_cell(word)} {count:,}" for word, count in vocabulary["most"])


def _cell(word: str) -> str:
    return word.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "\\<").replace("`", "\\`")


def _spoken(arms: Arms) -> str:
    rows = []
    for arm, seeds in arms.items():
        if all(name in seed["spoken"] for seed in seeds for name in embeddings(seeds)[:1]):
            name = embeddings(seeds)[0]
            spoken = (over(seeds, "spoken", name, f"r{k}").percent() for k in (1, 10))
            rows.append([arm, *spoken, *(recalled(seeds, VOICE, k).percent() for k in (1, 10))])
    return table(["arm", *(f"among {what} R@{k}" for what in ("recordings", "pictures") for k in (1, 10))], rows)


def _precision(seeds: Sequence[Result]) -> str:
    if not seeds:
        return NOTHING
    rows = []
    for name, label in {"fp32": "fp32", **LOWERED}.items():
        figures = {k: over(seeds, "precision", name, k) for k in ("f1", "f1_20_to_fp32", "cosine", "r10")}
        lowest = min(seed["precision"][name]["lowest"] for seed in seeds)
        rows.append(
            [
                label,
                figures["f1"].percent(),
                changed(seeds, name, "f1").points(),
                figures["f1_20_to_fp32"].percent(),
                figures["cosine"].plain(4),
                f"{lowest:.3f}",
                figures["r10"].percent(),
            ]
        )
    head = ["", "F1", "change", "F1 to fp32's, 20 ms", "mean cosine", "lowest", "R@10"]
    problems = dict.fromkeys(line for seed in seeds for line in seed["precision"]["problems"])
    text = f"{seeds[0]['precision']['n']} utterances of unseen voices.\n\n{table(head, rows)}"
    return text + "".join(f"\n\nCalibration says: {line}" for line in problems)
