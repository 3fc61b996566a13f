"""Whatever goes wrong with engines is one clear line and status 2, and the cache stays whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, BundleError
from sayclip.sessions import memory
from sayclip.sessions.tensorrt import cache, cudart, driver, has_engine, library, open_engine, unavailable

RUNTIME = Path(library.__file__).parents[3]


IMAGE = ("--encoder", "image", "--profile", "query")


def test_no_driver(command: Any, monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> None:
    """The real loader, on a name that no machine has."""
    monkeypatch.setattr(driver, "LIBRARY", "libcuda_that_is_not_there.so.1")
    monkeypatch.setattr(library, "installed", lambda name: name == "tensorrt_rtx")
    _, _, error = command()
    assert "there is no NVIDIA driver here (libcuda_that_is_not_there.so.1 is not found)" in error
    assert "or ahead of time with --target sm_86,sm_120 --out DIR" in error
    monkeypatch.setattr(library, "installed", lambda name: False)
    assert "there is no NVIDIA driver here" in command()[2]
    assert unavailable("tensorrt") == "tensorrt is not installed"
    assert not has_engine(manifest, "image", "fp32", "tensorrt")


def test_no_gpu_and_a_driver_that_does_not_work(gpu: Any, install: Any, command: Any) -> None:
    install("11.4")
    gpu.count = 0
    assert "NVIDIA's driver sees no GPU" in command()[2]
    gpu.fail["cuInit"] = 100
    assert "NVIDIA's driver sees no GPU" in command()[2]
    gpu.fail["cuInit"] = 804
    assert "NVIDIA's driver does not work (cuInit: error 804, words for 804)" in command()[2]
    assert unavailable("tensorrt") == "NVIDIA's driver does not work (cuInit: error 804, words for 804)"


def test_no_library(gpu: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "installed", lambda name: False)
    error = command("--backend", "tensorrt")[2]
    assert "TensorRT is not installed" in error
    assert "apt install python3-libnvinfer" in error
    assert "pip install 'sayclip[rtx]'" in command("--backend", "tensorrt_rtx")[2]


def test_bindings_without_their_libraries(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    (tmp_path / "tensorrt").mkdir()
    text = "raise ImportError('libnvonnxparser.so.11: cannot open shared object file')"
    (tmp_path / "tensorrt" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    error = command("--backend", "tensorrt")[2]
    assert "TensorRT is installed but cannot be imported (libnvonnxparser.so.11: cannot open shared object" in error
    assert "libnvonnxparser" in unavailable("tensorrt")


def test_no_cuda_runtime(gpu: Any, install: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install("11.4")
    asked: list[str] = []

    def open_library(path: str) -> Any:
        asked.append(path)
        raise OSError

    monkeypatch.setattr(cudart, "open_library", open_library)
    error = command()[2]
    assert "CUDA's runtime is not found (none of libcudart.so.12, libcudart.so.11.0)" in error
    assert "pip install nvidia-cuda-runtime-cu12" in error
    assert "CUDA's runtime is not found" in unavailable("tensorrt")
    assert asked[0] == "libcudart.so.12", "a runtime newer than the driver would not start"


@pytest.mark.parametrize("version", ["8.6.2", "10.2.0", "12.0.0", "", "strange"])
def test_a_wrong_tensorrt(gpu: Any, install: Any, command: Any, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install("11.4")
    import tensorrt

    monkeypatch.setattr(tensorrt, "__version__", version)
    assert "is installed, wanted 10.3 or later and below 12" in command()[2]
    assert "is installed, wanted 10.3 or later and below 12" in unavailable("tensorrt")


def test_too_little_memory_before_and_during_a_build(
    backend: str, gpu: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_MEMORY", "1")
    error = command(*IMAGE, "--precision", "fp32")[2]
    assert "ran out of memory" in error
    assert "OutOfMemory" in error
    assert "close other programs" in error
    monkeypatch.setattr(memory, "available_memory", lambda: 9)
    assert "0 MB of main memory are free, wanted at least 0 MB" in command(*IMAGE, "--precision", "fp32")[2]
    gpu.integrated, gpu.free_bytes = 0, 10
    assert "0 MB of GPU memory are free, wanted at least 0 MB" in command(*IMAGE, "--precision", "fp32")[2]
    assert gpu.retained == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "the build was killed, most likely by the system for lack of memory"),
        (signal.SIGSEGV, "the library ended the process (SIGSEGV"),
    ],
)
def test_a_child_that_dies_leaves_the_cache_whole(
    gpu: Any, install: Any, command: Any, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    install("10.3")
    command(*IMAGE, "--precision", "fp32")
    before = {entry.file for entry in cache.entries()}
    monkeypatch.setenv("STUB_DIE", str(int(number)))
    error = command(*IMAGE, "--precision", "fp32", "--force")[2]
    assert words in error
    assert {entry.file for entry in cache.entries()} == before
    assert not list(cache.folder().glob(".building-*"))
    open_engine(manifest, "image", "fp32", "tensorrt").close()


def test_a_killed_command_leaves_the_cache_whole_and_its_child_ends(
    gpu: Any, install: Any, command: Any, manifest: Manifest, tmp_path: Path, tiny_bundle_master: Path
) -> None:
    install("10.3")
    command(*IMAGE, "--precision", "fp32")
    before = {entry.file for entry in cache.entries()}
    code = """
