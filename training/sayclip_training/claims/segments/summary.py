"""From the JSONs of all experiments to the claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sayclip_training.claims.segments.arms import AUDIO_ONLY, CASCADED, MAIN, PARALLEL, REGULARISE, VOCABULARIES
from sayclip_training.claims.spread import Claim, Spread, at, over
from sayclip_training.claims.study import Arms, Result
from sayclip_training.testbed.splits import COMPOSITION, VALIDATION, VOICE, WORD

SPLITS = {
    VOICE: "unseen voice",
    VALIDATION: "unseen caption",
    WORD: "unseen word",
    COMPOSITION: "unseen composition",
}
EMBEDDINGS = ("parallel", "cascaded")  # the first that an arm has is its own
BASELINES = {"even": "evenly spaced, their number given", "unlearnt": "detector without learning"}
LOWERED = {"fp16": "fp16-rounded", "int8": "int8"}
AHEAD, WORDLIKE, NEAR, NAMED, BEHIND, MOVED, COSINE = 0.05, 0.6, 0.6, 0.4, 0.05, 0.02, 0.99  # what is wanted


def splits(seeds: Sequence[Result]) -> list[str]:
    """The splits that all ``seeds`` have, the one that counts first."""
    return [split for split in SPLITS if all(split in seed["scores"] for seed in seeds)]


def embeddings(seeds: Sequence[Result]) -> list[str]:
    """The embeddings that the head of an arm gives, its own first."""
    return [name for name in EMBEDDINGS if f"{name}_r1" in seeds[0]["scores"][VOICE]]


def recalled(seeds: Sequence[Result], split: str, depth: int, name: str = "") -> Spread:
    """R@``depth`` of an arm's utterances among all pictures, by its own embedding or the one that is named."""
    return over(seeds, "scores", split, f"{name or embeddings(seeds)[0]}_r{depth}")


def ahead(ones: Sequence[Result], others: Sequence[Result], figure: Callable[[Result], float]) -> Spread | None:
    """How much larger a figure is for one arm than for another, of each seed that both have; None without any."""
    known = {other["seed"]: other for other in others}
    found = [figure(one) - figure(known[one["seed"]]) for one in ones if one["seed"] in known]
    return Spread.of(found) if found else None


def claims(arms: Arms) -> list[Claim]:
    """What the papers' abstracts claim, as far as the arms that are there can tell."""
    main = arms.get(MAIN, [])
    found = [
        _segments(arms),
        *_units(main),
        _named(arms),
        _audio_only(arms),
        _parallel(arms),
        _keywords(arms.get(CASCADED, [])),
    ]
    found += [_vocabularies(arms), *_precisions(main), _apart(main)]
    return [claim for claim in found if claim is not None]


def _segments(arms: Arms) -> Claim | None:
    main, cascaded = arms.get(MAIN, []), arms.get(CASCADED, [])
    if not main or not cascaded:
        return None

    def more_of(split: str) -> Spread | None:
        return ahead(main, cascaded, lambda one: at(one, "scores", split, "cascaded_r1"))

    more = {split: more_of(split) for split in splits([*main, *cascaded])}
    voice = more.pop(VOICE)
    if voice is None:
        return None
    others = ", ".join(f"{SPLITS[split]} {spread.points()}" for split, spread in more.items() if spread)
    return Claim(
        "segments beat keywords: R@1 of segmental less that of cascaded, unseen voices",
        f"≥ {100 * AHEAD:.0f} points",
        f"{voice.points()}" + (f" ({others})" if others else ""),
        voice.mean >= AHEAD,
    )


def _units(main: Sequence[Result]) -> list[Claim]:
    if not main:
        return []
    wanted = (
        ("f1", WORDLIKE, "F1 of their boundaries within 40 ms"),
        ("near", NEAR, "share of utterances with as many units as words, give or take one"),
    )
    found = []
    for name, least, what in wanted:
        spread = over(main, "scores", VOICE, name)
        beside = [
            f"{label} {100 * at(main[0], 'baselines', baseline, VOICE, name):.1f}"
            for baseline, label in BASELINES.items()
            if name in main[0]["baselines"][baseline][VOICE] and not (name == "near" and baseline == "even")
        ]
        seen = spread.percent() + (f" ({', '.join(beside)})" if beside else "")
        found.append(_wordlike(what, least, spread, seen))
    return found


def _named(arms: Arms) -> Claim | None:
    """Of the units that are drawn to the vocabulary, as those of the other arm need not lie near any token."""
    drawn, free = arms.get(REGULARISE, []), arms.get(MAIN, [])
    if not drawn:
        return None
    spread = over(drawn, "scores", VOICE, "named")
    beside = [f"by tokens that are whole words {over(drawn, 'scores', VOICE, 'named_whole').percent()}"]
    if free:
        beside.append(f"units that nothing draws there {over(free, 'scores', VOICE, 'named').percent()}")
    what = f"share of units whose nearest token is of the word that they lie on ({REGULARISE})"
    return _wordlike(what, NAMED, spread, f"{spread.percent()} ({', '.join(beside)})")


