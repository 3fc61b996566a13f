"""The demo's own BPE vocabulary (Sennrich et al. 2016, arXiv 1508.07909), in the format of CLIP's vocabulary file.

Learnt here and not by the ``tokenizers`` library, whose trainer breaks ties in another order at every run: the same
texts must give the same ids, or a resumed training would read other tokens than it began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from sayclip.text.normalise import normalise, split_words
from sayclip.text.vocabulary import END_OF_WORD, byte_characters

MERGES = 1600


def learn_merges(texts: Iterable[str], merges: int = MERGES) -> list[tuple[str, str]]:
    """The ``merges`` most frequent pairs, one after the other; of equally frequent ones the first by code points."""
    characters = byte_characters()
    counts = Counter(word for text in texts for word in split_words(normalise(text)))
    words: list[list[str]] = []
    for word in counts:
        symbols = [characters[value] for value in word.encode()]
        symbols[-1] += END_OF_WORD
        words.append(symbols)
    frequency = list(counts.values())
    learnt: list[tuple[str, str]] = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in zip(words, frequency, strict=True):
            for pair in pairwise(symbols):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append(best)
        for symbols in words:
            at = 0
            while at < len(symbols) - 1:
                if (symbols[at], symbols[at + 1]) == best:
                    symbols[at : at + 2] = [best[0] + best[1]]
                at += 1
    return learnt


def write_vocabulary(texts: Iterable[str], target: Path, merges: int = MERGES) -> int:
    """Learn merges from ``texts`` under CLIP's normalisation and word split; write them. Returns how many there are."""
    learnt = learn_merges(texts, merges)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in learnt)]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(learnt)
