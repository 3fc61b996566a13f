"""The library: what is searched, stored in one SQLite file."""

from __future__ import annotations

from sayclip.library.finding import FoundPictures, find_pictures
from sayclip.library.library import Library
from sayclip.library.protocol import EncoderLike
from sayclip.library.records import AddReport, Hit, Item, SearchResult, StoredItem

__all__ = [
    "AddReport",
    "EncoderLike",
    "FoundPictures",
    "Hit",
    "Item",
    "Library",
    "SearchResult",
    "StoredItem",
    "find_pictures",
]