def _wordlike(what: str, least: float, spread: Spread, seen: str) -> Claim:
    barely = spread.mean < least <= spread.mean + spread.deviation
    holds = spread.mean >= least or barely
    return Claim(f"units are word-like: {what}, %", f"≥ {100 * least:.0f}", seen, holds, barely)


def _audio_only(arms: Arms) -> Claim | None:
    both, alone = arms.get(MAIN, []), arms.get(AUDIO_ONLY, [])
    less = ahead(both, alone, lambda one: at(one, "spoken", "cascaded", "r10")) if both and alone else None
    if less is None:
        return None
    spoken = [over(seeds, "spoken", "cascaded", "r10").percent() for seeds in (both, alone)]
    seen = [recalled(seeds, VOICE, 10).percent() for seeds in (both, alone)]
    return Claim(
        "learning from recordings alone comes close: R@10 of recordings among recordings, what pictures add",
        f"≤ {100 * BEHIND:.0f} points",
        f"{less.points()} ({spoken[0]} and {spoken[1]}; among pictures {seen[0]} and {seen[1]})",
        less.mean <= BEHIND,
    )


def _parallel(arms: Arms) -> Claim | None:
    one, other = arms.get(PARALLEL, []), arms.get(CASCADED, [])
    if not one or not other:
        return None
    more = ahead(one, other, _own)
    if more is None:
        return None
    return Claim(
        "the parallel head finds more than the cascaded one: R@10, unseen voices",
        "> 0 points",
        f"{more.points()} ({recalled(one, VOICE, 10).percent()} and {recalled(other, VOICE, 10).percent()})",
        more.mean > 0,
    )


def _own(one: Result) -> float:
    return at(one, "scores", VOICE, f"{embeddings([one])[0]}_r10")


def _keywords(cascaded: Sequence[Result]) -> Claim | None:
    if not cascaded:
        return None
    rate, chance = (over(cascaded, "scores", VOICE, name).percent() for name in ("hit_rate", "hit_rate_by_chance"))
    return Claim(
        "the cascaded head names what is said: keywords with a token of the caption among their 5 nearest, %",
        "reported",
        f"{rate} (captions of other utterances {chance})",
        None,
    )


def _vocabularies(arms: Arms) -> Claim | None:
    found = [
        f"{label} R@10 {recalled(arms[arm], VOICE, 10).percent()}, named "
        f"{over(arms[arm], 'scores', VOICE, 'named').percent()}, cosine "
        f"{over(arms[arm], 'vocabulary', 'cosine').plain()}"
        for label, arm in VOCABULARIES.items()
        if arms.get(arm)
    ]
    if not found:
        return None
    return Claim(
        "units brought to the vocabulary by regularisation or quantisation", "reported", "; ".join(found), None
    )


def _precisions(main: Sequence[Result]) -> list[Claim]:
    measured = [seed for seed in main if "precision" in seed]
    found = []
    for precision, label in LOWERED.items() if measured else ():
        moved = changed(measured, precision, "f1")
        cosine = over(measured, "precision", precision, "cosine")
        lowest = min(at(seed, "precision", precision, "lowest") for seed in measured)
        found.append(
            Claim(
                f"{label} against fp32: F1 of boundaries, and the mean cosine of embeddings",
                f"within {100 * MOVED:.0f} points, ≥ {COSINE}",
                f"{moved.points()}, {cosine.plain(4)} (lowest {lowest:.2f})",
                abs(moved.mean) <= MOVED and cosine.mean >= COSINE,
            )
        )
    return found


def changed(seeds: Sequence[Result], precision: str, name: str) -> Spread:
    """How much more of a figure there is at ``precision`` than in fp32."""
    return Spread.of(at(one, "precision", precision, name) - at(one, "precision", "fp32", name) for one in seeds)


def _apart(main: Sequence[Result]) -> Claim | None:
    if not main:
        return None
    found = [
        f"{SPLITS[split]} {recalled(main, split, 10).percent()}, F1 {over(main, 'scores', split, 'f1').percent()}"
        for split in splits(main)
    ]
    what = "what was never heard, apart: R@10 of segmental and F1 of its boundaries"
    return Claim(what, "reported", "; ".join(found), None)


def with_edges(arms: Arms) -> dict[str, Sequence[Result]]:
    """The arms whose units have boundaries."""
    return {arm: seeds for arm, seeds in arms.items() if "f1" in seeds[0]["scores"][VOICE]}


def baselines(main: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """By what they are called, the boundaries of what has learnt nothing: the same with every seed."""
    return {label: main[0]["baselines"][name] for name, label in BASELINES.items()}
