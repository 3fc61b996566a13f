"""The files of a bundle: which bundle is meant, hashing once, and remembering that."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

import sayclip
from sayclip.bundle.files import describe_file, sha256_of, verify_files
from sayclip.bundle.find import demo_folder, find_bundle
from sayclip.bundle.manifest import Manifest
from sayclip.bundle.memo import Memo, cache_folder, data_folder
from sayclip.errors import BundleError


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes are remembered at once, however new the file is."""
    monkeypatch.setattr("sayclip.bundle.files._SETTLED_NS", -(10**18))


@pytest.mark.parametrize("name", ["image.fp32.onnx", "image.int8.data", "tokenizer.txt", "speech.reference.npz"])
def test_a_changed_file_is_refused(name: str, tiny_bundle: Path) -> None:
    path = tiny_bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} has sha256 .*the manifest wants"):
        sayclip.load(tiny_bundle)


def test_files_are_hashed_once(tiny_bundle: Path, settled: None) -> None:
    manifest = Manifest.read(tiny_bundle)
    count = len(manifest.files())
    assert verify_files(manifest) == count
    assert verify_files(manifest) == 0
    seen: list[tuple[int, int]] = []
    assert verify_files(manifest, again=True, progress=lambda done, total: seen.append((done, total))) == count
    assert seen[-1][0] == seen[-1][1] == sum(file.bytes for file in manifest.files())

    # The same size and the same time of modification: inode and time of change still tell.
    path = tiny_bundle / "tokenizer.txt"
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"c a", b"b a"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match=r"tokenizer.txt has sha256"):
        verify_files(manifest)
    path.write_bytes(content)
    assert verify_files(manifest) == 1


def test_new_files_are_not_remembered_yet(tiny_bundle: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    (tiny_bundle / "tokenizer.txt").touch()
    verify_files(manifest)
    assert verify_files(manifest) > 0


@pytest.mark.parametrize("damage", ["garbage", "list", "folder", "wrong"])
def test_a_damaged_cache_is_no_error(damage: str, tiny_bundle: Path, settled: None, private_home: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    verify_files(manifest)
    path = private_home / "cache" / "sayclip" / "hashes.json"
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "wrong":
        path.write_text(json.dumps({key: {"sha256": "0" * 64} for key in json.loads(path.read_text())}))
    else:
        path.write_text({"garbage": "{x", "list": "[1]"}[damage])
    assert verify_files(manifest) == len(manifest.files())


def test_a_cache_that_cannot_be_written_is_no_error(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert verify_files(Manifest.read(tiny_bundle)) > 0
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None
    assert data_folder() is None
    assert verify_files(Manifest.read(tiny_bundle)) > 0


def test_memos_merge_and_forget_the_oldest() -> None:
    first, second = Memo("facts", limit=3), Memo("facts", limit=3)
    first.put({"a": {"n": 1}, "b": {"n": 2}})
    second.put({"c": {"n": 3}})
    assert Memo("facts").get("a") == {"n": 1}
    second.put({"a": {"n": 4}, "d": {"n": 5}})
    kept = Memo("facts")
    assert (kept.get("a"), kept.get("b"), kept.get("d")) == ({"n": 4}, None, {"n": 5})


def test_cache_folders_follow_the_specification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "sayclip"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert data_folder() == tmp_path / "data" / "sayclip"


def test_describing_files(tiny_bundle: Path) -> None:
    entry = describe_file(tiny_bundle, "tokenizer.txt")
    assert entry == Manifest.read(tiny_bundle).encoders["text"].preprocessing.tokenizer  # type: ignore[union-attr]
    assert sha256_of(os.devnull) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(BundleError, match="gone cannot be read"):
        describe_file(tiny_bundle, "gone")


def test_which_bundle_is_found(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sayclip_demo", None)  # as if not installed
    with pytest.raises(BundleError, match=r"pip install \./demo"):
        find_bundle()
    monkeypatch.delitem(sys.modules, "sayclip_demo")
    (tmp_path / "site" / "sayclip_demo").mkdir(parents=True)
    (tmp_path / "site" / "sayclip_demo" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(BundleError, match="holds none"):
        find_bundle()
    shutil.copytree(tiny_bundle, tmp_path / "site" / "sayclip_demo" / "bundle")
    assert demo_folder() == tmp_path / "site" / "sayclip_demo"
    assert sayclip.load().manifest.folder == tmp_path / "site" / "sayclip_demo" / "bundle"
    monkeypatch.setenv("SAYCLIP_BUNDLE", str(tiny_bundle))
    assert find_bundle() == tiny_bundle
    assert find_bundle(tmp_path) == tmp_path
    with pytest.raises(BundleError, match="is empty"):
        find_bundle("")
