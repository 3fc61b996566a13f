"""``sayclip build`` as a whole, on stubs: what it prints, what it keeps, and one clear line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.sessions.tensorrt import cache, has_engine, library

RUNTIME = Path(library.__file__).parents[3]


IMAGE = ("--encoder", "image", "--profile", "query")


def test_engines_are_built_checked_kept_and_skipped(
    backend: str, command: Any, manifest: Manifest, private_home: Path
) -> None:
    status, out, _ = command("--encoder", "image", "--workspace", "64")
    assert status == 0
    first, query, *rest = out.splitlines()
    assert first.startswith("tiny, TensorRT")
    assert "on NVIDIA Stub (sm_87)" in first
    assert query.startswith("  image          int8  query  built in ")
    assert query.endswith(" B")
    assert "1 of 1 quantised layers run in int8" in rest[0]
    assert "min cosine to the reference 0.99" in rest[1]
    assert "image          int8  index  built in " in rest[2]
    assert has_engine(manifest, "image", "int8", backend)
    about = [json.loads(entry.path.read_bytes()[len(b"stub of a plan ") :]) for entry in cache.entries()]
    assert [made["workspace"] for made in about] == [64 << 20] * 2
    assert all(made["strong"] and not made["flags"] for made in about)
    assert all(made["capabilities"] == (["CURRENT"] if backend == "tensorrt_rtx" else []) for made in about)
    before = {entry.file for entry in cache.entries()}
    status, out, _ = command("--encoder", "image")
    assert out.count("in the cache already") == 2
    assert {entry.file for entry in cache.entries()} == before
    assert sorted(path.name for path in cache.folder().iterdir()) == [".lock", backend]


def test_json(backend: str, command: Any) -> None:
    status, out, _ = command(*IMAGE, "--precision", "fp32", "--json")
    document = json.loads(out)
    (engine,) = document["engines"]
    assert (status, document["failed"], document["bundle"]) == (0, [], "tiny")
    assert (engine["encoder"], engine["precision"], engine["profile"]) == ("image", "fp32", "query")
    assert (engine["status"], engine["accurate"], engine["facts"]["asked_int8"]) == ("built", True, 0)
    assert engine["bytes"] > 0


def test_a_layer_that_is_not_int8_is_named(
    backend: str, command: Any, monkeypatch: pytest.MonkeyPatch, manifest: Manifest
) -> None:
    import onnx

    nodes = onnx.load(str(manifest.path("image.int8.onnx")), load_external_data=False).graph.node
    name = next(f"node_{index}" for index, node in enumerate(nodes) if node.op_type == "MatMul")
    monkeypatch.setenv("STUB_FP32", name)
    status, out, _ = command(*IMAGE, "--precision", "int8")
    assert status == 0
    assert "0 of 1 quantised layers run in int8" in out
    assert f"not int8 but fp32: {name}" in out


def test_auto_takes_what_is_accurate(
    gpu: Any, install: Any, command: Any, edit_manifest: Any, tiny_bundle: Path
) -> None:
    """int8 misses its tolerance, is said and not kept; fp32 is built in its place."""
    install("11.4")

    def strict(data: dict[str, Any]) -> None:
        data["encoders"]["image"]["reference"]["tolerance"]["int8"] = 1.0

    edit_manifest(strict)
    status, out, _ = command(*IMAGE, bundle=tiny_bundle)
    assert status == 0
    assert "int8  query  built in" in out
    assert "not kept: it is not accurate enough" in out
    assert "fp32  query  built in" in out
    manifest = Manifest.read(tiny_bundle)
    assert not has_engine(manifest, "image", "int8", "tensorrt")
    assert has_engine(manifest, "image", "fp32", "tensorrt")
    status, out, error = command(*IMAGE, "--precision", "int8", bundle=tiny_bundle)
    assert (status, "no engine for image" in error) == (2, True)


def test_force_builds_again_and_keeps_one(gpu: Any, install: Any, command: Any) -> None:
    install("10.3")
    command(*IMAGE, "--precision", "fp32")
    status, out, _ = command(*IMAGE, "--precision", "fp32", "--force")
    assert (status, "built in" in out) == (0, True)
    assert len(list(cache.folder().glob("*/*.plan"))) == 1


def test_only_10_3_falls_back_to_weak_typing_and_says_so(
    backend: str, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_REFUSE", "strong")
    status, out, error = command(*IMAGE, "--precision", "int8")
    if "TensorRT 10.3.0" not in out:
        assert status == 2
        assert "Could not find any implementation for node" in error
        return
    assert status == 0
    assert "weakly typed, since strongly typed it is refused" in out
    (entry,) = cache.entries()
    made = json.loads(entry.path.read_bytes()[len(b"stub of a plan ") :])
    assert (made["strong"], made["flags"]) == (False, ["INT8"])


def test_the_timing_cache_is_kept_and_a_foreign_one_left_out(gpu: Any, install: Any, command: Any) -> None:
    install("11.4")
    kept = cache.timing_cache("tensorrt", "11.4.0.106", "sm_87")
    command("--encoder", "image", "--precision", "fp32")
    assert kept.read_bytes() == b"++"
    kept.write_bytes(b"foreign")
    command("--encoder", "image", "--precision", "fp32", "--profile", "query", "--force")
    assert kept.read_bytes() == b"+"


def test_doctor_says_what_there_is(gpu: Any, install: Any, engine: Any) -> None:
    from sayclip.cli.doctor import gpu as checks

    engine(install("10.3"), "image")
    told = {check.name: (check.status, check.detail) for check in checks()}
    assert told["gpu"] == ("ok", "NVIDIA Stub, sm_87, 8.6 GB, a driver of CUDA 12.6")
    assert told["tensorrt"] == ("ok", "10.3.0")
    assert told["engines"][0] == "ok"
    assert "image fp32" in told["engines"][1]
    gpu.capability = (11, 0)
    told = {check.name: (check.status, check.detail) for check in checks()}
    assert told["engines"][0] == "note"
    assert "1 of them for another GPU, driver or TensorRT" in told["engines"][1]


def test_the_package_imports_no_library_and_the_child_no_numpy(install: Any) -> None:
    install("11.4")
    for module, never in (
        ("sayclip.sessions.tensorrt", ["tensorrt", "ctypes", "numpy"]),
        ("sayclip.sessions.tensorrt.build", ["tensorrt", "numpy", "onnxruntime"]),
    ):
        code = f"import sys, {module}; print([name for name in {never!r} if name in sys.modules])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(RUNTIME)])}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
