"""A make-believe GPU and a stub of the library, for this process and for the children that build."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.cli.main import main

STUBS = Path(__file__).parent / "stubs"
FOLDERS = {"10.3": "v10_3", "11.4": "v11_4", "rtx": "rtx"}
BACKEND = {"10.3": "tensorrt", "11.4": "tensorrt", "rtx": "tensorrt_rtx"}
# What a child process of this test run must still find, such as ONNX Runtime in a folder of its own.
sys.path.append(str(STUBS))


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("tensorrt", "tensorrt_rtx")]:
        del sys.modules[name]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stub of the device, behind the runtime's driver and cudart modules."""
    import stub_cuda

    from sayclip.sessions.tensorrt import cudart, driver

    made = stub_cuda.reset()
    monkeypatch.setattr(driver, "load", made.driver)
    monkeypatch.setattr(cudart, "open_library", lambda path: made.runtime())
    return made


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """``install("10.3")`` puts that stub where imports find it, here and in children; returns the backend's name."""

    def put(which: str) -> str:
        _forget()
        folder = str(STUBS / FOLDERS[which])
        monkeypatch.setattr(sys, "path", [folder, *(path for path in sys.path if not path.startswith(f"{STUBS}/"))])
        inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        inherited = [path for path in inherited if not path.startswith(str(STUBS))]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, str(STUBS), *inherited]))
        importlib.invalidate_caches()
        return BACKEND[which]

    yield put
    _forget()


@pytest.fixture(params=list(FOLDERS))
def backend(request: pytest.FixtureRequest, gpu: Any, install: Callable[[str], str]) -> str:
    """Each of the three stubs in turn, with a GPU to go with it."""
    return install(request.param)


@pytest.fixture
def manifest(tiny_bundle_master: Path) -> Manifest:
    return Manifest.read(tiny_bundle_master)


@pytest.fixture
def build(manifest: Manifest) -> Callable[..., dict[str, Any]]:
    """``build(backend, encoder, precision, plan)``: one engine into the cache, by the runtime's own builder."""
    from sayclip.sessions.tensorrt.building import Builder

    def make(backend: str, encoder: str, precision: str, plan: str = "query", **how: Any) -> dict[str, Any]:
        with Builder(manifest, backend, **how) as builder:
            return builder.build(encoder, precision, plan)

    return make


@pytest.fixture
def engine(
    build: Callable[..., dict[str, Any]], gpu: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., None]:
    """As ``build``, for tests that begin with an engine: each is built once in a run and then copied."""
    from sayclip.sessions.tensorrt import cache

    def put(backend: str, encoder: str, precision: str = "fp32", *plans: str) -> None:
        version = importlib.import_module(backend).__version__
        for plan in plans or ("query",):
            there = cache.folder() / backend
            kept = _BUILT.get((version, encoder, precision, plan))
            if kept is None:
                before = set(there.glob("*"))
                build(backend, encoder, precision, plan)
                kept = _BUILT[version, encoder, precision, plan] = tmp_path_factory.mktemp("engine")
                for path in set(there.glob("*")) - before:
                    shutil.copy(path, kept)
            else:
                shutil.copytree(kept, there, dirs_exist_ok=True)
        gpu.calls.clear()

    return put


_BUILT: dict[tuple[str, str, str, str], Path] = {}


@pytest.fixture
def unknown_op() -> Callable[[Path], None]:
    """``unknown_op(bundle)`` puts a node that TensorRT does not take in front of the fp32 picture graph."""

    def change(bundle: Path) -> None:
        import onnx
        from onnx import helper

        from sayclip.bundle.files import describe_file

        path = bundle / "image.fp32.onnx"
        model = onnx.load(str(path))
        for node in model.graph.node:
            node.input[:] = ["float_pixels" if name == "pixels" else name for name in node.input]
        names = ["odd", "odd_scale", "odd_zero"]
        odd = helper.make_node("DynamicQuantizeLinear", ["pixels"], names, name="the_odd_one")
        back = helper.make_node("DequantizeLinear", names, ["float_pixels"], name="back")
        nodes = [odd, back, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        data = json.loads((bundle / "bundle.json").read_text())
        data["encoders"]["image"]["graphs"]["fp32"].update(describe_file(bundle, path.name).to_dict())
        (bundle / "bundle.json").write_text(json.dumps(data))

    return change


@pytest.fixture
def command(tiny_bundle_master: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``command("--encoder", "image")``: status, stdout and stderr of `sayclip build`; errors are one line."""

    def run(*arguments: str, bundle: Path = tiny_bundle_master) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["build", str(bundle), *arguments])
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        assert error.count("\n") <= 1, error
        assert (status == 2) == bool(error), (status, error)
        return status, out, error

    return run
