"""A bundle gains graphs as a whole or stays as it was, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sayclip
from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip_calibration import quantise_encoder
from sayclip_calibration.addition import (
    MARGIN,
    Addition,
    add_graphs,
    reference_cosine,
    require_writable,
    tolerance_of,
    workshop,
)

GATE = {"int8": {"passed": True, "forced": False, "mean_cosine": 0.999}}


@pytest.fixture
def bundle(tiny_bundle: Path) -> Iterator[Path]:
    """A bundle in a folder of its own; no test may leave anything beside it."""
    place = tiny_bundle.parent / "place"
    place.mkdir()
    out = place / "bundle"
    tiny_bundle.rename(out)
    yield out
    assert [path.name for path in place.iterdir() if path.name != "copy"] == ["bundle"]


@pytest.fixture
def made(tmp_path: Path, tiny_bundle_master: Path) -> Path:
    """Folder of the int8 graphs of ``speech``, and of a report."""
    folder = tmp_path / "made"
    rng = np.random.default_rng(0)
    feeds = [
        {"waveform": rng.normal(size=(1, 4000)).astype(np.float32), "length": np.array([4000], np.int32)}
        for _ in range(4)
    ]
    quantise_encoder(tiny_bundle_master / "speech.fp32.onnx", folder, "speech", feeds, gate=None)
    (folder / "speech.calibration.md").write_text("# a report\n")
    return folder


def addition(bundle: Path, **changes: Any) -> Addition:
    data = "speech.int8.data"
    graphs = {"int8": ("speech.int8.onnx", data), "int8-u8": ("speech.int8-u8.onnx", data)}
    new = Addition(
        encoder="speech",
        fp32_sha256=Manifest.read(bundle).entry("speech").graphs["fp32"].sha256,
        graphs=graphs,
        tolerance=dict.fromkeys(graphs, 0.9),
        gates=GATE,
        reports=("speech.calibration.md",),
    )
    return replace(new, **changes)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_bundle_gains_graphs_and_keeps_everything_else(bundle: Path, made: Path) -> None:
    (bundle / "NOTICE.txt").write_text("a file that no manifest knows")
    old, before = Manifest.read(bundle), content(bundle)
    new = add_graphs(addition(bundle), made, bundle, bundle)
    after = content(bundle)
    gained = {"speech.int8.onnx", "speech.int8-u8.onnx", "speech.int8.data", "speech.calibration.md"}
    assert set(after) == set(before) | gained
    assert {name: after[name] for name in before if name != "bundle.json"} == {
        name: digest for name, digest in before.items() if name != "bundle.json"
    }
    assert replace(new, encoders=old.encoders) == old
    assert {name: entry for name, entry in new.encoders.items() if name != "speech"} == {
        name: entry for name, entry in old.encoders.items() if name != "speech"
    }
    was, entry = old.entry("speech"), new.entry("speech")
    assert (entry.space, entry.provenance, entry.preprocessing) == (was.space, was.provenance, was.preprocessing)
    assert entry.graphs["int8"].inputs == was.graphs["fp32"].inputs
    assert entry.graphs["int8"].data == entry.graphs["int8-u8"].data
    assert entry.reference.tolerance == {"fp32": 1e-4, "int8": 0.9, "int8-u8": 0.9}
    assert entry.measured["gates"] == GATE
    assert entry.measured["report"] == "speech.calibration.md"
    verify_files(Manifest.read(bundle), again=True)
    with sayclip.load(bundle, precision="int8") as encoder:
        assert encoder.speech(np.random.default_rng(1).normal(size=8000).astype(np.float32) * 0.1).shape == (1, 32)


def test_a_new_bundle_leaves_the_old_one_alone(bundle: Path, made: Path) -> None:
    before, out = content(bundle), bundle.parent / "copy"
    new = add_graphs(addition(bundle), made, bundle, out)
    assert content(bundle) == before
    assert new.folder == out
    verify_files(new, again=True)
    assert (out / "image.fp32.onnx").stat().st_ino != (bundle / "image.fp32.onnx").stat().st_ino


def test_graphs_that_were_there_are_replaced_with_all_that_was_theirs(bundle: Path, made: Path) -> None:
    add_graphs(addition(bundle), made, bundle, bundle)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["encoders"]["speech"]["measured"] |= {"int8_min_cosine": 0.5, "torch_min_cosine": 0.9}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    (bundle / "speech.calibration.png").write_bytes(b"of the report before")
    made.mkdir(exist_ok=True)
    for name in ("speech.int8.onnx", "speech.int8-u8.onnx"):
        shutil.copy(bundle / "speech.fp32.onnx", made / name)  # without a file of weights
    graphs = {"int8": ("speech.int8.onnx",), "int8-u8": ("speech.int8-u8.onnx",)}
    new = add_graphs(addition(bundle, graphs=graphs, gates={"fp16": {}}, reports=()), made, bundle, bundle)
    assert not (bundle / "speech.int8.data").exists()
    assert not (bundle / "speech.calibration.png").exists()
    measured = new.entry("speech").measured
    assert "int8_min_cosine" not in measured
    assert measured["torch_min_cosine"] == 0.9
    assert measured["gates"] == {**GATE, "fp16": {}}


def test_one_form_alone_does_not_take_the_weights_of_the_other(bundle: Path, made: Path) -> None:
    """The image's two int8 forms share a file; it goes only when nothing needs it."""
    manifest = Manifest.read(bundle)
    shutil.copy(bundle / "image.fp32.onnx", made / "image.int8.onnx")
    sha256 = manifest.entry("image").graphs["fp32"].sha256
    one = {"int8": ("image.int8.onnx",)}
    new = add_graphs(Addition("image", sha256, one, {"int8": 0.9}, GATE), made, bundle, bundle)
    assert new.entry("image").graphs["int8"].data == ()
    assert (bundle / "image.int8.data").exists()
    verify_files(new, again=True)


