"""``sayclip info`` and ``sayclip doctor``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sayclip.bundle.files import sha256_of
from sayclip.cli import doctor
from sayclip.sessions import cpu
from sayclip.sessions.contest import Contest

Run = Callable[..., "tuple[int, str, str]"]
NOTICE = "a bundle of random weights, for tests"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86 machine with ONNX Runtime and no other backend."""
    monkeypatch.setattr("sayclip.sessions.cpu.platform.machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("alone")
def test_info(run: Run, bundle: Path) -> None:
    status, out, err = run("info", "--verify")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"tiny  {bundle}"
    assert lines[1] == NOTICE
    assert lines[2].startswith("space tiny-0123456789ab, width 32, ")
    [used] = [line for line in lines if line.startswith("  image ")]
    assert re.match(
        r"  image +onnxruntime (fp32|int8-u8), \d threads?: p50 [\d.]+ ms, p90 [\d.]+ ms, cosine [01]\.", used
    )
    [other] = [line for line in lines if " not onnxruntime " in line]
    assert re.search(r"(fp32|int8-u8): (slower|as fast|one run).*; p50 [\d.]+ ms, p90 [\d.]+ ms, cosine", other)
    assert lines[-1] == "verified 13 files"
    document = json.loads(run("info", bundle, "--json")[1])
    first, second = document["encoders"]["image"]["attempts"]
    assert {first["precision"], second["precision"]} == {"int8-u8", "fp32"}
    assert (first["used"], second["used"]) == (True, False)
    assert first["precision"] == document["encoders"]["image"]["precision"]
    assert first["p50_ms"] <= first["p90_ms"]
    assert (first["ratio"], second["ratio"]) == (1.0, pytest.approx(second["p90_ms"] / first["p90_ms"], abs=0.01))
    assert document["verified_files"] is None


@pytest.mark.usefixtures("alone")
def test_info_measures_again(run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run("info", "--json")[1]) == json.loads(run("info", "--json")[1])
    held: list[object] = []
    original = Contest.hold
    monkeypatch.setattr(Contest, "hold", lambda self: (held.append(self), original(self))[1])
    run("info")
    assert held == []
    assert run("info", "--measure")[0] == 0
    assert len(held) == 1  # the others have one graph and one backend


def test_info_tells_of_gates(run: Run, edit_manifest: Callable[..., Path]) -> None:
    gates = {"int8": {"passed": False, "forced": True}, "fp16": {"passed": True}}
    out = run("info", edit_manifest(lambda data: data["encoders"]["image"].update(measured={"gates": gates})))[1]
    assert "measured: gates int8 missed fp16 passed" in out
    assert "not auto int8: it missed its gates when it was calibrated" in out
    [used] = [line for line in out.splitlines() if line.startswith("  image ")]
    assert " fp32" in used


@pytest.mark.usefixtures("alone")
def test_info_says_why_something_was_passed_over(run: Run, tiny_bundle: Path) -> None:
    path = tiny_bundle / "bundle.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["encoders"]["image"]["reference"]["tolerance"]["int8-u8"] = 0.99999
    path.write_text(json.dumps(data))
    out = run("info", tiny_bundle)[1]
    assert "  image          onnxruntime fp32, " in out
    assert "not onnxruntime int8-u8: the int8-u8 graph of 'image' is not accurate on onnxruntime here" in out
    out = run("doctor", "--bundle", tiny_bundle)[1]
    [line] = [line for line in out.splitlines() if " image int8-u8 " in line]
    assert line.startswith("bad" if cpu.has_vnni() else "note")


def test_info_of_a_graph_that_cannot_run(run: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    status, out, _ = run("info", tiny_bundle)
    assert status == 0
    assert out.count("cannot run here: nothing here can run") == 4
    assert out.count("(ONNX Runtime cannot be imported") == 4
    assert "sayclip[cpu]" in out


def test_verify_hashes_again(run: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sayclip.bundle.files._SETTLED_NS", -(10**18))
    assert run("info", tiny_bundle)[0] == 0
    hashed: list[object] = []
    monkeypatch.setattr("sayclip.bundle.files.sha256_of", lambda path: (hashed.append(path), sha256_of(path))[1])
    assert run("info", tiny_bundle)[0] == 0
    assert hashed == []
    assert run("info", "--verify", tiny_bundle)[0] == 0
    assert len(hashed) == 13


def test_a_healthy_doctor(run: Run, bundle: Path) -> None:
    status, out, _ = run("doctor", "--json")
    document = json.loads(out)
    checks = {check["name"]: check for check in document["checks"]}
    assert (status, document["ok"]) == (0, True)
    assert {"numpy", "pillow", "soundfile", "soxr", "onnxruntime", "processor", "threads", "cache"} <= set(checks)
    assert checks["backends"]["detail"].startswith("onnxruntime")
    for graph in ("image fp32", "image int8", "image int8-u8", "text fp32", "pronunciation fp32", "speech fp32"):
        assert "to the reference" in checks[graph]["detail"]
    status, out, _ = run("doctor")
    assert (status, out.splitlines()[-1]) == (0, "all is well")


def test_doctor_tells_of_openvino(run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.name: check for check in doctor.packages()}
    if checks["openvino"].status == doctor.OK:
        there = checks["backends"].detail.partition("; not onnxruntime-cuda (")[0].split(", ")
        assert there in (["onnxruntime", "openvino"], ["onnxruntime", "openvino", "openvino-bf16"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    checks = {check.name: check for check in doctor.packages()}
    assert (checks["openvino"].status, checks["backends"].status) == (doctor.NOTE, doctor.OK)
    assert "pip install 'sayclip[openvino]'" in checks["openvino"].remedy
    assert "openvino (OpenVINO cannot be imported" in checks["backends"].detail
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("sayclip.sessions.tensorrt.unavailable", lambda backend: "not here")
    assert {check.name: check for check in doctor.packages()}["backends"].status == doctor.BAD


def test_two_onnxruntimes_are_refused(run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: "1.0" if name == "onnxruntime-gpu" else installed(name))
    status, out, _ = run("doctor")
    assert status == 2
    assert "onnxruntime and onnxruntime-gpu are both installed" in out
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in out
    assert out.splitlines()[-1].startswith("something has to be mended")


def test_doctor_of_an_ill_bundle(run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    monkeypatch.setitem(sys.modules, "usearch", None)
    status, out, _ = run("doctor", "--bundle", tiny_bundle)  # what is optional does no harm
    assert status == 0
    assert "note  cache" in out
    assert "note  usearch" in out
    monkeypatch.setitem(sys.modules, "soxr", None)
    status, out, _ = run("doctor", "--bundle", tiny_bundle)
    assert (status, "bad   soxr" in out) == (2, True)
    monkeypatch.delitem(sys.modules, "soxr")
    content = (tiny_bundle / "text.fp32.onnx").read_bytes()
    (tiny_bundle / "text.fp32.onnx").write_bytes(content[:-1] + b"\0")
    status, out, _ = run("doctor", "--bundle", tiny_bundle)
    assert (status, "bad   bundle" in out) == (2, True)
    assert run("doctor", "--bundle", tmp_path / "gone")[0] == 2
