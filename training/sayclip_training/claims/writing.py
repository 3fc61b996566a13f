"""What pages are written with: a template, tables, and the line on what an experiment takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from sayclip_training import whole
from sayclip_training.claims.spread import Spread, at, over
from sayclip_training.claims.study import Arms, Result

NOTHING = "Not measured yet."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def of_arms(arms: Arms, path: tuple[str, ...], columns: Mapping[str, str]) -> str:
    """A row for each arm; ``columns``: the names of figures and what they are called, "" for their own names."""
    rows = ([arm, *(over(seeds, *path, name).plain() for name in columns)] for arm, seeds in arms.items())
    return table(["arm", *(called or name for name, called in columns.items())], rows)


def about(arms: Arms) -> str:
    """Every arm and what it is, in a line."""
    return "; ".join(f"**{arm}**: {seeds[0]['about']}" for arm, seeds in arms.items()) + "."


def taken(arms: Arms, one: Result) -> str:
    """What an experiment takes of the processor, and of which; that of the experiment ``one``."""
    seconds = [at(seed, "seconds", "processor") for seeds in arms.values() for seed in seeds]
    machine = one["machine"]
    instructions = machine["instructions"].replace("_", "-")
    return (
        f"{Spread.of(seconds).mean:.0f} s of one core's time (at most {max(seconds):.0f} s): {machine['cores']} "
        f"cores, {machine['architecture']} with {instructions}, PyTorch {machine['torch']}, other work beside it."
    )


def fill(package: str, template: str, fields: Mapping[str, str]) -> str:
    """The file ``template`` of ``package`` with ``fields`` filled in."""
    return Template(resources.files(package).joinpath(template).read_text(encoding="utf-8")).substitute(fields)


def write(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    whole.write(path, lambda target: target.write_text(text, encoding="utf-8", newline="\n"))
