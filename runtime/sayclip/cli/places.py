"""Which library a command means, and the demo's own library, made on first use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sayclip.bundle.find import demo_folder
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import cache_folder, data_folder
from sayclip.cli.output import Progress
from sayclip.errors import BundleError, LibraryError

if TYPE_CHECKING:
    from sayclip.encoder import Encoder
    from sayclip.library import Item, Library

CAPTIONS = "captions.tsv"


def named_library(argument: str | None) -> Path | None:
    """The library that is named by ``--library`` or ``$SAYCLIP_LIBRARY``, if any."""
    name = argument if argument is not None else os.environ.get("SAYCLIP_LIBRARY") or None
    if name == "":
        raise LibraryError("the name of the library is empty", "name a file, such as pictures.sqlite")
    return None if name is None else Path(name).expanduser()


def default_library(space: str) -> Path:
    """``$XDG_DATA_HOME/sayclip/library-<space>.sqlite``, so that every CLIP has one of its own.

    Raises LibraryError without a home folder.
    """
    folder = data_folder()
    if folder is None:
        raise LibraryError(
            "there is no home folder to keep a library in", "name one with --library or $SAYCLIP_LIBRARY"
        )
    return folder / f"library-{space}.sqlite"


def demo_pictures(encoder: Encoder) -> Path | None:
    """The folder of the demo's pictures, if they are installed and ``encoder`` is of the demo's own space."""
    demo = demo_folder()
    if demo is None or not (demo / "pictures" / CAPTIONS).is_file():
        return None
    try:
        space = Manifest.read(demo / "bundle").space
    except BundleError:
        return None
    return demo / "pictures" if space == encoder.space else None


def demo_library_path(space: str) -> Path:
    """Where the demo's library for ``space`` is kept. Raises LibraryError without a home folder."""
    folder = cache_folder()
    if folder is None:
        raise LibraryError("there is no home folder to keep the demo's library in", "name a library with --library")
    return folder / f"demo-{space}.sqlite"


def demo_items(pictures: Path) -> list[Item]:
    """The demo's pictures with their names as captions and their keywords. Raises LibraryError."""
    from sayclip.library import Item

    path = pictures / CAPTIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LibraryError(f"{path} cannot be read ({error})", "install sayclip-demo again") from None

    def items() -> Iterator[Item]:
        for line in lines:
            file, name, keywords = [*line.split("\t"), "", ""][:3]
            if file and name and file != "file":
                yield Item(
                    pictures / file, caption=name, meta={"keywords": [word for word in keywords.split("|") if word]}
                )

    return list(items())


def open_demo_library(encoder: Encoder, pictures: Path) -> Library:
    """The demo's library, made or completed first where necessary (with a progress bar). Raises LibraryError."""
    from sayclip.library import Library

    path = demo_library_path(encoder.space)
    items = demo_items(pictures)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(
            f"{path.parent} cannot be made ({error.strerror})", "make it writable, or name a library with --library"
        ) from None
    library = Library.open_or_create(path, encoder)
    try:
        _complete(library, items, pictures)
    except BaseException:
        library.close()
        raise
    return library


def demo_is_ready(encoder: Encoder) -> bool:
    """Whether the demo's library is there already, so that searching it takes no more than a search."""
    return demo_library_path(encoder.space).exists()


def _complete(library: Library, items: list[Item], pictures: Path) -> None:
    first = next(iter(library.items()), None)
    here = str(pictures.resolve())
    if len(library) == len(items) and first is not None and first.source.startswith(here):
        return
    # Sources of an installation that has since moved, or pictures that the demo no longer has.
    wanted = {os.path.abspath(str(item.picture)) for item in items}
    for source in [item.source for item in library.items() if item.source not in wanted]:
        library.remove(source)
    with Progress("indexing the demo's pictures") as progress:
        report = library.add_many(items, progress=progress)
    if report.failed and not len(library):
        source, message = report.failed[0]
        raise LibraryError(f"none of the demo's pictures could be read, such as {source} ({message})", "reinstall it")
