"""The manifest of a bundle: reading and writing it, refusing bad ones."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sayclip
from sayclip.bundle.entries import AudioPreprocessing, PhonemePreprocessing, PicturePreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError

Change = Callable[[dict[str, Any]], object]
Edit = Callable[[Change], Path]


def image(data: dict[str, Any]) -> dict[str, Any]:
    return data["encoders"]["image"]


def test_what_was_written_is_read(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    assert set(manifest.encoders) == {"image", "text", "pronunciation", "speech"}
    assert manifest.encoders["image"].preprocessing == PicturePreprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert isinstance(manifest.encoders["speech"].preprocessing, AudioPreprocessing)
    phonemes = manifest.encoders["pronunciation"].preprocessing
    assert isinstance(phonemes, PhonemePreprocessing)
    assert (phonemes.g2p.name, phonemes.g2p.language) == ("espeak-ng", "en-us")
    u8 = manifest.encoders["image"].graphs["int8-u8"]
    assert [file.file for file in u8.data] == ["image.int8.data"]
    assert u8.inputs[0].shape == ("batch", 3, 16, 16)

    assert Manifest.from_dict(manifest.to_dict()) == manifest
    copied = shutil.copytree(tiny_bundle, tmp_path / "copy")
    (copied / "bundle.json").unlink()
    manifest.write(copied)
    assert Manifest.read(copied) == manifest
    assert oct((copied / "bundle.json").stat().st_mode & 0o777) == "0o644"


def test_unknown_keys_are_ignored(edit_manifest: Edit) -> None:
    def add(data: dict[str, Any]) -> None:
        data["later"] = {"x": 1}
        image(data)["later"] = [1]
        image(data)["graphs"]["fp32"]["later"] = None

    assert Manifest.read(edit_manifest(add)).name == "tiny"


def setting(path: str, value: Any) -> Change:
    """A change that sets ``encoders.image.width``-like paths; list positions are numbers."""

    def change(data: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        target: Any = data
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value

    return change


GRAPH = "encoders/image/graphs/fp32"
PICTURE = "encoders/image/preprocessing"
BAD = {
    "newer schema": (setting("schema", 2), "made by a newer sayclip.*upgrade"),
    "older schema": (setting("schema", 0), "unknown schema 0, wanted 1"),
    "schema as text": (setting("schema", "1"), "schema is '1', wanted an integer"),
    "schema true": (setting("schema", True), "schema is True, wanted an integer"),
    "no schema": (setting("schema", ...), "has no 'schema'"),
    "no name": (setting("name", ...), "has no 'name'"),
    "empty name": (setting("name", ""), "name is ''"),
    "name with an escape": (setting("name", "a\x1b[2J"), "wanted a string of one line"),
    "notice of two lines": (setting("notice", "a\nb"), "wanted a string of one line"),
    "space with a path": (setting("space", "../x"), "space is '../x'"),
    "width as text": (setting("width", "32"), "width is '32', wanted an integer"),
    "width zero": (setting("width", 0), "width is 0, wanted an integer from 1"),
    "width of a fraction": (setting("width", 32.5), "width is 32.5"),
    "no encoders": (setting("encoders", {}), "wanted at least one encoder"),
    "encoders a list": (setting("encoders", []), "encoders is \\[\\], wanted an object"),
    "encoder of another space": (setting("encoders/text/space", "other"), "encoders.text is of space 'other'"),
    "encoder of another width": (setting("encoders/text/width", 31), "width 31, wanted the bundle's"),
    "encoder a number": (setting("encoders/text", 3), "encoders.text is 3, wanted an object"),
    "no graphs": (setting("encoders/image/graphs", {}), "graphs has the precisions"),
    "precision with a path": (setting("encoders/image/graphs", {"../a": {}}), "graphs has the precisions"),
    "kind of another encoder": (setting(f"{PICTURE}/kind", "audio"), "kind is 'audio', wanted one of picture"),
    "unknown kind": (setting(f"{PICTURE}/kind", "smell"), "kind is 'smell'"),
    "size of nothing": (setting(f"{PICTURE}/size", 0), "size is 0"),
    "two means": (setting(f"{PICTURE}/mean", [0.5, 0.5]), "mean is .*wanted a list of 3"),
    "std of zero": (setting(f"{PICTURE}/std", [0.5, 0, 0.5]), "std is"),
    "mean as text": (setting(f"{PICTURE}/mean", ["0.5"] * 3), "mean is"),
    "mean beyond floats": (setting(f"{PICTURE}/mean", [10**400, 0, 0]), "mean is"),
    "unknown resampling": (setting(f"{PICTURE}/resample", "magic"), "resample is 'magic'"),
    "rate too low": (setting("encoders/speech/preprocessing/sample_rate", 1), "sample_rate is 1"),
    "longest below shortest": (setting("encoders/speech/preprocessing/max_seconds", 0.01), "more than min_seconds"),
    "bucket of nothing": (setting("encoders/speech/preprocessing/buckets", [0]), "buckets is"),
    "context too short": (setting("encoders/text/preprocessing/context", 2), "context is 2"),
    "no tokenizer": (setting("encoders/text/preprocessing/tokenizer", ...), "has no 'tokenizer'"),
    "no g2p": (setting("encoders/pronunciation/preprocessing/g2p", None), "g2p is None"),
    "sha256 too short": (setting(f"{GRAPH}/sha256", "ab"), "sha256 is 'ab'"),
    "sha256 in capitals": (setting(f"{GRAPH}/sha256", "A" * 64), "sha256 is"),
    "negative bytes": (setting(f"{GRAPH}/bytes", -1), "bytes is -1"),
    "another size": (setting(f"{GRAPH}/bytes", 7), "has 6446 bytes, the manifest wants 7"),
    "missing graph": (setting(f"{GRAPH}/file", "gone.onnx"), "gone.onnx is missing"),
    "file is the folder": (setting(f"{GRAPH}/file", "."), "stays inside the bundle"),
    "path upwards": (setting(f"{GRAPH}/file", "../image.fp32.onnx"), "stays inside the bundle"),
    "path upwards, hidden": (setting(f"{GRAPH}/file", "a/../../b"), "stays inside the bundle"),
    "absolute path": (setting(f"{GRAPH}/file", "/etc/passwd"), "stays inside the bundle"),
    "path of Windows": (setting(f"{GRAPH}/file", "C:\\x"), "stays inside the bundle"),
    "path with NUL": (setting(f"{GRAPH}/file", "a\0b"), "wanted a string of one line"),
    "file an object": (setting(f"{GRAPH}/file", {}), "file is {}"),
    "data file upwards": (
        setting("encoders/image/graphs/int8/data/0/file", "../w"),
        "graphs.int8.data\\[0\\].file is '../w'",
    ),
    "no inputs": (setting(f"{GRAPH}/inputs", []), "inputs has the names \\[\\]"),
    "input twice": (
        lambda data: image(data)["graphs"]["fp32"]["inputs"].append(image(data)["graphs"]["fp32"]["inputs"][0]),
        "each once",
    ),
    "unknown dtype": (setting(f"{GRAPH}/inputs/0/dtype", "object"), "dtype is 'object'"),
    "negative dimension": (setting(f"{GRAPH}/inputs/0/shape", [-1]), "shape is \\[-1\\]"),
    "no tolerance": (setting("encoders/image/reference/tolerance", {"fp32": 1e-4}), "tolerance has no 'int8'"),
    "tolerance as text": (setting("encoders/image/reference/tolerance/fp32", "small"), "fp32 is 'small'"),
    "one file with two hashes": (setting("encoders/image/graphs/int8/data/0/sha256", "0" * 64), "names .* twice"),
    "measured a list": (setting("encoders/image/measured", [1]), "measured is \\[1\\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_manifests_are_refused(case: str, edit_manifest: Edit) -> None:
    change, message = BAD[case]
    folder = edit_manifest(change)
    with pytest.raises(BundleError, match=message) as caught:
        sayclip.load(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


BROKEN_TEXT = {
    "empty": (b"", "not valid JSON"),
    "truncated": (None, "not valid JSON"),
    "a list": (b"[]", "is \\[\\], wanted an object"),
    "not a number": (b'{"schema": 1, "width": NaN}', "holds NaN"),
    "infinity": (b'{"schema": 1, "width": -Infinity}', "holds -Infinity"),
    "beyond floats": (b'{"schema": 1, "measured": 1e999}', "holds 1e999"),
    "a name twice": (b'{"schema": 1, "schema": 1}', "the name 'schema' twice"),
    "nested too deeply": (b"[" * 200_000, "nested too deeply|not valid JSON"),
    "a number too long": (b'{"schema": ' + b"1" * 10_000 + b"}", "number too long|wanted an integer|newer"),
    "not UTF-8": (b'{"name": "\xff"}', "not UTF-8"),
}


@pytest.mark.parametrize("case", BROKEN_TEXT)
def test_broken_json_is_refused(case: str, tiny_bundle: Path) -> None:
    path = tiny_bundle / "bundle.json"
    text, message = BROKEN_TEXT[case]
    path.write_bytes(path.read_bytes()[:700] if text is None else text)
    with pytest.raises(BundleError, match=message) as caught:
        Manifest.read(tiny_bundle)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        sayclip.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"holds no bundle.json"):
        sayclip.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        sayclip.load(tmp_path / "file")
    (tmp_path / "bundle.json").mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        sayclip.load(tmp_path)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_that_lead_out_are_refused(kind: str, tiny_bundle: Path, tmp_path: Path, edit_manifest: Edit) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(tiny_bundle / "image.fp32.onnx", outside / "image.fp32.onnx")
    if kind == "file":
        (tiny_bundle / "image.fp32.onnx").symlink_to(outside / "image.fp32.onnx")
    else:
        (tiny_bundle / "sub").symlink_to(outside)
        edit_manifest(setting(f"{GRAPH}/file", "sub/image.fp32.onnx"))
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Manifest.read(tiny_bundle)


def test_links_inside_and_folders_are_told_apart(tiny_bundle: Path, tmp_path: Path) -> None:
    os.rename(tiny_bundle / "image.fp32.onnx", tiny_bundle / "real.onnx")
    (tiny_bundle / "image.fp32.onnx").symlink_to("real.onnx")
    (tmp_path / "link").symlink_to(tiny_bundle)
    assert Manifest.read(tmp_path / "link").name == "tiny"
    (tiny_bundle / "image.fp32.onnx").unlink()
    (tiny_bundle / "image.fp32.onnx").mkdir()
    with pytest.raises(BundleError, match="not a regular file"):
        Manifest.read(tiny_bundle)
    (tiny_bundle / "image.fp32.onnx").rmdir()
    (tiny_bundle / "image.fp32.onnx").symlink_to("image.fp32.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        Manifest.read(tiny_bundle)


@pytest.fixture(scope="module")
def tiny_manifest(tiny_bundle_master: Path) -> dict[str, Any]:
    return json.loads((tiny_bundle_master / "bundle.json").read_text(encoding="utf-8"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_any_value_anywhere_is_read_or_refused(tiny_manifest: dict[str, Any], data: st.DataObject, value: Any) -> None:
    """Whatever stands at whatever place, reading ends in a manifest or in a BundleError."""
    changed = copy.deepcopy(tiny_manifest)
    target: Any = changed
    while True:
        keys = list(range(len(target))) if isinstance(target, list) else list(target)
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], (dict, list)) or not target[key] or data.draw(st.booleans()):
            break
        target = target[key]
    target[key] = value
    message, manifest = "", None
    try:
        manifest = Manifest.from_dict(changed)
    except BundleError as error:
        message = str(error)
    assert "\n" not in message
    if manifest is not None:
        assert Manifest.from_dict(manifest.to_dict()) == manifest


@pytest.mark.parametrize(
    ("samples", "padded"),
    [
        (1, 500), (1600, 2000), (8000, 8000), (8001, 9000), (16000, 16000), (16001, 18000), (48000, 48000),
        (48001, 52000), (102_400, 104_000), (160_000, 160_000), (319_999, 320_000), (320_001, 320_001),
    ],
)  # fmt: skip
def test_recordings_are_padded_to_steps_that_grow_with_them(samples: int, padded: int) -> None:
    assert AudioPreprocessing().padded(samples) == padded


@given(st.integers(1, 400_000), st.floats(1.0, 30.0), st.sampled_from([4000, 16000, 44100]))
def test_padding_adds_an_eighth_at_most(samples: int, longest: float, rate: int) -> None:
    how = AudioPreprocessing(sample_rate=rate, max_seconds=longest)
    padded = how.padded(samples)
    assert samples <= padded <= max(samples, round(longest * rate))
    assert padded < samples + max(samples / 8, rate / 32) + 1
    assert how.padded(padded) == padded or padded == round(longest * rate)


def test_a_bucket_goes_before_the_steps() -> None:
    how = AudioPreprocessing(buckets=(1.0, 5.0))
    assert [how.padded(samples) for samples in (1, 16000, 16001, 80_000, 80_001)] == [
        16000,
        16000,
        80_000,
        80_000,
        88_000,
    ]


def test_writing_refuses_what_reading_would(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    with pytest.raises(BundleError, match="space is ''"):
        dataclasses.replace(manifest, space="").write(tmp_path)
    entry = dataclasses.replace(manifest.encoders["image"], measured={"recall": float("nan")})
    with pytest.raises(BundleError, match="cannot be written as JSON"):
        dataclasses.replace(manifest, encoders={"image": entry}).write(tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        manifest.write(tmp_path / "taken")
    assert not (tmp_path / "bundle.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
