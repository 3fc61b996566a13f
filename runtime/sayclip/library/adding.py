"""Adding one picture: from what was given to what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.errors import BundleError, PictureError
from sayclip.library.checks import checked_details, checked_text
from sayclip.library.content import FileState, content_sha256, default_source, file_state
from sayclip.library.protocol import EncoderLike
from sayclip.library.queries import unit_vectors
from sayclip.library.records import Item
from sayclip.library.store import Row, Store

ENCODER = "image"
KIND = "picture"

ADDED, UNCHANGED, UPDATED = "added", "unchanged", "updated"


class OvertakenError(PictureError):
    """A picture was changed or removed by another process between its reading and its writing."""


@dataclass
class Prepared:
    """A picture that was read: either its pixels are to be encoded, or its vector is known, or nothing changed."""

    source: str
    sha256: str
    details: dict[str, Any]
    state: FileState | None
    pixels: NDArray[np.float32] | None = None
    """float32 `[3, H, W]`, as the encoder takes it."""
    vector: bytes | None = None
    """little-endian float16 `[width]`"""
    graph_sha256: str = ""
    found: Row | None = None
    """The item as it was when the picture was read."""


def prepare(store: Store, encoder: EncoderLike, item: Item) -> Prepared:
    """Read a picture, unless the library knows its content. Runs in worker threads; raises `InputError`."""
    details = checked_details(
        caption=item.caption, stamp=item.stamp, pose=item.pose, frame_id=item.frame_id, meta=item.meta
    )
    state = file_state(item.picture)
    source = item.source if item.source is None else checked_text("source", item.source)
    # An array has no name but its content's, so it is hashed first; a file perhaps not at all.
    sha256 = "" if state else content_sha256(item.picture)
    source = source or (state.path if state else default_source(sha256, details))
    known = store.find(source, KIND)
    if known is not None and state is not None and _same_file(known, state):
        return Prepared(source, known.sha256, details, state, found=known)
    sha256 = sha256 or content_sha256(state.path if state else item.picture)
    prepared = Prepared(source, sha256, details, state, found=known)
    if known is not None and known.sha256 == sha256:
        return prepared
    twin = store.vector_of_content(sha256, ENCODER)
    if twin is not None:
        prepared.graph_sha256, prepared.vector = twin
    else:
        prepared.pixels = encoder.prepare_image(state.path if state else item.picture)
        _check_still(state)
    return prepared


def encode(store: Store, encoder: EncoderLike, batch: list[Prepared]) -> dict[str, PictureError]:
    """Give each picture of a batch its vector, equal pictures once; returns what failed, by content."""
    waiting: dict[str, NDArray[np.float32]] = {}
    for prepared in batch:
        if prepared.pixels is not None:
            waiting.setdefault(prepared.sha256, prepared.pixels)
    if not waiting:
        return {}
    rows = encoder.image_prepared(np.stack(list(waiting.values())))
    if rows.shape != (len(waiting), store.width):
        raise BundleError(
            f"the image encoder gave {list(rows.shape)}, wanted [{len(waiting)}, {store.width}]",
            "load the bundle that made the library",
        )
    good: NDArray[np.bool_] = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    failed = {
        sha256: PictureError("its embedding is not finite or all zeros", "check the picture and the bundle's precision")
        for sha256, is_good in zip(waiting, good, strict=True)
        if not is_good
    }
    rows = unit_vectors(rows[good], store.width).astype("<f2") if good.any() else rows[:0]
    graph = encoder.graph_sha256(ENCODER)
    vectors = dict(zip((sha256 for sha256 in waiting if sha256 not in failed), rows, strict=True))
    for prepared in batch:
        if prepared.pixels is not None and prepared.sha256 in vectors:
            prepared.vector, prepared.graph_sha256 = vectors[prepared.sha256].tobytes(), graph
        prepared.pixels = None
    return failed


def needs_writing(prepared: Prepared) -> bool:
    """Whether the library would change by this picture, as far as was known when it was read."""
    found = prepared.found
    return found is None or found.sha256 != prepared.sha256 or _merged(found.meta, prepared) != found.meta


def write(store: Store, prepared: Prepared) -> tuple[int, str]:
    """Store a picture, inside `store.writing`; returns its item's id and what became of it.

    Looks the item up again, because another process, or an earlier picture of the batch, may have written it.
    """
    known = store.find(prepared.source, KIND)
    if known is None:
        if prepared.vector is None:
            raise _overtaken(prepared)
        item_id = store.insert_item(KIND, prepared.source, prepared.sha256, _merged({}, prepared))
        store.replace_vector(item_id, ENCODER, prepared.graph_sha256, prepared.vector)
        return item_id, ADDED
    meta = _merged(known.meta, prepared)
    if known.sha256 != prepared.sha256:
        if prepared.vector is None:
            raise _overtaken(prepared)
        store.update_item(known.id, prepared.sha256, meta)
        store.replace_vector(known.id, ENCODER, prepared.graph_sha256, prepared.vector)
        return known.id, UPDATED
    if meta != known.meta:
        store.update_item(known.id, known.sha256, meta)
    same = all(meta.get(key) == known.meta.get(key) for key in {*meta, *known.meta} - {"file"})
    return known.id, UNCHANGED if same else UPDATED


def _overtaken(prepared: Prepared) -> OvertakenError:
    return OvertakenError(f"{prepared.source} was changed by another process while it was being added", "add it again")


def _check_still(state: FileState | None) -> None:
    """Hash and pixels come from two readings of a file; they must be of one content."""
    now = file_state(state.path) if state else None
    if state and now and now.seen != state.seen:
        raise PictureError(f"{state.path} changed while it was being read", "add it again")


def _same_file(known: Row, state: FileState) -> bool:
    remembered = known.meta.get("file")
    if not isinstance(remembered, dict) or remembered.get("path") != state.path:
        return False
    return remembered.get("seen") == state.seen


def _merged(meta: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Metadata with what was given now laid over what was there, and the file's state if it can be relied upon."""
    merged = {**meta, **prepared.details}
    state = prepared.state
    if state is None:
        merged.pop("file", None)
        return merged
    merged["file"] = {"path": state.path}
    if state.settled:
        merged["file"]["seen"] = state.seen
    return merged
