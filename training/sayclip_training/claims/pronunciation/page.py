"""``docs/pronunciation.md``: the claims, every arm, and the pictures, written from the JSONs that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from sayclip.errors import InputError
from sayclip.library.sounds_like import SOUND_SHARE
from sayclip_training import whole
from sayclip_training.claims.pronunciation.arms import LANGUAGES, MAIN
from sayclip_training.claims.pronunciation.perception import SOURCE
from sayclip_training.claims.pronunciation.plots import draw
from sayclip_training.claims.pronunciation.summary import ONE, Arms, Result, best_share, by_arm, claims, kinds
from sayclip_training.claims.pronunciation.translations import CROSSED, VOICES
from sayclip_training.claims.spread import Spread, at, over
from sayclip_training.claims.testbed import KEPT_OUT, LEARNT

_TEMPLATE = "page.template.md"
_NOTHING = "Not measured yet."


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page to ``path``, its pictures beside it. Raises InputError without a result of the main arm."""
    arms = by_arm(results)
    if not arms.get(MAIN):
        raise InputError(f"there is no result of the arm {MAIN} yet", "name the test bed with --data")
    main = arms[MAIN]
    best, asked = best_share(main), kinds(main, LEARNT)
    fields = {
        "claims": _table(["claim", "wanted", "seen", ""], (claim.cells() for claim in claims(arms))),
        "kept": str(main[0]["retrieval"]["clean"].get(KEPT_OUT, {}).get("text", {}).get("n", 0)),
        "arms": "; ".join(f"**{arm}**: {seeds[0]['about']}" for arm, seeds in arms.items()) + ".",
        "seeds": str(max(map(len, arms.values()))),
        "machine": _machine(arms),
        "phonemes": _of_arms(arms, ("phonemes",), {"chart": "all pairs", "consonants": "", "vowels": ""}),
        "questions": ", ".join(f"{kind} {main[0]['retrieval'][kind][LEARNT]['text']['n']:,}" for kind in asked),
        "spellings": _table(["", *asked], _spellings(arms, best, asked)),
        "first": _recalls(main, LEARNT, "r1", _ways(best)),
        "best": f"{best:g}",
        "default": "the default of `--sound-share`" if best == SOUND_SHARE else f"while the default is {SOUND_SHARE}",
        "added": ", ".join(f"{kind} {_recall(main, kind, LEARNT, ('added', '0.5'), 'r10')}" for kind in asked),
        "clean_both": _recall(main, "clean", LEARNT, ("either", str(best)), "r1"),
        "clean_text": _recall(main, "clean", LEARNT, ("text",), "r1"),
        "source": SOURCE,
        "chart": f"{over(main, 'phonemes', 'human_chart').mean:.2f}",
        "perception": _of_arms(arms, ("phonemes",), {"human": "embedding", "human_spoken": "encoder"}),
        "crossed": CROSSED,
        "languages": _languages(arms),
        "int8": _int8([seed for seed in main if "int8" in seed]),
        "unheard": _recalls(main, KEPT_OUT, "r10", {**_ways(best), "the sum of both, share 0.8": ("added", "0.8")}),
        "held": _of_arms(arms, ("held_out",), {"cosine": "", "text_r10": "R@10"}),
        "stem": path.stem,
    }
    template = Template(resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    text = template.substitute(fields)
    draw(arms, path.parent, path.stem)
    whole.write(path, lambda target: target.write_text(text, encoding="utf-8", newline="\n"))


def _machine(arms: Arms) -> str:
    one = arms[MAIN][0]
    seconds = [at(seed, "seconds", "processor") for seeds in arms.values() for seed in seeds]
    settings, machine = one["settings"], one["machine"]
    instructions = machine["instructions"].replace("_", "-")
    return (
        f"{settings['steps']} steps of {settings['batch']} captions, {one['parameters']:,} parameters; an experiment "
        f"takes {Spread.of(seconds).mean:.0f} s of one core's time (at most {max(seconds):.0f} s): {machine['cores']} "
        f"cores, {machine['architecture']} with {instructions}, PyTorch {machine['torch']}, other work beside it."
    )


def _ways(best: float) -> dict[str, tuple[str, ...]]:
    return {"as text": ("text",), "by sound": ("sound",), f"the nearer of both, share {best:g}": ("either", str(best))}


def _recall(seeds: Sequence[Result], kind: str, part: str, way: Sequence[str], depth: str) -> str:
    return over(seeds, "retrieval", kind, part, *way, depth).percent()


def _recalls(seeds: Sequence[Result], part: str, depth: str, ways: dict[str, tuple[str, ...]]) -> str:
    asked = kinds(seeds, part)
    rows = ([name, *(_recall(seeds, kind, part, way, depth) for kind in asked)] for name, way in ways.items())
    return _table(["", *asked], rows)


def _spellings(arms: Arms, best: float, asked: Sequence[str]) -> list[list[str]]:
    main = arms[MAIN]
    ways: list[tuple[str, Sequence[Result], tuple[str, ...]]] = [
        ("text encoder", main, ("text",)),
        *((arm, seeds, ("sound",)) for arm, seeds in arms.items()),
        (f"{MAIN} and text, share {best:g}", main, ("either", str(best))),
    ]
    return [[name, *(_recall(seeds, kind, LEARNT, way, "r10") for kind in asked)] for name, seeds, way in ways]


def _of_arms(arms: Arms, path: tuple[str, ...], columns: dict[str, str]) -> str:
    """A row for each arm; ``columns``: the names of figures and what they are called, "" for their own names."""
    rows = ([arm, *(over(seeds, *path, name).plain() for name in columns)] for arm, seeds in arms.items())
    return _table(["arm", *(called or name for name, called in columns.items())], rows)


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
    return _table(["arm", "asked in", "names", "n", "by sound", "as text"], rows)


def _int8(seeds: Sequence[Result]) -> str:
    if not seeds:
        return _NOTHING
    columns = [(depth, precision) for depth in ("r1", "r10") for precision in ("fp32", "int8")]
    rows = (
        [kind, *(over(seeds, "int8", kind, precision, depth).percent() for depth, precision in columns)]
        for kind in ("clean", ONE)
    )
    return _table(["", *(f"{depth.replace('r', 'R@')} {precision}" for depth, precision in columns)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
