"""The library as callers see it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from sayclip.errors import InputError, LibraryError
from sayclip.library import ann
from sayclip.library.base import OpenLibrary
from sayclip.library.checks import checked_details, cosine, whole_number
from sayclip.library.exact import Scores, merged
from sayclip.library.log import warning
from sayclip.library.queries import Query, Reading, encode_queries, unit_vectors
from sayclip.library.records import AddReport, Hit, Item, SearchResult, hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sayclip.library.ingest import Progress
    from sayclip.library.records import Picture


class Library(OpenLibrary):
    """Pictures of one embedding space in one SQLite file, added by content and found by any query.

    Open one with `create`, `open` or `open_or_create`; it is a context manager. Threads may share it, and several
    processes may have it open: any number read while one writes. Every error is a `SayclipError` of one line.
    """

    def add(
        self,
        picture: Picture,
        *,
        stamp: float | None = None,
        pose: Sequence[float] | None = None,
        frame_id: str | None = None,
        caption: str | None = None,
        source: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        """Add one picture and return its item's id once it is on the disk; see `Item` for the arguments.

        A source that is there already with the same content stays as it is, apart from details given anew; with
        other content it is encoded again and keeps its id. Raises `InputError` for a picture of no use.
        """
        from sayclip.library import ingest  # what only searches never needs it

        item = Item(picture, source, caption, stamp, pose, frame_id, meta)
        return ingest.add_one(self._store, self._encoder_for("image"), item)

    def add_many(
        self,
        pictures: Iterable[Picture | Item],
        *,
        batch_size: int = 32,
        progress: Progress | None = None,
        index_progress: ann.Progress | None = None,
    ) -> AddReport:
        """Add pictures as `add` does, a transaction a batch; bad ones are reported and the others go on.

        `progress(done, total)` is called after each commit: what it counts survives whatever happens next. At the
        end a large library's usearch index is brought up to date; `index_progress(done, total)` counts vectors.
        """
        from sayclip.library import ingest

        report = ingest.add_many(self._store, self._encoder_for("image"), pictures, batch_size, progress)
        self._refresh_index(index_progress)
        return report

    def update(
        self,
        item: int | str | os.PathLike[str],
        *,
        caption: str | EllipsisType | None = ...,
        stamp: float | EllipsisType | None = ...,
        pose: Sequence[float] | EllipsisType | None = ...,
        frame_id: str | EllipsisType | None = ...,
        meta: Mapping[str, Any] | EllipsisType | None = ...,
    ) -> None:
        """Change what is stored with an item; None clears a detail, leaving it out keeps it."""
        given = {"caption": caption, "stamp": stamp, "pose": pose, "frame_id": frame_id, "meta": meta}
        given = {name: value for name, value in given.items() if value is not ...}
        details = checked_details(**given)
        cleared = {"extra" if name == "meta" else name for name, value in given.items() if value is None}
        with self._store.writing():
            for item_id in self._resolve(item):
                row = self._store.get([item_id]).get(item_id)
                if row is None:
                    raise self._no_item(item)
                kept = {key: value for key, value in row.meta.items() if key not in cleared}
                self._store.update_item(item_id, row.sha256, {**kept, **details})

    def remove(self, item: int | str | os.PathLike[str]) -> int:
        """Remove an item by id, or all items of a source or path; returns how many. The files stay."""
        with self._store.writing():
            removed = self._store.delete_items(self._resolve(item))
            if not removed:
                raise self._no_item(item)
        return removed

    def prune(self, under: str | os.PathLike[str] | None = None, *, dry_run: bool = False) -> list[str]:
        """Remove the items whose file no longer exists, and return their sources.

        With `under`, only those that lay in that folder. Items that were added as arrays stay, and so do files
        that cannot be looked at for another reason. `dry_run` only says what would go.
        """
        folder = None if under is None else os.path.join(os.path.abspath(under), "")
        gone: dict[int, str] = {}
        for row in self._store.all_items():
            path = row.meta.get("file", {}).get("path")
            if path is not None and (folder is None or path.startswith(folder)) and _is_gone(path):
                gone[row.id] = row.source
        if gone and not dry_run:
            with self._store.writing():
                self._store.delete_items(list(gone))
            self._refresh_index()
        return list(gone.values())

    def search(
        self,
        text: str | Sequence[str] | None = None,
        *,
        speech: Any = None,
        image: Any = None,
        ipa: str | Sequence[str] | None = None,
        words: str | Sequence[str] | None = None,
        vector: Any = None,
        sounds_like: str | Sequence[str] | None = None,
        sample_rate: int | None = None,
        language: str | None = None,
        sound_share: float | None = None,
        weights: Mapping[str, float | Sequence[float]] | None = None,
        k: int = 10,
        min_score: float | None = None,
    ) -> SearchResult:
        """Find the `k` items nearest to what is asked, best first; equal scores by item id.

        Each of text, speech (paths, arrays `[S]` or `[S, C]` at `sample_rate`, or what `Encoder.explain` gave), image,
        ipa, words (said aloud in IPA), vector and sounds_like takes one query or a list, and all that are given are
        fused: their embeddings are summed by weight and brought to length 1. `weights` names a modality and gives a
        number, or one for each of its queries; the default is 1, and a negative weight pushes away. `min_score` leaves
        out hits below a cosine.

        sounds_like is a spelling that sounds right, such as "dollfin", which is read aloud and as text; an item counts
        by the reading that it is nearer to, the sound weighed by `sound_share`, from 0 to 1, and the text by the rest
        (default: `sayclip.library.sounds_like.SOUND_SHARE`). `language`: of the words and spellings, one that the
        pronunciation encoder was trained on (default: its first).

        Raises `InputError` for a query, weight or `k` of no use, and `BundleError` for an encoder that is missing.
        """
        k = whole_number("k", k)
        least = cosine(min_score)
        start = time.perf_counter()
        asked = {"text": text, "speech": speech, "image": image, "ipa": ipa, "words": words, "vector": vector}
        asked["sounds_like"] = sounds_like
        reading = Reading(sample_rate, language, sound_share)
        query = encode_queries(asked, self._encoder, self.width, weights=weights, reading=reading)
        encoded = time.perf_counter()
        hits = self._hits(query, k, least)
        return SearchResult(
            hits,
            encode_ms=(encoded - start) * 1e3,
            search_ms=(time.perf_counter() - encoded) * 1e3,
            queries=query.parts,
        )

    def search_vector(self, vector: Any, k: int = 10, *, min_score: float | None = None) -> SearchResult:
        """Find the `k` items nearest to a vector `[width]` of the library's space; needs no encoder."""
        if unit_vectors(vector, self.width).shape[0] != 1:
            raise InputError(f"vector has shape {list(np.shape(vector))}", f"give one vector, [{self.width}]")
        return self.search(vector=vector, k=k, min_score=min_score)

    def build_index(self, progress: ann.Progress | None = None) -> None:
        """Make the usearch index anew; `add_many` and long-running searches do so by themselves when it is due.

        `progress(done, total)` counts vectors. Raises `MissingDependencyError` without usearch.
        """
        self._near.build(progress)

    def index_state(self) -> dict[str, Any]:
        """How a search is answered now: `method` (exact or usearch), `vectors`, and how many are `indexed`."""
        with self._store.reading():
            near = self._near.wanted() and self._near.covered > 0
            vectors = self._store.count_vectors()
            return {"method": "usearch" if near else "exact", "vectors": vectors, "indexed": self._near.covered}

    def _hits(self, query: Query, k: int, least: float) -> list[Hit]:
        with self._store.reading():
            ids, cosines = merged([self._nearest(vector, k) for vector in query.vectors], query.factors, k)
            kept = cosines >= least
            ids, cosines = ids[kept], cosines[kept]
            rows = self._store.get(ids.tolist())
        self._searches += 1
        if self._searches > 1:  # a program that asks once would only have to throw the work away
            self._near.refresh(background=True)
        pairs = zip(ids.tolist(), cosines.tolist(), strict=True)
        return [hit(rows[item_id], score) for item_id, score in pairs if item_id in rows]

    def _nearest(self, vector: NDArray[np.float32], k: int) -> Scores:
        if k <= ann.LARGEST_K and self._near.wanted():
            scores = self._near.best(vector, k)
            if scores is not None:
                return scores
        self._exact.refresh(self._store)
        return self._exact.best(vector, k)

    def _refresh_index(self, progress: ann.Progress | None = None) -> None:
        try:
            self._near.refresh(background=False, progress=progress)
        except LibraryError as error:  # the pictures are stored; without an index they are searched exactly
            warning(__name__, "the index was not brought up to date: %s", error)


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # a disk that does not answer has not lost its files
        return False
    return False
