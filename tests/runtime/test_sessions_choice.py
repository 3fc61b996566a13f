"""Which backend and precision runs an encoder, and the check against the reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, BundleError
from sayclip.sessions import cpu
from sayclip.sessions.choose import Request, candidates, open_graph, open_session
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.reference import compare, read_reference

PIXELS = (3, 16, 16)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, *PIXELS)).astype(np.float32)


def replace_file(bundle: Path, encoder: str, precision: str, content: bytes) -> Manifest:
    """Another graph under the same name, with a manifest that knows it."""
    manifest = Manifest.read(bundle)
    entry = manifest.encoders[encoder]
    graph = entry.graphs[precision]
    (bundle / graph.file).write_bytes(content)
    new = describe_file(bundle, graph.file)
    graph = dataclasses.replace(graph, sha256=new.sha256, bytes=new.bytes)
    entry = dataclasses.replace(entry, graphs={**entry.graphs, precision: graph})
    dataclasses.replace(manifest, encoders={**manifest.encoders, encoder: entry}).write(bundle)
    return Manifest.read(bundle)


@pytest.fixture
def spoilt(tiny_bundle: Path) -> Manifest:
    """The tiny bundle with an int8-u8 graph that loses every negative activation."""
    content = (tiny_bundle / "image.int8-u8.onnx").read_bytes()
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(content)
    [zero] = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.UINT8]
    zero.CopyFrom(onnx.numpy_helper.from_array(np.uint8(0), zero.name))
    return replace_file(tiny_bundle, "image", "int8-u8", model.SerializeToString())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_silent_fall_back_is_an_error(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that lists CUDA without being able to use it falls back to the CPU; the session must notice."""
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(BackendError, match=r"wants CUDAExecutionProvider, but .* uses CPUExecutionProvider"):
        OnnxRuntimeSession(tiny_bundle_master / "image.fp32.onnx", backend="onnxruntime-cuda")
    session, choice = open_session(Manifest.read(tiny_bundle_master), "text", Request())
    assert [(attempt.backend, attempt.used) for attempt in choice.attempts] == [
        ("onnxruntime-cuda", False),
        ("onnxruntime", True),
    ]
    assert session.provider == "CPUExecutionProvider"


def machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sayclip.sessions.cpu.platform.machine", lambda: name)


@pytest.mark.parametrize(("name", "best"), [("x86_64", "int8-u8"), ("aarch64", "int8")])
def test_the_first_choice_depends_on_the_processor(
    name: str, best: str, tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, name)
    manifest = Manifest.read(tiny_bundle_master)
    assert candidates(manifest.entry("image"), Request(), "image")[0] == ("onnxruntime", best)
    session, choice = open_session(manifest, "image", Request(threads=1))
    assert (choice.precision, choice.backend, choice.threads) == (best, "onnxruntime", 1)
    assert session.run({"pixels": pictures(1)})["embedding"].shape == (1, 32)
    assert choice.attempts[-1].reason.startswith("min cosine to the reference")


def test_an_inaccurate_graph_is_passed_over_and_remembered(
    spoilt: Manifest, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "x86_64")
    _, choice = open_session(spoilt, "image", Request())
    assert choice.precision == "fp32"
    first, second = choice.attempts
    assert (first.precision, first.used, second.used) == ("int8-u8", False, True)
    assert "min cosine to the reference" in first.reason
    with pytest.raises(BackendError, match="the int8-u8 graph of 'image' is not accurate"):
        open_session(spoilt, "image", Request(precision="int8-u8"))

    # The second time neither graph is run for it, and the bad one is not even loaded.
    opened: list[str] = []
    monkeypatch.setattr(
        "sayclip.sessions.choose.open_graph",
        lambda manifest, name, precision, **how: (
            opened.append(precision),
            open_graph(manifest, name, precision, **how),
        )[1],
    )
    monkeypatch.setattr("sayclip.sessions.choose.check", None)
    assert open_session(spoilt, "image", Request())[1] == choice
    assert opened == ["fp32"]

    monkeypatch.undo()
    checks = private_home / "cache" / "sayclip" / "checks.json"
    checks.write_text(json.dumps({key: {"value": "x"} for key in json.loads(checks.read_text())}))
    assert open_session(spoilt, "image", Request())[1].precision == "fp32"


