"""From the JSONs of all experiments to the claims and the share of the sound."""

from __future__ import annotations

from collections.abc import Sequence

from sayclip_training.claims.pronunciation.arms import LANGUAGES, MAIN, RANDOM
from sayclip_training.claims.pronunciation.asking import CHOOSING
from sayclip_training.claims.pronunciation.retrieval import EITHER
from sayclip_training.claims.pronunciation.translations import VOICES
from sayclip_training.claims.spread import Claim, Spread, at, over
from sayclip_training.claims.study import Arms, Result
from sayclip_training.claims.testbed import LEARNT, misspelt

ONE, THREE = misspelt(1), misspelt(3)
KINDS = ("clean", "homophones", misspelt(0), ONE, THREE)
ORDERED, UNORDERED, MORE, SAME = 0.8, 0.3, 0.2, 0.01  # what is wanted


def kinds(seeds: Sequence[Result], *parts: str) -> list[str]:
    """The kinds of questions that all of ``parts`` have: without a word list there are hardly any homophones."""
    return [kind for kind in KINDS if all(part in seed["retrieval"][kind] for seed in seeds for part in parts)]


def gain(seeds: Sequence[Result], kind: str, part: str, way: str, share: str) -> Spread:
    """R@10 of both readings together, by ``way`` and ``share``, less that of the one that is better in the mean."""

    def alone(name: str) -> Spread:
        return over(seeds, "retrieval", kind, part, name, "r10")

    better = max(("text", "sound"), key=lambda name: alone(name).mean)
    return Spread.of(
        at(seed, "retrieval", kind, part, way, share, "r10") - at(seed, "retrieval", kind, part, better, "r10")
        for seed in seeds
    )


def best_share(seeds: Sequence[Result]) -> float:
    """The share of the sound whose smallest gain over all kinds of questions is largest, then whose sum of gains is.

    On the questions that are there to choose by alone.
    """

    def worth(share: float) -> tuple[float, float]:
        gains = [gain(seeds, kind, CHOOSING, "either", str(share)).mean for kind in kinds(seeds, CHOOSING)]
        return round(min(gains), 6), round(sum(gains), 6)

    return max(EITHER, key=worth)


def claims(arms: Arms) -> list[Claim]:
    """What IPA-CLIP's abstract claims, as far as the arms that are there can tell."""
    found: list[Claim] = []
    main = arms.get(MAIN, [])
    if main and arms.get(RANDOM):
        chart, random = over(main, "phonemes", "chart"), over(arms[RANDOM], "phonemes", "chart")
        found.append(
            Claim(
                "the chart's embedding orders phonemes phonetically: rank correlation of distances with the chart's",
                f"chart ≥ {ORDERED}, random ≤ {UNORDERED}",
                f"{chart.plain()}, {random.plain()}",
                chart.mean >= ORDERED and random.mean <= UNORDERED,
            )
        )
    if main:
        found += [_misspelt(main), _fused(main), _human(main, arms)]
    if arms.get(LANGUAGES):
        found.append(_languages(arms[LANGUAGES]))
    measured = [seed for seed in main if "int8" in seed]
    if measured:
        found.append(_int8(measured))
    return found


def _misspelt(main: Sequence[Result]) -> Claim:
    more = {
        kind: Spread.of(
            at(seed, "retrieval", kind, LEARNT, "sound", "r10") - at(seed, "retrieval", kind, LEARNT, "text", "r10")
            for seed in main
        )
        for kind in (ONE, THREE)
    }
    return Claim(
        "misspelt and nonsense words are handled phonetically: R@10 by sound less R@10 by text, one phoneme changed",
        f"≥ {100 * MORE:.0f} points",
        f"{more[ONE].points()} (three changed: {more[THREE].points()})",
        more[ONE].mean >= MORE,
    )


def _fused(main: Sequence[Result]) -> Claim:
    share = str(best_share(main))
    gains = {kind: gain(main, kind, LEARNT, "either", share) for kind in kinds(main, LEARNT)}
    return Claim(
        f"it enhances the text encoder: R@10 of both, share {share}, less that of the better one alone",
        "≥ 0 on each",
        ", ".join(f"{kind} {spread.points()}" for kind, spread in gains.items()),
        all(round(spread.mean + spread.deviation, 6) >= 0 for spread in gains.values()),
        barely=any(round(spread.mean, 6) < 0 for spread in gains.values()),
    )


def _human(main: Sequence[Result], arms: Arms) -> Claim:
    closeness = over(main, "phonemes", "human")
    random = f"; random {over(arms[RANDOM], 'phonemes', 'human').plain()}" if arms.get(RANDOM) else ""
    return Claim(
        "it correlates with human perception: rank correlation of closeness with confusions of 16 consonants",
        "reported",
        f"{closeness.plain()}{random}; the chart itself {over(main, 'phonemes', 'human_chart').mean:.2f}",
        None,
    )


def _languages(seeds: Sequence[Result]) -> Claim:
    found = [f"{name} {over(seeds, 'translations', name, LEARNT, 'sound', 'r10').percent()}" for name in VOICES]
    return Claim(
        "three languages through one encoder: R@10 of names that were learnt", "printed", ", ".join(found), None
    )


def _int8(seeds: Sequence[Result]) -> Claim:
    lost = [
        Spread.of(at(seed, "int8", kind, "int8", "r1") - at(seed, "int8", kind, "fp32", "r1") for seed in seeds)
        for kind in ("clean", ONE)
    ]
    return Claim(
        "int8 against fp32: R@1",
        f"within {100 * SAME:.0f} point",
        f"clean {lost[0].points()}, one phoneme changed {lost[1].points()}",
        all(abs(spread.mean) <= SAME for spread in lost),
    )
