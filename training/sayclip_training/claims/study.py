"""What a study of a paper's claims is made of: arms, an experiment with one of them, and the page on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sayclip_training.claims.testbed import TestBed

Result = Mapping[str, Any]
Arms = Mapping[str, Sequence[Result]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where things are: the test bed, the teacher's name, and the folder of what resumes.

    ``steps`` of training; None: each arm's own.
    """

    testbed: TestBed
    clip: str
    work: Path
    steps: int | None = None

    @property
    def kept(self) -> Path:
        """The folder of what all experiments share."""
        return self.work / "kept"


def nothing(place: Place) -> None:
    """Experiments of a study that share no more than files that any of them makes."""


@dataclass(frozen=True)
class Study:
    """``arms`` by name, in the page's order; ``format`` of the JSONs that this version writes and reads.

    ``run(arm, seed, place, say)``: train, measure, and return the content of the JSON. ``write_page(results, path)``.
    ``prepare(place)``: make what all experiments share, in one process before several start. Functions of modules, so
    that other processes find them. ``also``: files of the test bed to hold against their hashes, see ``open_testbed``.
    """

    arms: Sequence[str]
    format: int
    run: Callable[[str, int, Place, Say], dict[str, Any]]
    write_page: Callable[[Sequence[Result], Path], None]
    prepare: Callable[[Place], None] = nothing
    also: Sequence[str] = ()


def by_arm(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The experiments of each arm."""
    arms: dict[str, list[Result]] = {}
    for result in results:
        arms.setdefault(str(result["arm"]), []).append(result)
    return arms
