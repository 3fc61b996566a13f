"""Opening a library and looking at what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sayclip.errors import BundleError, LibraryError, SpaceMismatchError
from sayclip.library import ann
from sayclip.library.checks import whole_number
from sayclip.library.content import absolute
from sayclip.library.exact import ExactIndex
from sayclip.library.finding import printable
from sayclip.library.protocol import EncoderLike
from sayclip.library.records import StoredItem, stored
from sayclip.library.schema import create_database
from sayclip.library.store import Store

if TYPE_CHECKING:
    from typing_extensions import Self

_LARGEST_ID = 2**63 - 1


class OpenLibrary:
    """An open library file; `Library` adds what changes and searches it."""

    def __init__(self, store: Store, encoder: EncoderLike | None, index_threshold: int) -> None:
        self._store = store
        self._encoder = encoder
        self._exact = ExactIndex(store.width)
        self._near = ann.ApproximateIndex(store, index_threshold)
        self._searches = 0

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        encoder: EncoderLike,
        *,
        busy_timeout: float = 5.0,
        index_threshold: int = ann.THRESHOLD,
    ) -> Self:
        """Make an empty library for the encoder's space. Raises `LibraryError` if there is anything at `path`."""
        create_database(Path(path), encoder.space, encoder.width)
        return cls.open(path, encoder, busy_timeout=busy_timeout, index_threshold=index_threshold)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        encoder: EncoderLike | None = None,
        *,
        busy_timeout: float = 5.0,
        index_threshold: int = ann.THRESHOLD,
    ) -> Self:
        """Open a library; without an encoder it can be listed, changed and searched by vector, but not added to.

        A library on a read-only disk or folder opens for reading. `busy_timeout` is how many seconds a write waits
        for another process's. Libraries of more than `index_threshold` vectors are searched through usearch where
        that is installed. Raises `LibraryError` for what is no usable library, and `SpaceMismatchError` if the
        encoder is of another space than the library.
        """
        store = Store(Path(path), busy_timeout)
        try:
            if encoder is not None:
                _check_space(store, encoder)
        except BaseException:
            store.close()
            raise
        return cls(store, encoder, index_threshold)

    @classmethod
    def open_or_create(
        cls,
        path: str | os.PathLike[str],
        encoder: EncoderLike,
        *,
        busy_timeout: float = 5.0,
        index_threshold: int = ann.THRESHOLD,
    ) -> Self:
        """Open the library at `path`, or make it if there is nothing."""
        if not os.path.lexists(path):
            try:
                return cls.create(path, encoder, busy_timeout=busy_timeout, index_threshold=index_threshold)
            except LibraryError:
                if not os.path.lexists(path):  # else another process was faster
                    raise
        return cls.open(path, encoder, busy_timeout=busy_timeout, index_threshold=index_threshold)

    def close(self) -> None:
        """Close the file; a second call does nothing. The encoder stays open."""
        self._near.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Where the library lies."""
        return self._store.path

    @property
    def space(self) -> str:
        """Id of the embedding space."""
        return self._store.space

    @property
    def width(self) -> int:
        """Length of its vectors."""
        return self._store.width

    @property
    def readonly(self) -> bool:
        """Whether the file or its folder cannot be written."""
        return self._store.readonly

    def __len__(self) -> int:
        return self._store.count_items()

    def items(self) -> Iterator[StoredItem]:
        """Every item, by id."""
        return (stored(row) for row in self._store.all_items())

    def get(self, item: int | str | os.PathLike[str]) -> StoredItem:
        """An item by id, source or path. Raises `LibraryError` if there is none."""
        item_id = self._resolve(item)[0]
        row = self._store.get([item_id]).get(item_id)
        if row is None:
            raise self._no_item(item)
        return stored(row)

    def _encoder_for(self, name: str) -> EncoderLike:
        if self._encoder is None:
            raise LibraryError("the library was opened without an encoder, so nothing can be added", "open it with one")
        if name not in self._encoder.names:
            has = ", ".join(self._encoder.names) or "no encoder"
            raise BundleError(
                f"adding pictures needs the {name} encoder, the bundle has {has}",
                f"load a bundle of space {self.space} that has it",
            )
        return self._encoder

    def _resolve(self, item: int | str | os.PathLike[str]) -> list[int]:
        """Ids that an id, source or path stands for; raises `LibraryError` if there is none."""
        if isinstance(item, (str, os.PathLike)):
            for source in (os.fspath(item), absolute(item)):
                if ids := self._store.by_source(printable(source)):
                    return ids
            raise self._no_item(item)
        item_id = whole_number("item id", item)
        if item_id > _LARGEST_ID:
            raise self._no_item(item)
        return [item_id]

    def _no_item(self, item: object) -> LibraryError:
        shown = printable(item) if isinstance(item, (str, os.PathLike)) else repr(item)
        return LibraryError(f"library {printable(self.path)} has no item {shown}", "list what it has with items()")


def _check_space(store: Store, encoder: EncoderLike) -> None:
    if (store.space, store.width) != (encoder.space, encoder.width):
        raise SpaceMismatchError(
            f"library {printable(store.path)} holds vectors of space {store.space} (width {store.width}),"
            f" the bundle encodes into {encoder.space} (width {encoder.width})",
            f"load a bundle of space {store.space}, or index the pictures into another one (--library FILE)",
        )