def test_a_full_disk_leaves_the_old_bundle(bundle: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(bundle)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"cannot be written \(No space left on device\): make room"):
        add_graphs(addition(bundle), made, bundle, bundle)
    assert content(bundle) == before


def test_a_graph_that_takes_something_else_is_refused(bundle: Path, made: Path) -> None:
    before = content(bundle)
    shutil.copy(bundle / "text.fp32.onnx", made / "speech.int8.onnx")
    with pytest.raises(BundleError, match=r"speech.int8.onnx has the inputs .*token_ids.*, wanted those of fp32"):
        add_graphs(addition(bundle), made, bundle, bundle)
    assert content(bundle) == before


def test_a_bundle_that_changed_meanwhile_is_not_touched(bundle: Path, made: Path) -> None:
    before = content(bundle)
    with pytest.raises(BundleError, match=r"the fp32 graph of speech in .* changed meanwhile"):
        add_graphs(addition(bundle, fp32_sha256="0" * 64), made, bundle, bundle)
    assert content(bundle) == before


KILLED = """
import os, sys
from pathlib import Path
from sayclip_calibration import addition
from sayclip.bundle.manifest import Manifest
bundle, made, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def stop(*_, **__):
    print("now", flush=True)
    while True: pass
if moment == "copying": addition._link = stop
elif moment == "moving": os.replace = stop
else: Manifest.write = stop
data = "speech.int8.data"
new = addition.Addition("speech", Manifest.read(bundle).entry("speech").graphs["fp32"].sha256,
    {"int8": ("speech.int8.onnx", data)}, {"int8": 0.9}, {})
addition.add_graphs(new, made, bundle, bundle)
"""


@pytest.mark.parametrize("moment", ["copying", "moving", "writing"])
def test_a_kill_leaves_the_old_bundle(bundle: Path, made: Path, moment: str) -> None:
    before = content(bundle)
    command = [sys.executable, "-c", KILLED, str(bundle), str(made), moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert content(bundle) == before
    verify_files(Manifest.read(bundle), again=True)
    for left in bundle.parent.glob(".bundle.*"):  # what nobody could clear away any more
        shutil.rmtree(left)


def test_readers_never_find_half_a_bundle(bundle: Path, made: Path, tmp_path: Path) -> None:
    """While graphs come and go, whoever reads finds the old bundle or the new one."""
    keep = Path(shutil.copytree(made, tmp_path / "keep"))
    reader = "import sys; from sayclip.bundle.manifest import Manifest\nwhile True: Manifest.read(sys.argv[1])"
    command = [sys.executable, "-c", reader, str(bundle)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(1.0)
            for _ in range(20):
                shutil.copytree(keep, made, dirs_exist_ok=True)
                add_graphs(addition(bundle), made, bundle, bundle)
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("seen", "wanted", "passed", "tolerance"),
    [
        (0.9987, 0.98, True, 0.9937),
        (0.9, 0.98, True, 0.975),  # one keyword changed; sessions are held to the gate all the same
        (0.9, 0.98, False, 0.895),  # forced: to what it reaches, or it could not be used at all
        (-1.0, 0.98, False, 0.0),
        (1.0, -1.0, True, 0.995),
    ],
)
def test_sessions_are_held_to_the_gate_or_to_what_was_forced(
    seen: float, wanted: float, passed: bool, tolerance: float
) -> None:
    assert tolerance_of(seen, wanted, passed=passed) == pytest.approx(tolerance)


def test_the_reference_inputs_have_the_last_word(bundle: Path, made: Path) -> None:
    manifest = Manifest.read(bundle)
    assert reference_cosine(manifest, "speech", bundle / "speech.fp32.onnx") == pytest.approx(1.0)
    seen = reference_cosine(manifest, "speech", made / "speech.int8.onnx")
    assert 0.9 < seen < 1.0
    held: Mapping[str, float] = dict.fromkeys(("int8", "int8-u8"), tolerance_of(seen, 0.0, passed=False))
    add_graphs(addition(bundle, tolerance=held), made, bundle, bundle)
    assert held["int8"] < seen - MARGIN + 1e-9
    with sayclip.load(bundle, precision="int8") as encoder:
        encoder.open("speech")


def test_what_could_not_be_written_is_refused_before_the_work(bundle: Path) -> None:
    require_writable(bundle, bundle)
    require_writable(bundle, bundle.parent / "new" / "bundle")
    with pytest.raises(BundleError, match="exists already"):
        require_writable(bundle, bundle.parent)
    with pytest.raises(BundleError, match="lies inside the bundle"):
        require_writable(bundle, bundle / "new")


def test_a_read_only_folder_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the answer of the system, because the owner of everything may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != bundle)
    with pytest.raises(BundleError, match=r"cannot be written: name another place with --out"):
        require_writable(bundle, bundle)


def test_a_workshop_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with workshop(tmp_path / "out") as folder:
            assert folder.parent == tmp_path
            (folder / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BundleError, match="cannot be written"), workshop(tmp_path / "file" / "out"):
        pass
