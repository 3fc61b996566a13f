"""Adding to a library, changing and removing what is there."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sayclip.errors import BundleError, InputError, LibraryError, PictureError
from sayclip.library import Item, Library


@pytest.fixture
def library(tmp_path, encoder):
    with Library.create(tmp_path / "library.sayclip", encoder) as library:
        yield library


def test_hits_give_back_what_was_added(library, picture, tmp_path):
    pose = (1, 2, 3, 0, 0, 0, 1)
    item_id = library.add(
        picture(1), stamp=12.5, pose=np.array(pose), frame_id="map", caption="a ♥ door", meta={"robot": [1, None]}
    )
    library.add(picture(2))
    hit = library.search(image=picture(1), k=1)[0]
    assert (hit.item_id, hit.stamp, hit.pose) == (item_id, 12.5, pose)
    assert (hit.frame_id, hit.caption, hit.kind, hit.meta) == ("map", "a ♥ door", "picture", {"robot": [1, None]})
    assert hit.score == pytest.approx(1, abs=1e-5)
    assert hit.score <= 1
    assert json.loads(json.dumps(hit.to_dict())) == {**vars(hit), "pose": list(pose)}


def test_sources(library, picture, picture_folder, monkeypatch):
    folder = picture_folder(2)
    monkeypatch.chdir(folder)
    by_path = library.add("000.png")
    by_name = library.add(folder / "001.png", source="door")
    by_array = library.add(picture(5))
    seen_again = library.add(picture(5), stamp=3)
    by_image = library.add(Image.fromarray(picture(6)))
    sources = {item.item_id: item.source for item in library.items()}
    assert sources[by_path] == str(folder / "000.png")
    assert sources[by_name] == "door"
    assert sources[by_array] == f"array:{library.get(by_array).sha256[:16]}"
    assert sources[seen_again] == sources[by_array] + "@3.0"
    assert sources[by_image].startswith("array:")
    assert len(library) == len(set(sources)) == 5


def test_the_same_content_again_changes_nothing(library, encoder, picture, picture_folder):
    path = picture_folder(1) / "000.png"
    first = library.add(path), library.add(picture(7))
    before = list(library.items())
    assert (library.add(path), library.add(picture(7))) == first
    assert list(library.items()) == before
    assert encoder.encoded == 2


def test_changed_content_keeps_the_id_and_the_details(library, encoder, picture, picture_folder):
    path = picture_folder(1) / "000.png"
    item_id = library.add(path, caption="old", stamp=1.0)
    Image.fromarray(picture(9)).save(path)
    assert library.add(path, stamp=2.0) == item_id
    assert encoder.encoded == 2
    hit = library.search(image=picture(9), k=1)[0]
    assert (hit.item_id, hit.caption, hit.stamp) == (item_id, "old", 2.0)
    assert hit.score == pytest.approx(1, abs=1e-5)
    assert len(library) == 1


def test_new_content_with_the_old_time_stamp_and_size_is_noticed(library, picture, tmp_path):
    path = tmp_path / "frame.ppm"
    Image.fromarray(picture(1)).save(path)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    library.add(path)
    size = path.stat().st_size
    Image.fromarray(picture(2)).save(path)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert path.stat().st_size == size
    report = library.add_many([path])
    assert (report.updated, report.unchanged) == (1, 0)
    assert library.search(image=picture(2), k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_files_that_were_not_touched_are_not_read_again(library, picture_folder, monkeypatch):
    paths = sorted(picture_folder(5).iterdir())
    assert library.add_many(paths).added == 5
    monkeypatch.setattr("sayclip.library.adding.content_sha256", lambda picture: pytest.fail(f"{picture} was read"))
    assert library.add_many(paths).unchanged == 5
    os.utime(paths[0], (1_650_000_000, 1_650_000_000))
    monkeypatch.undo()
    assert library.add_many(paths).unchanged == 5  # touched, read, and found to be the same
    monkeypatch.setattr("sayclip.library.adding.content_sha256", lambda picture: pytest.fail(f"{picture} was read"))
    assert library.add_many(paths).unchanged == 5


def test_a_file_written_this_moment_is_read_again_next_time(library, picture, tmp_path):
    path = tmp_path / "now.png"
    Image.fromarray(picture(1)).save(path)
    library.add(path)
    assert library._store.find(str(path), "picture").meta["file"] == {"path": str(path)}
    assert library.add_many([path]).unchanged == 1


def test_the_same_content_elsewhere_is_an_item_but_is_not_encoded_again(library, encoder, picture_folder, tmp_path):
    path = picture_folder(1) / "000.png"
    copies = [tmp_path / f"copy{number}.png" for number in range(40)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    first = library.add(path)
    assert library.add(copies[0]) != first
    assert encoder.encoded == 1
    report = library.add_many(copies)
    assert (report.added, report.unchanged) == (39, 1)
    assert encoder.encoded == 1
    hits = library.search(image=str(path), k=50)
    assert len(hits) == 41
    assert len({hit.score for hit in hits}) == 1


def test_equal_pictures_of_one_batch_are_encoded_once(library, encoder, picture_folder, tmp_path):
    path = picture_folder(1) / "000.png"
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    report = library.add_many([path, copy, path], batch_size=3)
    assert (report.added, report.unchanged, encoder.encoded) == (2, 1, 1)


def test_many_with_bad_ones_among_them(library, picture, picture_folder, tmp_path):
    folder = picture_folder(70)
    paths = sorted(folder.iterdir())
    paths[3].write_bytes(b"")
    paths[33].write_bytes(paths[33].read_bytes()[:60])
    paths[40].write_text("no picture")
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    Image.fromarray(picture(99)).save(odd, "PNG")
    os.mkfifo(folder / "pipe.png")
    mixed = [
        *paths, folder / "missing.png", folder, odd, folder / "pipe.png", "a\0b.png", None,
        Item(picture(80), stamp=float("nan")), Item(picture(81), source="good", caption="fine"), np.array([None]),
    ]  # fmt: skip
    calls: list[tuple[int, int | None]] = []
    report = library.add_many(iter(mixed), batch_size=16, progress=lambda done, total: calls.append((done, total)))
    assert (report.added, len(report.failed)) == (68, 11)
    assert len(library) == 68
    messages = dict(report.failed)
    for path in (paths[3], paths[33], paths[40], folder / "missing.png", folder, folder / "pipe.png"):
        assert str(path) in messages
    assert "UTF-8" in messages[str(folder) + "/\\xff.png"]
    assert "stamp is nan" in messages["picture 77"]
    assert all("\n" not in message and ": " in message for message in messages.values())
    assert library.get("good").caption == "fine"
    assert calls[-1] == (79, None)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    json.dumps(report.to_dict())


def test_progress_counts_only_what_another_connection_sees(library, encoder, picture_folder):
    paths = sorted(picture_folder(50).iterdir())
    with Library.open(library.path) as other:
        seen: list[tuple[int, int, int | None]] = []
        library.add_many(paths, batch_size=8, progress=lambda done, total: seen.append((done, len(other), total)))
    assert len(seen) == 7
    assert all(done == stored and total == 50 for done, stored, total in seen)


def test_a_picture_that_vanishes_is_reported(library, picture_folder):
    paths = sorted(picture_folder(6).iterdir())

    def listing():
        for path in paths:
            if path.name == "004.png":
                path.unlink()
            yield path

    report = library.add_many(listing())
    assert report.added == 5
    assert [source for source, _ in report.failed] == [str(paths[4])]
    assert "does not exist" in report.failed[0][1]


def test_a_file_that_changes_while_it_is_read_is_not_stored(library, encoder, picture, picture_folder, monkeypatch):
    path = picture_folder(1) / "000.png"
    prepare = encoder.prepare_image

    def slowly(source):
        pixels = prepare(source)
        Image.fromarray(picture(5)).save(path)
        return pixels

    monkeypatch.setattr(encoder, "prepare_image", slowly)
    with pytest.raises(PictureError, match="changed while it was being read: add it again"):
        library.add(path)
    monkeypatch.undo()
    library.add(path)
    assert library.search(image=picture(5))[0].score == pytest.approx(1, abs=1e-5)


def test_a_file_that_becomes_bad_keeps_what_is_stored(library, picture, picture_folder):
    path = picture_folder(1) / "000.png"
    item_id = library.add(path, caption="kept")
    path.write_bytes(b"\x89PNG")
    with pytest.raises(PictureError):
        library.add(path)
    assert len(library.add_many([path]).failed) == 1
    hit = library.search(image=picture(0))[0]
    assert (hit.item_id, hit.caption) == (item_id, "kept")
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_a_camera_that_fills_one_buffer_again_and_again(library, picture):
    buffer = np.empty((12, 10, 3), np.uint8)

    def camera():
        for number in range(100):
            buffer[:] = picture(number)
            yield Item(buffer, stamp=number)

    assert library.add_many(camera()).added == 100
    for number in (0, 50, 99):
        assert library.search(image=picture(number), k=1)[0].stamp == number


def test_an_embedding_that_is_not_finite_fails_alone(tmp_path, vector_encoder):
    good, bad, zero = np.ones((1, 4, 4)), np.full((1, 4, 4), np.nan), np.zeros((1, 4, 4))
    with Library.create(tmp_path / "l", vector_encoder) as library:
        report = library.add_many([Item(good, "good"), Item(bad, "bad"), Item(zero, "zero")])
        assert report.added == 1
        assert [source for source, _ in report.failed] == ["bad", "zero"]
        with pytest.raises(PictureError, match="not finite"):
            library.add(bad)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"stamp": float("nan")}, "stamp is nan"),
        ({"stamp": "now"}, "stamp is 'now'"),
        ({"stamp": True}, "stamp is True"),
        ({"pose": (1, 2)}, "2 numbers"),
        ({"pose": range(17)}, "17 numbers"),
        ({"pose": (1, 2, float("inf"))}, "inf"),
        ({"pose": "1 2 3"}, "pose is"),
        ({"pose": 3}, "pose is 3"),
        ({"caption": 3}, "caption is a int"),
        ({"caption": "\ud800"}, "UTF-8"),
        ({"frame_id": b"map"}, "frame_id is a bytes"),
        ({"source": 7}, "source is a int"),
        ({"meta": [1]}, "meta is a list"),
        ({"meta": {1: 2}}, "meta is a dict"),
        ({"meta": {"a": float("nan")}}, "JSON"),
        ({"meta": {"a": object()}}, "JSON"),
    ],
)
def test_details_that_cannot_be_kept_are_refused(library, encoder, picture, details, words):
    with pytest.raises(InputError, match=words):
        library.add(picture(1), **details)
    assert len(library) == encoder.encoded == 0
    if "source" not in details:
        item_id = library.add(picture(1), caption="kept")
        with pytest.raises(InputError, match=words):
            library.update(item_id, **details)
        assert library.get(item_id).caption == "kept"


def test_update(library, picture):
    item_id = library.add(picture(1), caption="a", stamp=1, pose=(1, 2, 3), frame_id="map", meta={"x": 1})
    library.update(item_id, caption="b", pose=None)
    item = library.get(item_id)
    assert (item.caption, item.stamp, item.pose, item.frame_id, item.meta) == ("b", 1, None, "map", {"x": 1})
    library.update(item.source, meta=None, stamp=np.float32(2))
    item = library.get(item_id)
    assert (item.meta, item.stamp) == ({}, 2.0)
    library.update(item_id)
    assert library.get(item_id) == item


def test_remove(library, picture, picture_folder, monkeypatch):
    folder = picture_folder(2)
    monkeypatch.chdir(folder)
    ids = [library.add(path) for path in sorted(folder.iterdir())]
    ids.append(library.add(picture(5), source="five"))
    assert library.remove(ids[0]) == library.remove("001.png") == library.remove("five") == 1
    assert len(library) == 0
    assert library.search(image=picture(5)) == []
    assert library._store.count_vectors() == 0
    for gone in (ids[0], "five", folder / "000.png", 10**30):
        with pytest.raises(LibraryError, match="has no item"):
            library.remove(gone)
        with pytest.raises(LibraryError, match="has no item"):
            library.get(gone)
        with pytest.raises(LibraryError, match="has no item"):
            library.update(gone, caption="x")
    with pytest.raises(InputError):
        library.remove(0)
    assert library.add(picture(5)) > max(ids)  # an id is never used again


def test_prune(library, picture, picture_folder):
    folder, other = picture_folder(4), picture_folder(2, "other")
    paths = sorted(folder.iterdir())
    library.add(paths[0], source="named")
    library.add_many([*paths[1:], *sorted(other.iterdir())])
    library.add(picture(50))
    assert library.prune() == []
    paths[0].unlink()
    paths[1].unlink()
    (other / "000.png").unlink()
    assert library.prune(folder, dry_run=True) == ["named", str(paths[1])]
    assert len(library) == 7
    assert library.prune(folder) == ["named", str(paths[1])]
    assert library.prune() == [str(other / "000.png")]
    assert len(library) == 4
    assert library.prune(folder.parent / "pict") == []
    paths[2].unlink()
    paths[2].symlink_to(paths[2].name)  # a loop: the system cannot say whether the file is there
    assert library.prune() == []


def test_what_cannot_be_added_to(tmp_path, library, encoder, picture):
    with Library.open(library.path) as bare, pytest.raises(LibraryError, match="without an encoder"):
        bare.add(picture(1))
    encoder.names = ("text", "speech")
    with pytest.raises(BundleError, match="needs the image encoder, the bundle has text, speech"):
        library.add(picture(1))
    encoder.names = ("image",)
    with pytest.raises(InputError, match="one path"):
        library.add_many("pictures")
    for size in (0, -1, 2.0, True):
        with pytest.raises(InputError, match="batch_size"):
            library.add_many([], batch_size=size)
    assert library.add_many([]).done == 0


def test_items_come_by_id_and_may_change_meanwhile(library, picture):
    ids = [library.add(picture(number)) for number in range(5)]
    listing = library.items()
    assert next(listing).item_id == ids[0]
    library.remove(ids[4])
    library.add(picture(9))
    assert [item.item_id for item in listing][:3] == ids[1:4]


def test_an_image_that_is_too_large_is_not_laid_out_in_memory(library, tmp_path):
    path = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(PictureError, match="20000 x 20000"):
        library.add(path)
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(path) as image, pytest.raises(PictureError, match="20000 x 20000"):
            library.add(image)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def test_path_forms(library, picture_folder, monkeypatch):
    folder = picture_folder(1)
    monkeypatch.setenv("HOME", str(folder))
    ids = {library.add(form) for form in ("~/000.png", str(folder / "000.png"), folder / "." / "000.png")}
    assert len(ids) == 1
    assert library.get(Path("~/000.png")).source == str(folder / "000.png")
