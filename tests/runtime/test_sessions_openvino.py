"""OpenVINO: its precision, its threads, what it keeps, and that it tells nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sayclip.bundle.find import demo_folder
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions import compiled
from sayclip.sessions.backends import open_graph, unavailable
from sayclip.sessions.choose import Request, open_session
from sayclip.sessions.openvino import FLOATS, OpenVinoSession, import_openvino
from sayclip.sessions.reference import Verdict, read_reference

pytestmark = pytest.mark.skipif(bool(unavailable("openvino")), reason="OpenVINO is not installed")
RUNTIME = Path(__file__).parents[2] / "runtime"


def python(code: str, *arguments: str, **settings: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), **settings}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture
def demo() -> Manifest:
    folder = demo_folder()
    if folder is None:
        pytest.skip("the demo is not installed")
    return Manifest.read(folder / "bundle")


def pictures(count: int, size: int = 16) -> dict[str, np.ndarray]:
    return {"pixels": np.random.default_rng(count).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)}


def stored(home: Path) -> list[Path]:
    return sorted((home / "cache" / "sayclip" / "compiled").glob("*"))


def test_fp32_is_fp32(demo: Manifest) -> None:
    """In bfloat16, which OpenVINO takes by itself where the processor has it, the difference is above 0.001."""
    for name in ("image", "text", "pronunciation"):
        inputs, wanted = read_reference(demo, name)
        seen = open_graph(demo, name, "fp32", backend="openvino").run(inputs)["embedding"]
        np.testing.assert_allclose(seen, wanted["embedding"], atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_run_before_is_never_taken_for_this_one(threads: int, demo: Manifest) -> None:
    """On one thread OpenVINO says nothing of shapes that a graph cannot compute, and leaves what it gave before."""
    session = open_graph(demo, "text", "fp32", backend="openvino", threads=threads)
    for tokens in (500, 5, 500, 6):
        feeds = {"token_ids": np.ones((1, tokens), np.int32), "length": np.array([min(tokens, 70)], np.int32)}
        if tokens == 500:
            with pytest.raises(BackendError, match="failed on token_ids"):
                session.run(feeds)
        else:
            wanted = open_graph(demo, "text", "fp32").run(feeds)["embedding"]
            np.testing.assert_allclose(session.run(feeds)["embedding"], wanted, atol=1e-5)


def test_another_precision_is_an_error(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a version not do as it was asked."""
    monkeypatch.setattr(
        "sayclip.sessions.openvino._settings", lambda core, threads, floats: {"INFERENCE_PRECISION_HINT": "bf16"}
    )
    runtime = import_openvino()
    if "BF16" not in runtime.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(BackendError, match=r"computes image\.fp32\.onnx in bf16, wanted f32"):
        OpenVinoSession(tiny_bundle_master / "image.fp32.onnx")


@pytest.mark.skipif(bool(unavailable("openvino-bf16")), reason="this processor has no bfloat16")
def test_what_is_not_int8_can_be_bfloat16(demo: Manifest) -> None:
    """Other numbers than fp32's, near them; kept apart from the other backend's in the cache of compiled graphs."""
    inputs, wanted = read_reference(demo, "image")
    session = open_graph(
        demo, "image", "fp16" if "fp16" in demo.entry("image").graphs else "fp32", backend="openvino-bf16"
    )
    seen = session.run(inputs)["embedding"]
    assert session.backend == "openvino-bf16"
    assert np.abs(seen - wanted["embedding"]).max() > 1e-4
    np.testing.assert_allclose(seen, wanted["embedding"], atol=0.02)
    opened, choice = open_session(demo, "image", Request("openvino-bf16", "int8"))
    assert (opened.backend, choice.precision) == ("openvino-bf16", "int8")
    keys = {open_graph(demo, "image", "int8", backend=backend)._key for backend in FLOATS}  # type: ignore[attr-defined]
    assert len(keys) == 2


def test_fp32_in_bfloat16_is_refused(demo: Manifest) -> None:
    """It would be another precision than the one named."""
    if unavailable("openvino-bf16"):
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(BackendError, match="fp32 graph of 'text' is not accurate on openvino-bf16"):
        open_session(demo, "text", Request("openvino-bf16", "fp32"))


def test_without_instructions_for_bfloat16_it_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sayclip.sessions.backends.multiplies_bfloat16", lambda: False)
    assert unavailable("openvino-bf16") == "this processor has no instructions for bfloat16"
    assert unavailable("openvino") == ""


def test_outputs_bear_the_graphs_names(tmp_path: Path) -> None:
    """Behind an Identity, OpenVINO knows a tensor by the names on both sides of it."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("Relu", ["x"], ["a_inner"]),
        helper.make_node("Identity", ["a_inner"], ["embedding"]),
        helper.make_node("Identity", ["a_inner"], ["parallel_embedding"]),
    ]
    value = helper.make_tensor_value_info
    outputs = [value(name, 1, ["batch", 4]) for name in ("embedding", "parallel_embedding")]
    for wanted in (outputs, outputs[::-1], outputs[:1]):
        graph = helper.make_graph(nodes[: 1 + len(wanted)], "g", [value("x", 1, ["batch", 4])], wanted)
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        for _ in range(2):  # compiled, then loaded
            session = OpenVinoSession(path, key=f"{[output.name for output in wanted]}")
            assert [spec.name for spec in session.signature.outputs] == [output.name for output in wanted]
            results = session.run({"x": np.array([[-1, 2, -3, 4]], np.float32)})
            for array in results.values():
                np.testing.assert_array_equal(array, [[0, 2, 0, 4]])
            session.keep()


def test_nothing_is_told_to_anybody(tiny_bundle_master: Path, tmp_path: Path) -> None:
    """Importing openvino otherwise imports a package that sends an event and keeps an id in the home folder."""
    code = """
