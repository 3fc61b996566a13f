"""``docs/pronunciation.md``: the claims, every arm, and the pictures, written from the JSONs that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sayclip.errors import InputError
from sayclip.library.sounds_like import SOUND_SHARE
from sayclip_training.claims import writing
from sayclip_training.claims.pronunciation.arms import LANGUAGES, MAIN
from sayclip_training.claims.pronunciation.perception import SOURCE
from sayclip_training.claims.pronunciation.plots import draw
from sayclip_training.claims.pronunciation.summary import ONE, best_share, claims, kinds
from sayclip_training.claims.pronunciation.translations import CROSSED, VOICES
from sayclip_training.claims.spread import over
from sayclip_training.claims.study import Arms, Result, by_arm
from sayclip_training.claims.testbed import KEPT_OUT, LEARNT
from sayclip_training.claims.writing import NOTHING, of_arms, table

_TEMPLATE = "page.template.md"


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page to ``path``, its pictures beside it. Raises InputError without a result of the main arm."""
    arms = by_arm(results)
    if not arms.get(MAIN):
        raise InputError(f"there is no result of the arm {MAIN} yet", "name the test bed with --data")
    main = arms[MAIN]
    best, asked = best_share(main), kinds(main, LEARNT)
    fields = {
        "claims": table(["claim", "wanted", "seen", ""], (claim.cells() for claim in claims(arms))),
        "kept": str(main[0]["retrieval"]["clean"].get(KEPT_OUT, {}).get("text", {}).get("n", 0)),
        "arms": writing.about(arms),
        "seeds": str(max(map(len, arms.values()))),
        "machine": _machine(arms),
        "phonemes": of_arms(arms, ("phonemes",), {"chart": "all pairs", "consonants": "", "vowels": ""}),
        "questions": ", ".join(f"{kind} {main[0]['retrieval'][kind][LEARNT]['text']['n']:,}" for kind in asked),
        "spellings": table(["", *asked], _spellings(arms, best, asked)),
        "first": _recalls(main, LEARNT, "r1", _ways(best)),
        "best": f"{best:g}",
        "default": "the default of `--sound-share`" if best == SOUND_SHARE else f"while the default is {SOUND_SHARE}",
        "added": ", ".join(f"{kind} {_recall(main, kind, LEARNT, ('added', '0.5'), 'r10')}" for kind in asked),
        "clean_both": _recall(main, "clean", LEARNT, ("either", str(best)), "r1"),
        "clean_text": _recall(main, "clean", LEARNT, ("text",), "r1"),
        "source": SOURCE,
        "chart": f"{over(main, 'phonemes', 'human_chart').mean:.2f}",
        "perception": of_arms(arms, ("phonemes",), {"human": "embedding", "human_spoken": "encoder"}),
        "crossed": CROSSED,
        "languages": _languages(arms),
        "int8": _int8([seed for seed in main if "int8" in seed]),
        "unheard": _recalls(main, KEPT_OUT, "r10", {**_ways(best), "the sum of both, share 0.8": ("added", "0.8")}),
        "held": of_arms(arms, ("held_out",), {"cosine": "", "text_r10": "R@10"}),
        "stem": path.stem,
    }
    text = writing.fill(__package__, _TEMPLATE, fields)
    draw(arms, path.parent, path.stem)
    writing.write(path, text)


def _machine(arms: Arms) -> str:
    one = arms[MAIN][0]
    settings = one["settings"]
    return (
        f"{settings['steps']} steps of {settings['batch']} captions, {one['parameters']:,} parameters; an experiment "
        f"takes {writing.taken(arms, one)}"
    )


def _ways(best: float) -> dict[str, tuple[str, ...]]:
    return {"as text": ("text",), "by sound": ("sound",), f"the nearer of both, share {best:g}": ("either", str(best))}


def _recall(seeds: Sequence[Result], kind: str, part: str, way: Sequence[str], depth: str) -> str:
    return over(seeds, "retrieval", kind, part, *way, depth).percent()


def _recalls(seeds: Sequence[Result], part: str, depth: str, ways: dict[str, tuple[str, ...]]) -> str:
    asked = kinds(seeds, part)
    rows = ([name, *(_recall(seeds, kind, part, way, depth) for kind in asked)] for name, way in ways.items())
    return table(["", *asked], rows)


def _spellings(arms: Arms, best: float, asked: Sequence[str]) -> list[list[str]]:
    main = arms[MAIN]
    ways: list[tuple[str, Sequence[Result], tuple[str, ...]]] = [
        ("text encoder", main, ("text",)),
        *((arm, seeds, ("sound",)) for arm, seeds in arms.items()),
        (f"{MAIN} and text, share {best:g}", main, ("either", str(best))),
    ]
    return [[name, *(_recall(seeds, kind, LEARNT, way, "r10") for kind in asked)] for name, seeds, way in ways]


def _languages(arms: Arms) -> str:
    rows = []
    for arm in (MAIN, LANGUAGES):
        seeds = arms.get(arm, [])
        for language in VOICES if seeds else ():
            for part in (LEARNT, CROSSED, KEPT_OUT):
                found = seeds[0]["translations"][language].get(part)
                if found:
                    numbers = (over(seeds, "translations", language, part, way, "r10") for way in ("sound", "text"))
                    count = f"{found['sound']['n']:,}"
                    rows.append([arm, language, part, count, *(number.percent() for number in numbers)])
    return table(["arm", "asked in", "names", "n", "by sound", "as text"], rows)


def _int8(seeds: Sequence[Result]) -> str:
    if not seeds:
        return NOTHING
    columns = [(depth, precision) for depth in ("r1", "r10") for precision in ("fp32", "int8")]
    rows = (
        [kind, *(over(seeds, "int8", kind, precision, depth).percent() for depth, precision in columns)]
        for kind in ("clean", ONE)
    )
    return table(["", *(f"{depth.replace('r', 'R@')} {precision}" for depth, precision in columns)], rows)
