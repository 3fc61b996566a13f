"""Adding many pictures: worker threads read ahead, one thread encodes and writes, batch by batch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sayclip.errors import InputError, LibraryError, PictureError, SayclipError
from sayclip.library import adding
from sayclip.library.adding import Prepared
from sayclip.library.content import absolute
from sayclip.library.finding import printable
from sayclip.library.interrupts import Interrupts
from sayclip.library.protocol import EncoderLike
from sayclip.library.records import AddReport, Item
from sayclip.library.store import Store

if TYPE_CHECKING:
    from sayclip.library.records import Picture

Progress = Callable[[int, "int | None"], None]

_READERS = 2
_SETTLED_AT_ONCE = 256  # unchanged pictures between two reports of progress


def add_one(store: Store, encoder: EncoderLike, item: Item) -> int:
    """Add a picture and return its item's id once it is on the disk; raises what is wrong with it."""
    prepared = adding.prepare(store, encoder, item)
    if prepared.found is not None and not adding.needs_writing(prepared):
        return prepared.found.id
    failed = adding.encode(store, encoder, [prepared])
    if prepared.sha256 in failed:
        raise failed[prepared.sha256]
    with store.writing():
        return adding.write(store, prepared)[0]


def add_many(
    store: Store, encoder: EncoderLike, pictures: Iterable[Picture | Item], batch_size: int, progress: Progress | None
) -> AddReport:
    """Add pictures; `progress(done, total)` is called after each commit and counts only what is on the disk."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}", "give a whole number of at least 1")
    if isinstance(pictures, (str, bytes, os.PathLike)):
        raise InputError("add_many got one path", "give a list of pictures, or call add")
    if store.readonly:
        with store.writing():  # says why not, before any work is done
            pass
    report = AddReport()
    total = len(pictures) if isinstance(pictures, Sized) else None
    with (
        Interrupts() as interrupts,
        closing(_steps(store, encoder, _given(pictures, interrupts), batch_size, report)) as steps,
    ):
        for committed in steps:
            if committed and progress is not None:
                with interrupts.let_through():
                    progress(report.done, total)
            interrupts.check()
    return report


def _steps(
    store: Store, encoder: EncoderLike, pictures: Iterable[Picture | Item], batch_size: int, report: AddReport
) -> Generator[bool, None, None]:
    """Add the pictures; after each one says whether what was read so far is now on the disk."""
    batch: list[Prepared] = []
    waiting = settled = 0
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="sayclip-read")
    try:
        for source, future in _ahead(pool, store, encoder, pictures, 2 * batch_size):
            try:
                batch.append(future.result())
                waiting += batch[-1].pixels is not None
            except Exception as error:
                _raise_if_of_the_library(error)
                report.failed.append((source, _line(error)))
            settled += 1
            full = waiting >= batch_size or settled >= _SETTLED_AT_ONCE
            if full:
                _commit(store, encoder, batch, report)
                batch, waiting, settled = [], 0, 0
            yield full
        if settled:
            _commit(store, encoder, batch, report)
            yield True
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _given(pictures: Iterable[Picture | Item], interrupts: Interrupts) -> Iterator[Picture | Item]:
    """The pictures one by one; what gives them (a camera, a walk through folders) can be interrupted."""
    following = iter(pictures)
    while True:
        with interrupts.let_through():
            try:
                picture = next(following)
            except StopIteration:
                return
        yield picture


def _ahead(
    pool: ThreadPoolExecutor, store: Store, encoder: EncoderLike, pictures: Iterable[Picture | Item], ahead: int
) -> Iterator[tuple[str, Future[Prepared]]]:
    """Hand out the pictures in order, each with its name and its reading, `ahead` of them begun."""
    begun: deque[tuple[str, Future[Prepared]]] = deque()
    for number, picture in enumerate(pictures):
        item = picture if isinstance(picture, Item) else Item(picture)
        if isinstance(item.picture, np.ndarray):
            item = replace(item, picture=item.picture.copy())  # a camera may fill the same buffer again meanwhile
        begun.append((_name(item, number), pool.submit(adding.prepare, store, encoder, item)))
        if len(begun) > ahead:
            yield begun.popleft()
    yield from begun


def _commit(store: Store, encoder: EncoderLike, batch: list[Prepared], report: AddReport) -> None:
    failed = adding.encode(store, encoder, batch)
    failures = [(prepared.source, _line(failed[prepared.sha256])) for prepared in batch if prepared.sha256 in failed]
    changes = [prepared for prepared in batch if prepared.sha256 not in failed and adding.needs_writing(prepared)]
    outcomes: list[str] = []
    unwritten = len(batch) - len(failures) - len(changes)
    if changes:
        with store.writing():
            for prepared in changes:
                try:
                    outcomes.append(adding.write(store, prepared)[1])
                except adding.OvertakenError as error:
                    failures.append((prepared.source, _line(error)))
    # Counted only now that the transaction is on the disk.
    report.failed += failures
    report.added += outcomes.count(adding.ADDED)
    report.updated += outcomes.count(adding.UPDATED)
    report.unchanged += outcomes.count(adding.UNCHANGED) + unwritten


def _raise_if_of_the_library(error: Exception) -> None:
    """A picture's error is reported and the others go on; the library's own ends the run."""
    if isinstance(error, LibraryError) or (isinstance(error, SayclipError) and not isinstance(error, InputError)):
        raise error


def _line(error: Exception) -> str:
    if isinstance(error, SayclipError):
        return str(error)
    # Decoders meet files that nobody foresaw; one such file must not end a run of a hundred thousand.
    return str(PictureError(f"it could not be read ({type(error).__name__}: {error})", "check the picture"))


def _name(item: Item, number: int) -> str:
    if item.source is not None:
        return str(item.source)
    if isinstance(item.picture, (str, bytes, os.PathLike)):
        return printable(absolute(item.picture))
    return f"picture {number + 1}"