import sys
from sayclip.sessions.openvino import FLOATS, OpenVinoSession, import_openvino
OpenVinoSession(sys.argv[1])
print([name for name in sys.modules if name.startswith("openvino_telemetry")], import_openvino().convert_model)
"""
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    settings = {name: str(tmp_path) for name in names} | {"CI": "", "GITHUB_ACTIONS": ""}
    out = python(code, str(tiny_bundle_master / "image.fp32.onnx"), **settings)
    assert out.startswith("[] <function convert_model")
    assert list(tmp_path.iterdir()) == []


def test_threads_follow_the_affinity(tiny_bundle_master: Path) -> None:
    """On one core one thread computes, by either backend, and no other thread is kept busy."""
    code = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from sayclip.bundle.manifest import Manifest
from sayclip.sessions.backends import open_graph
manifest = Manifest.read(sys.argv[1])
for backend in ("onnxruntime", "openvino"):
    session = open_graph(manifest, "image", "fp32", backend=backend)
    for _ in range(20):
        session.run({"pixels": np.ones((8, 3, 16, 16), np.float32)})
    start = time.process_time()
    time.sleep(0.2)
    print(session.threads, time.process_time() - start < 0.05)
"""
    assert python(code, str(tiny_bundle_master)).split("\n") == ["1 True", "1 True"]


def test_a_compiled_graph_is_kept_and_loaded(
    demo: Manifest, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, _ = read_reference(demo, "image")
    first = open_graph(demo, "image", "int8", backend="openvino")
    assert isinstance(first, OpenVinoSession)
    assert stored(private_home) == []
    first.keep()
    [file] = stored(private_home)
    before = file.stat().st_mtime_ns
    assert not first.from_cache
    monkeypatch.setattr(OpenVinoSession, "_read", None)  # compiling would fail
    second = open_graph(demo, "image", "int8", backend="openvino")
    assert isinstance(second, OpenVinoSession)
    assert second.from_cache
    assert not second.keep()
    assert stored(private_home) == [file]
    assert file.stat().st_mtime_ns >= before
    assert second.signature == first.signature
    np.testing.assert_array_equal(second.run(inputs)["embedding"], first.run(inputs)["embedding"])
    # One for other threads is another.
    with pytest.raises(BackendError, match="cannot be loaded"):
        open_graph(demo, "image", "int8", backend="openvino", threads=7)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_one_is_compiled_again(damage: str, demo: Manifest, private_home: Path) -> None:
    inputs, _ = read_reference(demo, "image")
    first = open_graph(demo, "image", "int8", backend="openvino")
    assert isinstance(first, OpenVinoSession)
    first.keep()
    [file] = stored(private_home)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    content = {"cut": content[:1000], "empty": bytearray(), "flipped": content, "foreign": bytearray(b"no model")}[
        damage
    ]
    file.unlink()
    if damage == "foreign":  # whole, and yet nothing that OpenVINO can load
        compiled.write(file.name.partition(".")[0], bytes(content))
    else:
        file.write_bytes(content)
    second = open_graph(demo, "image", "int8", backend="openvino")
    assert isinstance(second, OpenVinoSession)
    np.testing.assert_array_equal(second.run(inputs)["embedding"], first.run(inputs)["embedding"])
    assert stored(private_home) == []
    second.keep()
    second.keep()
    [again] = stored(private_home)
    assert again.name.partition(".")[0] == file.name.partition(".")[0]


def test_what_loads_as_something_else_is_not_kept(
    demo: Manifest, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a version of OpenVINO did."""
    _, choice = open_session(demo, "image", Request("openvino", "int8"))
    assert choice.backend == "openvino"
    [file] = stored(private_home)
    file.unlink()
    monkeypatch.setattr("sayclip.sessions.backends.check", lambda *arguments: Verdict("min cosine", -0.14, 0.99))
    open_session(demo, "image", Request("openvino", "int8"))
    assert stored(private_home) == []


def test_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = import_openvino()
    monkeypatch.setattr(runtime, "__version__", "2024.6.0-17404-4c0f47d2335")
    with pytest.raises(MissingDependencyError, match=r"OpenVINO 2024\.6\.0 is installed, wanted 2025\.4 or later"):
        import_openvino()
    assert unavailable("openvino")


def test_without_a_cache_it_works(tiny_bundle_master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    session = open_graph(Manifest.read(tiny_bundle_master), "image", "fp32", backend="openvino")
    assert isinstance(session, OpenVinoSession)
    assert not session.keep()
    assert session.run(pictures(1))["embedding"].shape == (1, 32)


def test_the_cache_stays_within_its_size(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LIMIT_BYTES", 1000)
    keys = [compiled.key_of(str(number), "1", {}) for number in range(5)]
    for number, key in enumerate(keys):
        compiled.write(key, bytes([number]) * 300)
        [file] = [path for path in stored(private_home) if path.name.startswith(key)]
        os.utime(file, (number, number))
        if number >= 2:
            assert compiled.read(keys[0]) is not None  # used, so it stays
    assert [compiled.read(key) is not None for key in keys] == [True, False, False, True, True]
    # What a killed process left goes once it is old, and nothing is kept that is too large.
    left = private_home / "cache" / "sayclip" / "compiled" / "x.tmp"
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    monkeypatch.setattr(compiled, "LARGEST_BYTES", 400)
    compiled.write(keys[1], bytes(300))
    compiled.write(keys[2], bytes(500))
    assert not left.exists()
    assert compiled.read(keys[1]) is not None
    assert compiled.read(keys[2]) is None
