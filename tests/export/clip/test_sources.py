"""Where a CLIP and its vocabulary come from: hub ids in the local cache, files, an installed package; no network."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from sayclip_export.readers.clip import read_clip
from sayclip_export.readers.clip_vocabulary import PUBLISHED, clip_vocabulary
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.hub import cache_folder, is_hub_id, snapshot

ID = "openai/clip-vit-base-patch32"
REVISION = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("something looked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def fill(cache: Path, folder: Path | None, revision: str = REVISION, main: str | None = REVISION) -> Path:
    """The cache as the hub's library leaves it: blobs, and snapshots of links to them."""
    model = cache / "models--openai--clip-vit-base-patch32"
    (model / "blobs").mkdir(parents=True, exist_ok=True)
    (model / "refs").mkdir(exist_ok=True)
    target = model / "snapshots" / revision
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir()) if folder else []):
        shutil.copy(path, model / "blobs" / str(number))
        (target / path.name).symlink_to(Path("../../blobs") / str(number))
    if main:
        (model / "refs" / "main").write_text(main)
    return target


def test_a_hub_id_is_found_in_the_cache(cache: Path, clip_master: Path) -> None:
    target = fill(cache, clip_master)
    fill(cache, None, "0" * 40)  # an older revision
    checkpoint = read_clip(ID)
    assert (checkpoint.source, checkpoint.name) == (target, "clip-vit-base-patch32")
    assert checkpoint.layout == "Hugging Face CLIPModel, model.safetensors"


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"


def test_the_only_revision_needs_no_name(cache: Path) -> None:
    target = fill(cache, None, main=None)
    assert snapshot(ID) == target


@pytest.mark.parametrize("main", [None, "../../../etc", "1" * 40, "ä"])
def test_a_revision_that_is_not_there(main: str | None, cache: Path) -> None:
    fill(cache, None, "a" * 40, main=main)
    fill(cache, None, "b" * 40, main=main)
    with pytest.raises(CheckpointError, match=r"holds 2 revisions of .*, and none of them is main"):
        snapshot(ID)


def test_a_hub_id_that_is_not_in_the_cache(cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_clip(ID)
    message = str(caught.value)
    assert str(cache) in message
    assert f"download it with `hf download {ID}`" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("source", "expected"),
    [(ID, True), ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", True), ("/a/b", False), ("a/b/c", False), ("./a", False),
     ("a/..", False), ("model", False), ("a/b--c", False), ("~/x", False), ("a /b", False), ("", False)],
)  # fmt: skip
def test_what_reads_like_a_hub_id(source: str, expected: bool) -> None:
    assert is_hub_id(source) is expected


def test_a_folder_that_is_there_comes_before_the_hub(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openai" / "clip-vit-base-patch32").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"clip-vit-base-patch32 holds no config\.json"):
        read_clip(ID)


def test_a_folder_of_loose_weights(tmp_path: Path) -> None:
    (tmp_path / "ViT-B-32.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"ViT-B-32\.pt but no config\.json: name .*ViT-B-32\.pt itself"):
        read_clip(tmp_path)


def packaged() -> Path:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name(PUBLISHED)


def test_every_form_of_the_vocabulary_is_the_same(
    clip_master: Path, clip_merges: Sequence[tuple[str, str]], transformers: Any, tmp_path: Path
) -> None:
    transformers.CLIPTokenizer.from_pretrained(clip_master).save_pretrained(tmp_path)
    (tmp_path / "plain.txt").write_bytes(gzip.decompress(packaged().read_bytes()))
    forms = (packaged(), tmp_path / "plain.txt", tmp_path / "tokenizer.json", clip_master, clip_master / "merges.txt")
    for path in (*forms, None):
        merges = clip_vocabulary(path, 49408, 77)
        assert (list(merges.pairs), merges.eot) == (list(clip_merges), 49407)
    assert merges.files == (PUBLISHED,)


def test_the_package_is_read_and_not_imported() -> None:
    code = (
        "import sys; from sayclip_export.readers.clip_vocabulary import clip_vocabulary as c;"
        "print(c(None, 49408, 77).eot, 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["49407", "False"]


@pytest.mark.parametrize("origin", [None, "/nowhere/open_clip/__init__.py"])
def test_without_the_package(origin: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("open_clip", None, origin=origin) if origin else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(CheckpointError, match=r"`pip install --no-deps open_clip_torch`.* --vocabulary$"):
        clip_vocabulary(None, 49408, 77)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file"),
        (b"", "the vocabulary has no merges"),
        (b'{"model": {"type": "Unigram"}}', "holds no byte-pair encoding"),
        (b"{", "is not JSON"),
        (b"\x1f\x8b\x08 cut", "the vocabulary is damaged"),
        (b"#version\ni n\nt h\n", "makes 516 tokens, the token table has 49408 rows"),
    ],
)
def test_vocabularies_that_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        clip_vocabulary(path, 49408, 77)
    assert message in str(caught.value)
    assert "--vocabulary" in str(caught.value) or "byte-pair" in str(caught.value) or "JSON" in str(caught.value)


def test_other_merges_of_the_same_number(clip_merges: Sequence[tuple[str, str]], tmp_path: Path) -> None:
    """Two merges changed places: as many tokens, other ids."""
    lines = [f"{a} {b}" for a, b in clip_merges]
    lines[0], lines[1] = lines[1], lines[0]
    (tmp_path / "x.txt").write_text("\n".join(["header", *lines]) + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"holds merges of sha256 .*, CLIP's own have"):
        clip_vocabulary(tmp_path / "x.txt", 49408, 77)


def test_a_vocabulary_of_its_own_for_a_folder(clip_folder: Path) -> None:
    """A Hugging Face folder that lost its tokenizer takes one that is named."""
    (clip_folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match="name a tokenizer with --vocabulary"):
        read_clip(clip_folder)
    assert read_clip(clip_folder, vocabulary=packaged()).merges.files == (PUBLISHED,)
