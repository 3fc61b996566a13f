"""``sayclip calibrate`` from the command line to the bundle: what it adds, what it refuses, and what it leaves alone.

The search for scales and layers has tests of its own; here min-max calibration stands for it.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import sayclip
from sayclip.bundle.files import verify_files
from sayclip.bundle.manifest import Manifest
from sayclip.cli.main import main
from sayclip.errors import BundleError
from sayclip_calibration import cli, quantise_encoder
from sayclip_calibration.agreement import join
from sayclip_calibration.gates import Judgement
from sayclip_calibration.session import run_as_written

OWN_CORE = cli.OwnCore
Run = Callable[..., "tuple[int, str, str]"]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "sayclip_demo"


@dataclass(frozen=True)
class Plain:
    precision: str
    judgement: Judgement
    sites: tuple[str, ...]
    skipped: dict[str, str]
    scales: dict[str, tuple[str, float, float]]
    ranked: tuple[Any, ...] = ()
    given_back: tuple[str, ...] = ()
    smoothed: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.5
    points: tuple[Any, ...] = ()
    int8_share: float = 0.9


class PlainCore:
    """Ranges by min-max, no search; an fp16 graph that is the fp32 one under another name."""

    def int8(self, fp32: Path, out: Path, name: str, calibration: Any, judged: Any, gate: Any, *rest: Any) -> Plain:
        request, progress = rest
        report = quantise_encoder(fp32, out, name, calibration, exclude=request.exclude, gate=0.999)
        progress("layers", 1, 1)
        scales = {tensor: ("minmax", seen.absmax, seen.absmax) for tensor, seen in report.ranges.items()}
        judgement = self._judged(fp32, report.files.master, judged, gate)
        ranked = report.sensitivity.ranked if report.sensitivity else ()
        skipped = dict(report.placement.skipped)
        return Plain("int8", judgement, report.placement.nodes, skipped, scales, ranked, report.given_back)

    def fp16(self, fp32: Path, out: Path, name: str, judged: Any, gate: Any, progress: Any) -> Plain:
        graph = shutil.copy(fp32, out / f"{name}.fp16.onnx")
        return Plain("fp16", self._judged(fp32, graph, judged, gate), (), {}, {})

    def _judged(self, fp32: Path, graph: Path, judged: Sequence[Any], gate: Any) -> Judgement:
        found: Judgement = gate.judge(join(run_as_written(fp32, judged, 1)), join(run_as_written(graph, judged, 1)))
        return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(bundle, …)``: status, stdout and stderr of ``sayclip calibrate``."""
    point = importlib.metadata.EntryPoint("calibrate", "sayclip_calibration.cli:add", "sayclip.commands")
    real = importlib.metadata.entry_points

    def entry_points(**chosen: str) -> Any:
        return [point] if chosen.get("group") == "sayclip.commands" else real(**chosen)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    monkeypatch.setattr(cli, "OwnCore", PlainCore)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["calibrate", *(str(argument) for argument in arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, recordings and captions that belong together, by their names."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    (folder / "speech").mkdir()
    lines = []
    for number in range(20):
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / "pictures" / f"p{number:02}.png")
        soundfile.write(folder / "speech" / f"p{number:02}.wav", rng.normal(size=4000 + 50 * number) * 0.2, 16000)
        lines.append(f"p{number:02}.png\tcaption {number} of a red cat")
    (folder / "captions.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def bundle(tiny_bundle: Path) -> Path:
    """A bundle of fp32 graphs alone."""
    path = tiny_bundle / "bundle.json"
    manifest = json.loads(path.read_text())
    for precision in ("int8", "int8-u8"):
        del manifest["encoders"]["image"]["graphs"][precision]
    path.write_text(json.dumps(manifest))
    for name in ("image.int8.onnx", "image.int8-u8.onnx", "image.int8.data"):
        (tiny_bundle / name).unlink()
    return tiny_bundle


def nothing_beside(bundle: Path) -> None:
    assert [path.name for path in bundle.parent.iterdir() if path.name.startswith(".")] == []


def test_the_demo_bundle_gains_graphs_that_the_runtime_uses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing standing in for anything."""
    monkeypatch.setattr(cli, "OwnCore", OWN_CORE)
    bundle = Path(shutil.copytree(DEMO / "bundle", tmp_path / "bundle"))
    old = Manifest.read(bundle)
    pictures = DEMO / "pictures"
    status, out, err = run(
        bundle,
        *("--images", pictures, "--text", pictures / "captions.tsv", "--samples", 8),
        *("--encoder", "image", "--encoder", "text"),
    )
    assert status == 0, err
    assert "image int8: passed; cosine mean 0.99" in out
    assert f"text: int8, int8-u8, fp16 written into {bundle}" in err
    new = Manifest.read(bundle)
    verify_files(new, again=True)
    assert new.space == old.space
    assert new.encoders["speech"] == old.encoders["speech"]
    for name in ("image", "text"):
        entry = new.entry(name)
        assert set(entry.graphs) == {"fp32", "int8", "int8-u8", "fp16"}
        gates = entry.measured["gates"]
        assert gates["int8"]["passed"] is gates["fp16"]["passed"] is True
        assert gates["int8"]["samples"] == 8
        assert "recall@1" in gates["int8"]
        assert entry.measured["report"] == f"{name}.calibration.md"
        report = json.loads((bundle / f"{name}.calibration.json").read_text())
        search = report["precisions"]["int8"]["data"]["search"]
        assert search["truth"] == "pairs"
        assert search["against"] >= 8
        assert (bundle / f"{name}.calibration.png").read_bytes().startswith(b"\x89PNG")
        assert f"# Calibration of `{name}`" in (bundle / f"{name}.calibration.md").read_text()
    with sayclip.load(bundle, precision="fp32") as exact:
        known = exact.text(["a red apple", "a dog"])
    for precision in ("int8", "int8-u8", "fp16"):
        with sayclip.load(bundle, backend="onnxruntime", precision=precision) as encoder:
            assert (encoder.text(["a red apple", "a dog"]) * known).sum(axis=1).min() > 0.98
    nothing_beside(bundle)


def test_encoders_without_inputs_are_left_as_they_are(run: Run, bundle: Path, data: Path) -> None:
    status, out, err = run(bundle, "--speech", data / "speech", "--precision", "int8")
    assert status == 0, err
    assert "image is left as it is: it needs --images DIR" in err
    assert "text is left as it is: it needs --text FILE" in err
    assert list(Manifest.read(bundle).entry("image").graphs) == ["fp32"]
    assert set(Manifest.read(bundle).entry("speech").graphs) == {"fp32", "int8", "int8-u8"}
    assert out.startswith("speech int8: passed")


def test_the_same_seed_gives_the_same_graphs_to_the_bit(run: Run, bundle: Path, data: Path, tmp_path: Path) -> None:
    before = content(bundle)
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        status, _, err = run(
            bundle, "--speech", data / "speech", "--precision", "int8", "--seed", seed, "--out", tmp_path / name
        )
        assert status == 0, err
    one, two, three = (content(tmp_path / name) for name in ("one", "two", "three"))
    graphs = ("speech.int8.onnx", "speech.int8-u8.onnx", "speech.int8.data")
    assert [one[name] for name in graphs] == [two[name] for name in graphs]
    assert one["speech.int8.onnx"] != three["speech.int8.onnx"]
    assert content(bundle) == before
    assert {name: one[name] for name in before if name != "bundle.json"} == {
        name: digest for name, digest in before.items() if name != "bundle.json"
    }


def test_what_misses_its_gate_is_not_written_and_the_rest_is(run: Run, bundle: Path, data: Path) -> None:
    """Every gate alike for both precisions: fp16 meets what int8 cannot."""
    status, out, err = run(bundle, "--speech", data / "speech", "--gate-worst", "0.999999")
    assert status == 2
    assert "speech int8: missed its gates, not written" in out
    assert "speech fp16: passed" in out
    [line] = [line for line in err.splitlines() if line.startswith("sayclip: ")]
    assert "speech int8 misses its gates and is not written (worst cosine of p" in line
    assert ".wav is 0.9" in line
    assert line.endswith("or write it all the same with --force")
    entry = Manifest.read(bundle).entry("speech")
    assert set(entry.graphs) == {"fp32", "fp16"}
    assert list(entry.measured["gates"]) == ["fp16"]
    assert list(json.loads((bundle / "speech.calibration.json").read_text())["precisions"]) == ["fp16"]
    nothing_beside(bundle)


def test_nothing_is_touched_when_nothing_passes(run: Run, bundle: Path, data: Path) -> None:
    before, inode = content(bundle), bundle.stat().st_ino
    options = ("--speech", data / "speech", "--precision", "int8", "--gate-worst", "0.999999", "--json")
    status, out, _ = run(bundle, *options)
    assert status == 2
    document = json.loads(out)
    assert document["encoders"]["speech"]["precisions"]["int8"]["written"] is False
    assert len(document["failed"]) == 1
    assert content(bundle) == before
    assert bundle.stat().st_ino == inode
    nothing_beside(bundle)


def test_what_is_forced_is_marked_and_can_be_used_by_its_name(run: Run, bundle: Path, data: Path) -> None:
    options = ("--speech", data / "speech", "--precision", "int8", "--gate-worst", "0.999999", "--force")
    status, out, err = run(bundle, *options)
    assert status == 0, err
    assert "speech int8: missed its gates, written with --force" in out
    entry = Manifest.read(bundle).entry("speech")
    assert entry.measured["gates"]["int8"]["passed"] is False
    assert entry.measured["gates"]["int8"]["forced"] is True
    assert entry.reference.tolerance["int8"] < 0.999999 - 0.005
    with sayclip.load(bundle, precision="int8") as encoder:
        encoder.open("speech")
    assert "missed its gates, written with --force" in (bundle / "speech.calibration.md").read_text()


def test_a_second_run_adds_to_the_report_of_the_first(run: Run, bundle: Path, data: Path) -> None:
    for precision in ("int8", "fp16"):
        assert run(bundle, "--speech", data / "speech", "--precision", precision)[0] == 0
    report = json.loads((bundle / "speech.calibration.json").read_text())
    assert list(report["precisions"]) == ["int8", "fp16"]
    assert set(Manifest.read(bundle).entry("speech").measured["gates"]) == {"int8", "fp16"}


def test_json_holds_everything(run: Run, bundle: Path, data: Path) -> None:
    shutil.copytree(data, bundle.parent / "data")
    (bundle.parent / "data" / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, out, err = run(
        bundle,
        *("--images", bundle.parent / "data" / "pictures", "--text", data / "captions.tsv"),
        *("--encoder", "image", "--precision", "fp16", "--json"),
    )
    assert status == 0, err
    document = json.loads(out)
    assert document["bundle"] == str(bundle)
    assert document["failed"] == []
    assert [each["name"] for each in document["left_out"]] == ["broken.png"]
    assert "broken.png" in err
    found = document["encoders"]["image"]["precisions"]["fp16"]
    assert found["passed"]
    assert found["data"]["calibration"] == found["data"]["judged"] == 10
    assert found["data"]["search"] == {"role": "gallery", "truth": "pairs", "against": 10}
    assert found["mean_cosine"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing in tiny can be calibrated: image needs --images DIR; text needs --text FILE"),
        (("--encoder", "nose"), "bundle tiny has no encoder 'nose', it has image, text, pronunciation, speech"),
        (("--encoder", "speech", "--images", "pictures"), "speech cannot be calibrated: it needs --speech DIR"),
        (("--images", "nowhere"), "nowhere does not exist"),
        (("--text", "pictures"), "cannot be read (Is a directory)"),
        (("--images", "pictures", "--out", "pictures"), "pictures exists already"),
        (("--images", "pictures", "--gate-mean", "2"), "the gate mean is 2.0, wanted -1 to 1"),
        (("--images", "pictures", "--gate-worst", "nan"), "the gate worst is nan, wanted -1 to 1"),
        (("--precision", "int4"), "'int4' is not of int8, fp16"),
        (("--precision", ""), "'' is not of int8, fp16"),
        (("--samples", "3"), "'3' is no whole number from 4"),
        (("--seed", "-1"), "'-1' is no whole number from 0"),
        (("--scales", "guess"), "invalid choice: 'guess'"),
        (("--crosscheck", "other"), "invalid choice: 'other'"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    run: Run, bundle: Path, data: Path, options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    before = content(bundle)
    status, out, err = run(bundle, *options)
    assert status == 2
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert content(bundle) == before
    nothing_beside(bundle)


@pytest.mark.parametrize(
    ("place", "message"), [("nowhere", "does not exist"), (".", "holds no bundle.json"), ("bundle", "has sha256")]
)
def test_what_is_no_bundle_or_a_damaged_one_is_refused(
    run: Run, bundle: Path, data: Path, place: str, message: str
) -> None:
    graph = bundle / "image.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    status, _, err = run(bundle.parent / place, "--images", data / "pictures")
    assert status == 2
    assert message in err


def test_a_bundle_without_fp32_graphs_has_nothing_to_start_from(
    run: Run, tiny_bundle: Path, data: Path, edit_manifest: Callable[..., Path]
) -> None:
    edit_manifest(lambda manifest: manifest["encoders"]["image"]["graphs"].pop("fp32"))
    status, _, err = run(tiny_bundle, "--images", data / "pictures")
    assert status == 2
    assert "image has no fp32 graph to start from" in err
    status, _, err = run(tiny_bundle, "--images", data / "pictures", "--speech", data / "speech", "--precision", "fp16")
    assert status == 0, err
    assert "image is left as it is: it has no fp32 graph to start from" in err


def test_too_few_inputs_are_refused(run: Run, bundle: Path, data: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((data / "pictures").iterdir())[:6]:
        shutil.copy(path, few)
    (few / "empty.png").write_bytes(b"")
    status, _, err = run(bundle, "--images", few)
    assert status == 2
    assert "--images gives 6 usable inputs of 7, 1 left out, wanted at least 8" in err
    assert "empty.png is empty (0 bytes)" in err


def test_a_read_only_folder_is_refused_before_the_work(
    run: Run, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != bundle)
    monkeypatch.setattr(PlainCore, "int8", lambda *_: pytest.fail("calibrated all the same"))
    status, _, err = run(bundle, "--images", data / "pictures")
    assert status == 2
    assert "cannot be written: name another place with --out" in err


def test_a_full_disk_is_one_line_and_leaves_the_bundle(
    run: Run, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(bundle)

    def full(*_: Any) -> Plain:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "image.int8.data")

    monkeypatch.setattr(PlainCore, "int8", full)
    status, _, err = run(bundle, "--images", data / "pictures")
    assert status == 2
    assert err.splitlines()[-1] == (
        "sayclip: No space left on device image.int8.data: make room, or name another place"
    )
    assert content(bundle) == before
    nothing_beside(bundle)


def test_an_interruption_keeps_the_encoders_that_were_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(DEMO / "bundle", tmp_path / "bundle"))
    before, real = content(bundle), PlainCore.int8

    def interrupted(self: PlainCore, fp32: Path, out: Path, name: str, *rest: Any) -> Plain:
        report = real(self, fp32, out, name, *rest)
        if name == "text":
            raise KeyboardInterrupt
        return report

    monkeypatch.setattr(PlainCore, "int8", interrupted)
    pictures = DEMO / "pictures"
    status, _, err = run(
        bundle,
        *("--images", pictures, "--text", pictures / "captions.tsv", "--precision", "int8", "--samples", 8),
        *("--encoder", "image", "--encoder", "text"),
    )
    assert status == 130
    assert "interrupted" in err
    manifest = Manifest.read(bundle)
    verify_files(manifest, again=True)
    after = content(bundle)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name.split(".")[0] for name in changed} == {"image", "bundle"}
    assert "report" in manifest.entry("image").measured
    assert "report" not in manifest.entry("text").measured
    nothing_beside(bundle)


def test_a_graph_that_cannot_be_made_does_not_stop_the_others(
    run: Run, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: PlainCore, fp32: Path, out: Path, name: str, *rest: Any) -> Plain:
        raise BundleError(f"{name} has an op that nobody knows", "export it again")

    monkeypatch.setattr(PlainCore, "fp16", refused)
    status, _, err = run(bundle, "--speech", data / "speech")
    assert status == 2
    assert "sayclip: speech fp16: speech has an op that nobody knows: export it again" in err
    assert set(Manifest.read(bundle).entry("speech").graphs) == {"fp32", "int8", "int8-u8"}


def test_without_modelopt_the_cross_check_is_refused_before_the_work(
    run: Run, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAYCLIP_MODELOPT_PYTHON", str(tmp_path / "nowhere"))
    monkeypatch.setattr(PlainCore, "int8", lambda *_: pytest.fail("calibrated all the same"))
    status, _, err = run(bundle, "--images", data / "pictures", "--crosscheck", "modelopt")
    assert status == 2
    assert "the cross-check needs nvidia-modelopt" in err
    assert "pip install 'sayclip-toolkit[modelopt]'" in err


def test_a_cross_check_that_fails_later_costs_only_its_figures(
    run: Run, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ -z "$3" ] && exit 0\necho "RuntimeError: no such op" >&2; exit 1\n')
    python.chmod(0o755)
    monkeypatch.setenv("SAYCLIP_MODELOPT_PYTHON", str(python))
    status, _, err = run(bundle, "--speech", data / "speech", "--precision", "int8", "--crosscheck", "modelopt")
    assert status == 2
    assert "speech cross-check: nvidia-modelopt ends with status 1 for speech.fp32.onnx (RuntimeError: no such" in err
    assert "int8" in Manifest.read(bundle).entry("speech").graphs


def test_a_link_to_a_bundle_stays_a_link(run: Run, bundle: Path, data: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundle)
    assert run(link, "--speech", data / "speech", "--precision", "int8")[0] == 0
    assert link.is_symlink()
    assert "int8" in Manifest.read(link).entry("speech").graphs