def test_another_processor_or_graph_is_measured_anew(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def counted(*arguments: object) -> object:
        measured.append(str(arguments[-1]))
        return original(*arguments)  # type: ignore[arg-type]

    import sayclip.sessions.choose as choose

    original = choose.check
    monkeypatch.setattr(choose, "check", counted)
    manifest = Manifest.read(tiny_bundle_master)
    for _ in range(2):
        open_session(manifest, "text", Request())
    assert len(measured) == 1
    monkeypatch.setattr(cpu, "model", lambda: "another processor")
    open_session(manifest, "text", Request())
    assert len(measured) == 2


def test_a_precision_by_name_is_that_one(tiny_bundle_master: Path) -> None:
    manifest = Manifest.read(tiny_bundle_master)
    for precision in ("fp32", "int8", "int8-u8"):
        assert open_session(manifest, "image", Request(precision=precision))[1].precision == precision
    with pytest.raises(BundleError, match="encoder 'text' has no 'int8' graph, it has fp32"):
        open_session(manifest, "text", Request(precision="int8"))


def test_nothing_that_runs_names_every_attempt(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "x86_64")
    for precision in ("fp32", "int8", "int8-u8"):
        manifest = replace_file(tiny_bundle, "image", precision, b"not a graph")
    with pytest.raises(BackendError, match="nothing runs the encoder 'image'") as caught:
        open_session(manifest, "image", Request())
    assert str(caught.value).count("cannot be loaded") == 3
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_signature_is_refused(tiny_bundle: Path) -> None:
    manifest = replace_file(tiny_bundle, "text", "fp32", (tiny_bundle / "pronunciation.fp32.onnx").read_bytes())
    with pytest.raises(
        BundleError, match=r"text.fp32.onnx has the inputs .*phoneme_ids.*, the manifest says otherwise"
    ):
        open_session(manifest, "text", Request())


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04broken", "pickle", "no output", "another width", "a number", "none"]
)
def test_a_bad_reference_is_refused(content: bytes | str, tiny_bundle: Path) -> None:
    path = tiny_bundle / "text.reference.npz"
    if content == "pickle":
        np.savez(path, **{"input.token_ids": np.array([print], dtype=object)})  # type: ignore[arg-type]
    elif content == "no output":
        np.savez(path, **{"input.token_ids": np.zeros((1, 2), np.int32)})  # type: ignore[arg-type]
    elif content == "another width":
        np.savez(path, **{"input.length": np.ones(1, np.int32), "output.embedding": np.ones((1, 3))})  # type: ignore[arg-type]
    elif content in ("a number", "none"):
        output = np.float32(1) if content == "a number" else np.ones((0, 16), np.float32)
        np.savez(path, **{"input.length": np.ones(1, np.int32), "output.embedding": output})
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    data = json.loads((tiny_bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest = Manifest.from_dict(data, folder=tiny_bundle)  # without looking at the files, whose sizes have changed
    with pytest.raises(BundleError, match=r"reference.npz (is not a usable .npz|holds)"):
        read_reference(manifest, "text")


def test_comparing_is_strict() -> None:
    rows = np.eye(2, dtype=np.float32)
    assert compare(rows, rows, "fp32", 0.0).passed
    assert not compare(rows + 1e-3, rows, "fp32", 1e-4).passed
    assert compare(rows * 2, rows, "int8", 0.999).passed
    assert not compare(rows[::-1], rows, "int8", 0.5).passed
    assert not compare(rows * np.nan, rows, "fp32", 1.0).passed
    assert not compare(rows * 0, rows, "int8", 0.0).passed
    assert not compare(rows[:1], rows, "int8", 0.0).passed


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", 5000])
def test_bad_requests_are_refused(threads: object) -> None:
    with pytest.raises(BackendError, match="threads is"):
        Request(threads=threads)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="no backend 'cuda': use one of auto, onnxruntime"):
        Request(backend="cuda")
