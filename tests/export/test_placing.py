"""A bundle gains encoders as a whole or stays as it was, and never mixes two spaces."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sayclip
from sayclip.bundle import placing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip_export.clip_export import export_clip
from sayclip_export.placing import keep, place, require_place
from sayclip_export.readers.errors import CheckpointError


@pytest.fixture(scope="module")
def bundle_master(clip_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("placed") / "bundle"
    export_clip(clip_master, out)
    return out


@pytest.fixture
def bundle(bundle_master: Path, tmp_path: Path) -> Iterator[Path]:
    """A bundle of image and text encoders; no test may leave anything beside it."""
    out = tmp_path / "place" / "bundle"
    shutil.copytree(bundle_master, out)
    yield out
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_encoders_that_are_not_replaced_are_kept_with_their_files(bundle: Path) -> None:
    old = Manifest.read(bundle)
    with place(bundle) as (fresh, before):
        assert before is not None
        kept = keep(before, old.space, old.width, ["image"], fresh)
        assert list(kept) == ["text"]
        Manifest(name="half", space=old.space, width=old.width, encoders=kept).write(fresh)
    new = Manifest.read(bundle)
    assert list(new.encoders) == ["text"]
    assert {file.file for file in new.files()} | {"bundle.json"} == {path.name for path in bundle.iterdir()}
    with sayclip.load(bundle) as encoder:
        assert encoder.text("a cat").shape == (1, old.width)


def test_vectors_of_two_spaces_never_mix(bundle: Path) -> None:
    before = content(bundle)
    message = r"holds text of space .* gives 'clip-other' with width 48"
    with pytest.raises(BundleError, match=message), place(bundle) as (fresh, manifest):
        keep(manifest, "clip-other", 48, ["image"], fresh)
    assert content(bundle) == before


def test_a_whole_bundle_may_be_replaced_by_another_space(bundle: Path, write_clip: Callable[..., Path]) -> None:
    old = Manifest.read(bundle).space
    other = write_clip(bundle.parent.parent / "other", activation="gelu")
    export_clip(other, bundle)
    assert Manifest.read(bundle).space != old


def test_what_goes_wrong_on_the_way_leaves_the_old_bundle(bundle: Path) -> None:
    before = content(bundle)

    def half(error: BaseException) -> None:
        with place(bundle) as (fresh, _):
            (fresh / "image.fp32.onnx").write_bytes(b"half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        half(KeyboardInterrupt())
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left"):
        half(OSError(28, "No space left on device"))
    assert content(bundle) == before


def test_the_folder_one_stands_in_may_be_replaced(
    bundle: Path, clip_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    assert export_clip(clip_master, Path()).folder == bundle
    assert Manifest.read(bundle).space


@pytest.fixture
def two_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where folders cannot change places in one step."""
    monkeypatch.setattr(placing, "_exchange", lambda one, two: False)


@pytest.mark.usefixtures("two_renames")
def test_a_first_rename_that_fails_leaves_nothing_beside(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(bundle)

    def failing(self: Path, target: Any) -> Path:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(placing.Path, "rename", failing)
    with pytest.raises(CheckpointError, match="busy"), place(bundle):
        pass
    assert content(bundle) == before


@pytest.mark.usefixtures("two_renames")
def test_a_swap_that_fails_puts_the_old_bundle_back(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename = content(bundle), Path.rename

    def failing(self: Path, target: Any) -> Path:
        if (self / "new").exists():
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(placing.Path, "rename", failing)
    with pytest.raises(CheckpointError, match="Input/output error"), place(bundle) as (fresh, _):
        (fresh / "new").write_bytes(b"")
    assert content(bundle) == before


@pytest.mark.usefixtures("two_renames")
def test_without_an_exchange_two_renames_do(bundle: Path) -> None:
    with place(bundle) as (fresh, before):
        assert before is not None
        keep(before, before.space, before.width, [], fresh)
        (fresh / "new").write_bytes(b"")
        before.write(fresh)
    assert (bundle / "new").exists()


def test_the_bundle_is_never_missing_while_another_takes_its_place(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system can: nothing is renamed on the way, the two folders change places."""

    def failing(self: Path, target: Any) -> Path:
        raise AssertionError(f"{self} is renamed")

    with place(bundle) as (fresh, before):
        assert before is not None
        keep(before, before.space, before.width, [], fresh)
        before.write(fresh)
        one, two = fresh / "one", fresh / "two"
        one.mkdir()
        two.mkdir()
        if not placing._exchange(one, two):
            pytest.skip("the file system of the temporary folder cannot exchange folders")
        (fresh / "new").write_bytes(b"")
        monkeypatch.setattr(placing.Path, "rename", failing)
    assert (bundle / "new").exists()


def test_a_damaged_bundle_is_not_added_to(bundle: Path) -> None:
    graph = bundle / "text.fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"text.fp32.onnx has sha256"):
        require_place(bundle)


def test_nothing_but_a_bundle_is_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    for there in (folder, tmp_path / "link"):
        with pytest.raises(CheckpointError, match="exists already and is no bundle"):
            require_place(there)
    assert require_place(tmp_path / "nothing") is None