import sys, stub_cuda
from sayclip.cli.main import main
from sayclip.sessions.tensorrt import cudart, driver
driver.load = stub_cuda.GPU.driver
cudart.open_library = lambda path: stub_cuda.GPU.runtime()
sys.exit(main(sys.argv[1:]))
"""
    told = tmp_path / "child"
    environment = {**os.environ, "STUB_WAIT": str(told)}
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(RUNTIME)])
    parent = subprocess.Popen(
        [sys.executable, "-c", code, "build", str(tiny_bundle_master), *IMAGE, "--precision", "fp32", "--force"],
        env=environment,
    )
    try:
        child = int(_wait_for(told))
    finally:
        parent.kill()
        parent.wait()
    assert _gone(child)
    assert {entry.file for entry in cache.entries()} == before
    assert list(cache.folder().glob(".building-*"))
    status, out, _ = command(*IMAGE, "--precision", "fp32")
    assert (status, "in the cache already" in out) == (0, True)
    assert not list(cache.folder().glob(".building-*"))
    open_engine(manifest, "image", "fp32", "tensorrt").close()


def _wait_for(path: Path) -> str:
    for _again in range(600):
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")


def _gone(process: int) -> bool:
    """Whether a process that nobody waits for has ended within ten seconds."""
    for _again in range(200):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_an_op_the_target_lacks_is_named_with_its_node(
    gpu: Any, install: Any, command: Any, tiny_bundle: Path, unknown_op: Callable[[Path], None]
) -> None:
    install("11.4")
    unknown_op(tiny_bundle)
    error = command(*IMAGE, "--precision", "fp32", bundle=tiny_bundle)[2]
    assert "node 'the_odd_one' (DynamicQuantizeLinear): no importer is registered for this op" in error


def test_a_damaged_or_foreign_engine(
    backend: str, gpu: Any, engine: Any, manifest: Manifest, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before the library sees it: the stub would fail on a foreign plan. Never built anew by opening."""
    with pytest.raises(BackendError, match=r"engine of 'image' is not built yet: run `sayclip build BUNDLE`"):
        open_engine(manifest, "image", "fp32", backend)
    engine(backend, "image")
    (entry,) = cache.entries()
    whole = entry.path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"?", b""):
        entry.path.write_bytes(damaged)
        assert has_engine(manifest, "image", "fp32", backend) == (len(damaged) == len(whole))
        with pytest.raises(BackendError, match=r"is damaged .*run `sayclip build BUNDLE`"):
            open_engine(manifest, "image", "fp32", backend)
    entry.path.write_bytes(whole)
    gpu.capability, gpu.name = (11, 0), "NVIDIA Thor"
    assert not has_engine(manifest, "image", "fp32", backend)
    words = r"was built for sm_87, NVIDIA Stub; here sm_110, NVIDIA Thor: run `sayclip build BUNDLE`"
    with pytest.raises(BackendError, match=words):
        open_engine(manifest, "image", "fp32", backend)
    gpu.capability, gpu.name, gpu.cuda = (8, 7), "NVIDIA Stub", 13000
    with pytest.raises(BackendError, match=r"a driver of CUDA 12.6; here a driver of CUDA 13.0"):
        open_engine(manifest, "image", "fp32", backend)
    gpu.cuda = 12060
    # A plan whose record agrees with it, and which the library refuses all the same.
    place = entry.path.with_name("other")
    place.write_bytes(b"not a plan")
    cache.store(entry.key, place, {})
    with pytest.raises(BackendError, match=r"cannot be loaded \(Serialization assertion magicTag failed\): run"):
        open_engine(manifest, "image", "fp32", backend)
    assert "built in" in command(*IMAGE, "--precision", "fp32", "--force")[1]
    open_engine(manifest, "image", "fp32", backend).close()
    if backend == "tensorrt_rtx":
        monkeypatch.setenv("STUB_INVALID", "1")
        with pytest.raises(BackendError, match="is not valid here, says the library"):
            open_engine(manifest, "image", "fp32", backend)


def test_a_damaged_engine_is_built_again_when_asked(gpu: Any, install: Any, engine: Any, command: Any) -> None:
    engine(install("10.3"), "image")
    (entry,) = cache.entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-1] + b"?")
    assert "built in" in command(*IMAGE, "--precision", "fp32")[1]


def test_another_build_is_running(gpu: Any, install: Any, command: Any) -> None:
    install("10.3")
    with cache.workshop():
        assert "another build is running" in command(*IMAGE)[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--encoder", "smell"), "has no encoder 'smell', it has image, text"),
        (("--precision", "fp16"), "encoder 'image' has no 'fp16' graph, it has fp32, int8"),
        (("--workspace", "many"), "'many' is not a number of megabytes"),
        (("--target", "sm_86"), "--target and --out belong together"),
        (("--out", "x"), "--target and --out belong together"),
        (("--profile", "both"), "invalid choice: 'both'"),
    ],
)
def test_wrong_arguments(gpu: Any, install: Any, command: Any, arguments: tuple[str, ...], words: str) -> None:
    install("11.4")
    assert words in command(*arguments)[2]


def test_tensorrt_does_not_build_ahead(install: Any, command: Any, tmp_path: Path) -> None:
    install("11.4")
    arguments = ("--backend", "tensorrt", "--target", "sm_86", "--out", str(tmp_path / "out"))
    assert "TensorRT builds for the GPU that is here only" in command(*arguments)[2]


def test_names_that_do_not_exist(gpu: Any, install: Any, manifest: Manifest) -> None:
    install("11.4")
    with pytest.raises(BundleError, match="has no 'fp16' graph"):
        open_engine(manifest, "image", "fp16", "tensorrt")
    with pytest.raises(BundleError, match="has no encoder 'smell'"):
        open_engine(manifest, "smell", "fp32", "tensorrt")
    with pytest.raises(BackendError, match="there is no TensorRT library 'trt'"):
        open_engine(manifest, "image", "fp32", "trt")
    assert not has_engine(manifest, "smell", "fp32", "tensorrt")
    assert unavailable("trt") != ""
