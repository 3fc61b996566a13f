"""What is installed: versions, and the bytes that a package takes with everything it needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the distributions that are installed, in their order."""
    found = {}
    for name in names:
        distribution = _distribution(name)
        if distribution is not None:
            found[name] = str(distribution.version)
    return found


def install_bytes(packages: Iterable[str]) -> dict[str, int]:
    """Bytes on the disk of each package with all that it requires, each distribution counted once.

    ``packages``: names with or without extras, such as ``sayclip[cpu]``. Those that are not installed are left out, as
    are requirements that are not: they are another platform's.
    """
    found = {}
    for package in packages:
        needed = _closure(package)
        if needed:
            found[package] = sum(map(_bytes, needed))
    return found


def _closure(package: str) -> list[metadata.Distribution]:
    """The distribution that ``package`` names and those it needs; none where it, or what its extras add, is missing."""
    name, extras = _parsed(package)
    first = _distribution(name)
    if first is None or any(_distribution(one) is None for one, _ in _added(first, extras)):
        return []
    seen: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        distribution = _distribution(name)
        if distribution is None:
            continue
        seen[name] = distribution
        for extra in {"", *extras}:  # the same name can come again with another extra
            if (name, extra) not in done:
                done.add((name, extra))
                waiting += _plain(distribution) if not extra else _added(distribution, {extra})
    return list(seen.values())


def _plain(distribution: metadata.Distribution) -> Iterator[tuple[str, set[str]]]:
    for requirement in distribution.requires or []:
        if not _EXTRA.search(requirement.partition(";")[2]):
            yield _parsed(requirement)


def _added(distribution: metadata.Distribution, extras: set[str]) -> Iterator[tuple[str, set[str]]]:
    """What ``extras`` of a distribution add to its requirements."""
    for requirement in distribution.requires or []:
        wanted = {_normal(name) for name in _EXTRA.findall(requirement.partition(";")[2])}
        if wanted & extras:
            yield _parsed(requirement)


def _parsed(requirement: str) -> tuple[str, set[str]]:
    """The name and the extras of a requirement, both normalised."""
    match = _REQUIREMENT.match(requirement)
    if match is None:
        return "", set()
    return _normal(match[1]), {_normal(name) for name in (match[2] or "").split(",") if name.strip()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name) if name else None
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return None


def _bytes(distribution: metadata.Distribution) -> int:
    """Of the files that its RECORD lists; of one installed in place, of its packages' files."""
    paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or []}
    paths.update(_in_place(distribution))
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except OSError:  # listed, and removed since
            continue
    return total


def _in_place(distribution: metadata.Distribution) -> Iterator[Path]:
    """Files of a distribution that was installed with ``pip install -e``; none of any other."""
    try:
        editable = json.loads(distribution.read_text("direct_url.json") or "{}")["dir_info"]["editable"]
    except (KeyError, TypeError, ValueError):
        return
    if not editable:
        return
    from importlib.util import find_spec

    for name in (distribution.read_text("top_level.txt") or "").split():
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            continue
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            yield from (path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
