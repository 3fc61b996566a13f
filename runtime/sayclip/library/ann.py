"""Approximate search for large libraries: a usearch index beside the library, and the newest vectors exactly.

The index answers for the vectors up to its `max_id`; ids are never used twice, so a vector of the index that is no
longer in the library is simply dropped, and one that came later is searched exactly. SQLite stays the truth.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import LibraryError, MissingDependencyError
from sayclip.library.ann_file import IndexFile, drafted, index_path, new_index, read_index, usearch_installed
from sayclip.library.exact import ExactIndex, Scores, cosines, ranked, unit_rows
from sayclip.library.log import warning
from sayclip.library.schema import explained
from sayclip.library.store import Store

THRESHOLD = 20_000
"""Libraries of more vectors than this are searched through an index."""
LARGEST_K = 256
"""More hits than this are searched exactly: the graph is made for few."""

_OVERFETCH = 16  # approximate neighbours asked for beyond k, then scored exactly
_NEW_PART = 0.1  # of the library searched exactly before the index is extended
_DEAD_PART = 0.25  # of the index no longer in the library before it is made anew
_FEW = 1000  # new vectors that are not worth touching the file for
_BLOCK = 1024  # vectors added at once by all cores; in the background fewer, to stop soon when told to
# Threads that add to a graph of few nodes do not see each other's, and leave nodes that no search reaches.
_ALONE = 1000
_BACKGROUND_BLOCK = 64

Progress = Callable[[int, int], None]


class ApproximateIndex:
    """The index of one library, opened when needed and brought up to date by `refresh`."""

    def __init__(self, store: Store, threshold: int) -> None:
        self._store = store
        self._threshold = threshold
        self._file: IndexFile | None = None
        self._tail = ExactIndex(store.width)
        self._refused: tuple[object, ...] | None = None
        self._checked: tuple[int, int] | None = None
        self._total = 0
        self._failed = False
        self._builder: threading.Thread | None = None
        self._stop = threading.Event()

    def close(self) -> None:
        """Stop building, if that is going on, and let the file go."""
        self._stop.set()
        if self._builder is not None:
            self._builder.join()
        self._file = None

    @property
    def covered(self) -> int:
        """How many vectors the index holds, gone ones included; 0 without one. Call after `wanted`."""
        return self._file.count if self._file and self._is_large() else 0

    def wanted(self) -> bool:
        """Whether the library is large enough, and usearch there; call inside `store.reading`."""
        version = self._store.version()
        if version != self._checked:
            self._total = self._store.count_vectors()
            if self._is_large():
                self._reopen()
            self._checked = version
        return self._is_large()

    def best(self, query: NDArray[np.float32], k: int) -> Scores | None:
        """The `k` best items for a unit query `[width]`, or None while there is no index; inside `store.reading`."""
        if self._file is None:
            return None
        self._tail.refresh(self._store)
        newest = self._tail.best(query, k)
        count = k + _OVERFETCH
        while True:
            # From the graph only the ids are taken: scores come from the library, so they equal exact search's.
            keys = self._file.index.search(query, min(count, self._file.count), threads=1).keys
            block = self._store.vectors_by_id([int(key) for key in keys])
            old = ranked(block.item_ids, cosines(unit_rows(block.vectors), query))
            if len(old.item_ids) >= k or count >= self._file.count:
                break
            count *= 2
        merged = ranked(np.concatenate([old.item_ids, newest.item_ids]), np.concatenate([old.cosines, newest.cosines]))
        return Scores(merged.item_ids[:k], merged.cosines[:k])

    def refresh(self, *, background: bool, progress: Progress | None = None) -> bool:
        """Bring the index up to date if that is due; True if it was, False if it was not due or is under way.

        In the background, a thread with a connection of its own does it, and gives up when the program ends.
        Raises `LibraryError` in the foreground only; in the background the log says what went wrong.
        """
        with self._store.reading():
            if self._store.readonly or not self.wanted():
                return False
            due = self._due()
            if due is None:
                return False
            if background:
                if not self._failed and (self._builder is None or not self._builder.is_alive()):
                    extend = due == "extend"
                    self._builder = threading.Thread(target=self._build_alone, args=(extend,), name="sayclip-index")
                    self._builder.start()
                return False
        self._build(self._store, extend=due == "extend", threads=0, progress=progress)
        return True

    def build(self, progress: Progress | None = None) -> None:
        """Make the index anew, whatever its state. Raises `LibraryError` or `MissingDependencyError`."""
        if not usearch_installed():
            raise MissingDependencyError("an index needs usearch, which is missing", "pip install 'sayclip[index]'")
        self._build(self._store, extend=False, threads=0, progress=progress)

    def _is_large(self) -> bool:
        return self._total > self._threshold and usearch_installed()

    def _due(self) -> str | None:
        if self._file is None:
            return "build"
        new = self._store.count_vectors(after=self._file.max_id)
        if self._file.count - (self._total - new) > _DEAD_PART * self._file.count:
            return "build"
        return "extend" if new > max(_FEW, _NEW_PART * self._total) else None

    def _reopen(self) -> None:
        """Take the index that the library names, unless it is the one at hand or was refused before."""
        token = self._store.setting("index_token")
        if self._file is not None and self._file.token == token:
            return
        self._file = None
        if token is None:
            return
        path = index_path(self._store.path)
        try:
            status = os.stat(path)
            found = (token, status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            return
        if found == self._refused:
            return
        self._file = read_index(path, token, self._store.width)
        self._refused = found if self._file is None else None
        if self._file is not None:
            self._tail = ExactIndex(self._store.width, after=self._file.max_id)

    def _build_alone(self, extend: bool) -> None:
        try:
            store = Store(self._store.path, self._store.timeout)
            try:
                self._build(store, extend=extend, threads=1, progress=None)
            finally:
                store.close()
        except LibraryError as error:
            self._failed = True  # else every search would set out to build again
            warning(__name__, "the index was not brought up to date: %s", error)

    def _build(self, store: Store, *, extend: bool, threads: int, progress: Progress | None) -> None:
        path, width = index_path(store.path), store.width
        token = store.setting("index_token")
        old = read_index(path, token, width, mapped=False) if extend and token else None
        index, after = (old.index, old.max_id) if old else (new_index(width), 0)
        until = store.last_vector()
        done, total = 0, store.count_vectors(after)
        if not total:
            return
        size = _BACKGROUND_BLOCK if threads == 1 else _BLOCK
        for block in store.vector_blocks(after, until):
            start = 0
            while start < len(block.ids):
                # At the program's end this thread must not go on: the interpreter waits for it.
                if self._stop.is_set() or not threading.main_thread().is_alive():
                    return
                alone = len(index) < _ALONE
                part = slice(start, start + min(size, _ALONE if alone else size))
                vectors = block.vectors[part]
                index.add(block.ids[part].astype(np.uint64), vectors, threads=1 if alone else threads)
                start += len(vectors)
                done += len(block.ids[part])
                if progress is not None:
                    progress(done, total)
        new_token = os.urandom(16).hex()
        try:
            # The name is given under the library's write lock, so that of two builders file and token are one's.
            # A stop before the commit leaves a file that the library does not name, and it is made again.
            with drafted(path, index, new_token, until) as draft, store.writing():
                os.replace(draft, path)
                store.set_setting("index_token", new_token)
        except OSError as error:
            raise explained(error, store.path, "indexed") from error
