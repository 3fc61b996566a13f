"""Which backend and precision runs an encoder, and the check against the reference."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sayclip.bundle.files import describe_file
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, BundleError, MissingDependencyError
from sayclip.sessions import backends, contest, cpu
from sayclip.sessions.backends import open_graph
from sayclip.sessions.choose import Request, candidates, open_session
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


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with ONNX Runtime and no other backend."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("sayclip.sessions.tensorrt.unavailable", lambda backend: "not here")


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.usefixtures("alone")
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
        ("onnxruntime", True),
        ("onnxruntime-cuda", False),
    ]
    assert session.provider == "CPUExecutionProvider"


def machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sayclip.sessions.cpu.platform.machine", lambda: name)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("name", "best"), [("x86_64", "int8-u8"), ("aarch64", "int8")])
def test_what_is_measured_depends_on_the_processor(
    name: str, best: str, tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, name)
    manifest = Manifest.read(tiny_bundle_master)
    assert candidates(manifest, "image", Request())[0] == [("onnxruntime", best), ("onnxruntime", "fp32")]
    session, choice = open_session(manifest, "image", Request(threads=1))
    assert {attempt.precision for attempt in choice.attempts} == {best, "fp32"}
    assert (choice.precision, choice.backend, choice.threads) == (choice.attempts[0].precision, "onnxruntime", 1)
    assert [attempt.used for attempt in choice.attempts] == [True, False]
    assert session.run({"pixels": pictures(1)})["embedding"].shape == (1, 32)
    assert "to the reference" in choice.attempts[0].reason
    json.dumps(choice.to_dict(), allow_nan=False)


def test_each_backend_gets_the_form_it_is_quick_with(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    machine(monkeypatch, "x86_64")
    monkeypatch.setattr(backends, "unavailable", lambda backend: "" if backend in ("openvino", "onnxruntime") else "no")
    manifest = Manifest.read(tiny_bundle)
    first, last = candidates(manifest, "image", Request())
    assert first == [
        ("onnxruntime", "int8-u8"),
        ("onnxruntime", "fp32"),
        ("openvino", "int8"),
        ("openvino", "fp32"),
    ]
    assert last == [("onnxruntime", "int8"), ("openvino", "int8-u8")]
    assert candidates(manifest, "image", Request(precision="int8")) == (
        [("openvino", "int8")],
        [("onnxruntime", "int8")],
    )
    assert candidates(manifest, "image", Request("openvino", "int8-u8")) == ([], [("openvino", "int8-u8")])


@pytest.mark.usefixtures("alone")
def test_an_inaccurate_graph_is_passed_over_and_remembered(
    spoilt: Manifest, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "x86_64")
    _, choice = open_session(spoilt, "image", Request())
    assert choice.precision == "fp32"
    first, second = choice.attempts
    assert (first.used, second.precision, second.used) == (True, "int8-u8", False)
    assert "min cosine to the reference" in second.reason
    assert second.accuracy is not None
    assert second.accuracy < 0.99
    with pytest.raises(BackendError, match="the int8-u8 graph of 'image' is not accurate"):
        open_session(spoilt, "image", Request("onnxruntime", "int8-u8"))

    # The second time neither graph is run for it, and the bad one is not even loaded.
    opened: list[str] = []
    monkeypatch.setattr(
        "sayclip.sessions.backends.open_graph",
        lambda manifest, name, precision, **how: (
            opened.append(precision),
            open_graph(manifest, name, precision, **how),
        )[1],
    )
    monkeypatch.setattr("sayclip.sessions.contest.check", None)
    assert open_session(spoilt, "image", Request())[1] == choice
    assert opened == ["fp32"]

    monkeypatch.undo()
    for name in ("checks", "choices"):
        path = private_home / "cache" / "sayclip" / f"{name}.json"
        path.write_text(json.dumps({key: {"value": "x", "attempts": [{}]} for key in json.loads(path.read_text())}))
    assert open_session(spoilt, "image", Request())[1].attempts[-1].precision == "int8-u8"


@pytest.mark.usefixtures("alone")
def test_another_processor_or_graph_is_measured_anew(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[object] = []
    original = contest.check
    monkeypatch.setattr(contest, "check", lambda *arguments: (held.append(arguments), original(*arguments))[1])
    manifest = Manifest.read(tiny_bundle_master)
    for request in (Request(), Request(), Request("onnxruntime", "fp32")):
        open_session(manifest, "text", request)
    assert len(held) == 1
    open_session(manifest, "text", Request(again=True))
    assert len(held) == 2
    monkeypatch.setattr(cpu, "model", lambda: "another processor")
    open_session(manifest, "text", Request())
    assert len(held) == 3


@pytest.mark.usefixtures("alone")
def test_threads_measure_once(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[object] = []
    original = contest.Contest.hold
    monkeypatch.setattr(contest.Contest, "hold", lambda self: (held.append(self), original(self))[1])
    manifest = Manifest.read(tiny_bundle_master)
    choices: list[object] = []
    threads = [
        threading.Thread(target=lambda: choices.append(open_session(manifest, "image", Request())[1])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(choices) == 4
    assert all(choice == choices[0] for choice in choices)


@pytest.mark.usefixtures("alone")
def test_what_was_written_by_force_is_never_picked(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "x86_64")
    manifest = Manifest.read(tiny_bundle)
    entry = manifest.encoders["image"]

    def measured(gates: object) -> Manifest:
        changed = dataclasses.replace(entry, measured={"gates": gates})
        return dataclasses.replace(manifest, encoders={**manifest.encoders, "image": changed})

    forced = measured({"int8": {"passed": False, "forced": True}})
    assert candidates(forced, "image", Request()) == ([("onnxruntime", "fp32")], [])
    _, choice = open_session(forced, "image", Request())
    assert [(one.precision, one.used) for one in choice.attempts] == [
        ("fp32", True),
        ("int8", False),
        ("int8-u8", False),
    ]
    assert "missed its gates" in choice.attempts[1].reason
    assert open_session(forced, "image", Request())[1] == choice  # from memory
    assert open_session(forced, "image", Request(precision="int8"))[1].precision == "int8"
    for fine in ({"int8": {"passed": True}}, {}, {"int8": "x"}, None, "x", {"fp32": {}}):
        assert candidates(measured(fine), "image", Request())[0][0] == ("onnxruntime", "int8-u8")
    every = measured({name: {"passed": False} for name in ("int8", "fp32")})
    with pytest.raises(BundleError, match="precision='auto' uses none of them on onnxruntime"):
        open_session(every, "image", Request())


def test_without_any_backend_it_is_said_what_to_install(
    tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"ONNX Runtime cannot be imported .*sayclip\[cpu\]"):
        open_session(Manifest.read(tiny_bundle_master), "text", Request())


def test_openvino_alone_is_enough(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := backends.unavailable("openvino"):
        pytest.skip(why)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("sayclip.sessions.tensorrt.unavailable", lambda backend: "not here")
    _, choice = open_session(Manifest.read(tiny_bundle_master), "text", Request())
    assert (choice.backend, choice.provider) == ("openvino", "CPU")


def test_engines_are_candidates_only_where_they_are_built(
    tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library needs a GPU, so ONNX Runtime stands in for what an engine computes."""
    manifest = Manifest.read(tiny_bundle_master)
    built = {("image", "fp32", "tensorrt")}
    monkeypatch.setattr("sayclip.sessions.tensorrt.unavailable", lambda backend: "" if backend == "tensorrt" else "no")
    monkeypatch.setattr(
        "sayclip.sessions.tensorrt.has_engine",
        lambda manifest, name, precision, backend: (name, precision, backend) in built,
    )
    monkeypatch.setattr(
        "sayclip.sessions.tensorrt.open_engine",
        lambda manifest, name, precision, backend: open_graph(manifest, name, precision, threads=1),
    )
    first, _ = candidates(manifest, "image", Request())
    assert [pair for pair in first if pair[0].startswith("tensorrt")] == [("tensorrt", "fp32")]
    assert not [pair for pair in candidates(manifest, "text", Request())[0] if pair[0].startswith("tensorrt")]
    _, choice = open_session(manifest, "image", Request("tensorrt"))
    assert (choice.backend, choice.precision) == ("tensorrt", "fp32")
    monkeypatch.undo()
    with pytest.raises((BackendError, MissingDependencyError)):  # no engine, or nothing to run one
        open_session(manifest, "image", Request("tensorrt_rtx"))


def test_a_precision_by_name_is_that_one(tiny_bundle_master: Path) -> None:
    manifest = Manifest.read(tiny_bundle_master)
    for precision in ("fp32", "int8", "int8-u8"):
        assert open_session(manifest, "image", Request(precision=precision))[1].precision == precision
        _, choice = open_session(manifest, "image", Request("onnxruntime", precision))
        assert [(one.backend, one.precision, one.p90_ms) for one in choice.attempts] == [
            ("onnxruntime", precision, None)
        ]
    with pytest.raises(BundleError, match="encoder 'text' has no 'int8' graph, it has fp32"):
        open_session(manifest, "text", Request(precision="int8"))


@pytest.mark.usefixtures("alone")
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
    with pytest.raises(BackendError, match=r"no backend 'cuda': use one of auto, onnxruntime, .*openvino"):
        Request(backend="cuda")
