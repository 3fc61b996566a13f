"""Sessions: one graph on one backend, and what all of them promise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sayclip.bundle.find import demo_folder
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions.backends import open_graph, unavailable
from sayclip.sessions.base import Session
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.openvino import OpenVinoSession
from sayclip.sessions.reference import compare

PIXELS = (3, 16, 16)
OPEN: dict[str, Callable[..., Session]] = {"onnxruntime": OnnxRuntimeSession, "openvino": OpenVinoSession}
PROVIDERS = {"onnxruntime": "CPUExecutionProvider", "openvino": "CPU"}


@pytest.fixture(params=list(OPEN))
def backend(request: pytest.FixtureRequest) -> str:
    if why := unavailable(request.param):
        pytest.skip(why)
    return str(request.param)


@pytest.fixture
def session(backend: str, tiny_bundle_master: Path) -> Session:
    return OPEN[backend](tiny_bundle_master / "image.fp32.onnx", threads=1)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, *PIXELS)).astype(np.float32)


def test_signature_names_what_the_graph_takes(session: Session, backend: str) -> None:
    [pixels] = session.signature.inputs
    assert (pixels.name, pixels.dtype, pixels.shape[1:]) == ("pixels", "float32", (3, 16, 16))
    assert isinstance(pixels.shape[0], str)
    assert [output.name for output in session.signature.outputs] == ["embedding"]
    assert (session.backend, session.provider, session.threads) == (backend, PROVIDERS[backend], 1)


def test_results_are_the_callers(session: Session) -> None:
    first = session.run({"pixels": pictures(2)})["embedding"]
    kept = first.copy()
    session.run({"pixels": pictures(2) * 2})
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(session.run({"pixels": pictures(2)})["embedding"], kept)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-5)


def test_what_is_fed_stays_as_it_is(backend: str, tiny_bundle_master: Path) -> None:
    """Even where a graph's first node could work in place, and where the array may not be written."""
    for name, feeds in {
        "image": {"pixels": pictures(2)},
        "speech": {"waveform": pictures(1).reshape(1, -1), "length": np.array([700], np.int32)},
        "text": {"token_ids": np.array([[5, 6, 7]], np.int32), "length": np.array([2], np.int32)},
    }.items():
        session = open_graph(Manifest.read(tiny_bundle_master), name, "fp32", backend=backend)
        before = {key: array.copy() for key, array in feeds.items()}
        wanted = session.run(feeds)["embedding"]
        for array in feeds.values():
            array.setflags(write=False)
        np.testing.assert_array_equal(session.run(feeds)["embedding"], wanted)
        for key, array in feeds.items():
            np.testing.assert_array_equal(array, before[key])


def test_shapes_may_change_from_run_to_run(backend: str, tiny_bundle_master: Path) -> None:
    manifest = Manifest.read(tiny_bundle_master)
    known = open_graph(manifest, "speech", "fp32", backend="onnxruntime")
    session = open_graph(manifest, "speech", "fp32", backend=backend)
    for rows, samples in ((1, 900), (3, 4000), (1, 1700), (2, 900)):
        feeds = {
            "waveform": np.random.default_rng(samples).normal(size=(rows, samples)).astype(np.float32),
            "length": np.full(rows, samples - 100, np.int32),
        }
        np.testing.assert_allclose(session.run(feeds)["embedding"], known.run(feeds)["embedding"], atol=1e-5)


def test_outputs_are_written_where_asked(session: Session) -> None:
    rows = np.full((5, 32), np.nan, np.float32)
    wanted = session.run({"pixels": pictures(3)})["embedding"]
    result = session.run({"pixels": pictures(3)}, out={"embedding": rows[1:4]})
    assert np.shares_memory(result["embedding"], rows)
    np.testing.assert_array_equal(rows[1:4], wanted)
    assert np.isnan(rows[[0, 4]]).all()
    with pytest.raises(BackendError):
        session.run({"pixels": pictures(3)}, out={"embedding": np.empty((2, 32), np.float32)})
    with pytest.raises(BackendError, match="dtype float64, wanted float32"):
        session.run({"pixels": pictures(3)}, out={"embedding": np.empty((3, 32))})
    with pytest.raises(BackendError, match="C order"):
        session.run({"pixels": pictures(3)}, out={"embedding": np.empty((32, 3), np.float32).T})


def test_bound_buffers_are_the_sessions_own(session: Session) -> None:
    buffer = session.bind("pixels", (4, *PIXELS))
    buffer[:] = pictures(4)
    np.testing.assert_array_equal(session.run({})["embedding"], session.run({"pixels": pictures(4)})["embedding"])
    smaller = session.bind("pixels", (2, *PIXELS))
    assert np.shares_memory(smaller, buffer)
    smaller[:] = pictures(2)
    assert session.run({})["embedding"].shape == (2, 32)
    with pytest.raises(BackendError, match="no input 'waveform', it has pixels"):
        session.bind("waveform", (1,))
    with pytest.raises(BackendError, match=r"wanted \['(batch|\?)', 3, 16, 16\]"):
        session.bind("pixels", (1, 3, 8, 8))


def test_wrong_feeds_are_refused(session: Session) -> None:
    with pytest.raises(BackendError, match="was given no 'pixels'"):
        session.run({})
    with pytest.raises(BackendError, match="has no 'other', inputs are pixels"):
        session.run({"pixels": pictures(1), "other": pictures(1)})
    session.bind("pixels", (1, *PIXELS))
    with pytest.raises(BackendError, match="has no 'pixel', inputs are pixels"):
        session.run({"pixel": pictures(1)})
    with pytest.raises(BackendError, match="dtype float64, wanted float32"):
        session.run({"pixels": pictures(1).astype(np.float64)})
    with pytest.raises(BackendError, match="shape \\[3, 16, 16\\], wanted"):
        session.run({"pixels": pictures(1)[0]})
    # Any layout of memory is taken.
    turned = np.asfortranarray(pictures(2))
    np.testing.assert_array_equal(
        session.run({"pixels": turned})["embedding"], session.run({"pixels": pictures(2)})["embedding"]
    )


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(BackendError, match="is closed"):
        session.run({"pixels": pictures(1)})


def test_what_the_graph_cannot_compute_is_one_line(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The demo's text encoder has not so many positions."""
    demo = demo_folder()
    if demo is None:
        pytest.skip("the demo is not installed")
    session = OPEN[backend](demo / "bundle" / "text.fp32.onnx", threads=1)
    feeds = {"token_ids": np.ones((1, 500), np.int32), "length": np.array([500], np.int32)}
    with pytest.raises(BackendError, match=r"failed on token_ids \[1, 500\], length \[1\]") as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_every_input_has_the_same_rows(backend: str, tiny_bundle_master: Path) -> None:
    """OpenVINO would compute something of shapes that do not fit each other."""
    session = OPEN[backend](tiny_bundle_master / "text.fp32.onnx", threads=1)
    feeds = {"token_ids": np.ones((2, 4), np.int32), "length": np.full(3, 4, np.int32)}
    with pytest.raises(BackendError, match="was given 2 of token_ids, 3 of length, wanted the same number of each"):
        session.run(feeds)


@pytest.mark.parametrize("content", [b"", b"\x08\x01garbage", None])
def test_a_damaged_graph_is_one_line(
    content: bytes | None, backend: str, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_bundle / "image.fp32.onnx"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(BackendError, match=f"cannot be loaded by {backend}") as caught:
        OPEN[backend](path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_external_weights_are_found_beside_the_graph(backend: str, tiny_bundle: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    wanted = open_graph(manifest, "image", "fp32").run({"pixels": pictures(6)})["embedding"]
    for precision in ("int8", "int8-u8"):
        seen = open_graph(manifest, "image", precision, backend=backend).run({"pixels": pictures(6)})["embedding"]
        assert compare(seen, wanted, precision, 0.99).passed
    (tiny_bundle / "image.int8.data").unlink()
    with pytest.raises(BackendError, match="cannot be loaded"):
        open_graph(manifest, "image", "int8", backend=backend)


def test_a_provider_that_is_not_there_is_an_error(tiny_bundle_master: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(BackendError, match=r"needs CUDAExecutionProvider, this onnxruntime .* has only"):
        OnnxRuntimeSession(tiny_bundle_master / "image.fp32.onnx", backend="onnxruntime-cuda")


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_without_its_package_the_extra_is_named(
    package: str, extra: str, tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'sayclip\[{extra}\]'"):
        OPEN[package](tiny_bundle_master / "image.fp32.onnx")


def test_small_graphs_run_on_one_thread_unless_told(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.read(tiny_bundle_master)
    monkeypatch.setattr("sayclip.sessions.onnxruntime.default_threads", lambda: 3)
    assert open_graph(manifest, "image", "fp32").threads == 1
    assert open_graph(manifest, "image", "fp32", threads=2).threads == 2
    monkeypatch.setattr("sayclip.sessions.backends.SMALL_BYTES", 1)
    assert open_graph(manifest, "image", "fp32").threads == 3


LARGE_RUN = """
import sys
import numpy as np
from sayclip.bundle.manifest import Manifest
from sayclip.sessions import backends
def megabytes(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
session = backends.open_graph(Manifest.read(sys.argv[1]), "speech", "fp32", backend="onnxruntime", threads=1)
def run(rows, seconds):
    samples = seconds * 16000
    length = np.full(rows, samples, np.int32)
    session.run({"waveform": np.full((rows, samples), 0.1, np.float32), "length": length})
for _ in range(3):
    run(1, 2)
before = megabytes("VmRSS")
run(64, 20)
print(before, megabytes("VmRSS"), megabytes("VmHWM"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory by Linux's /proc")
def test_onnxruntime_gives_back_what_a_large_run_took(tiny_bundle_master: Path) -> None:
    command = [sys.executable, "-c", LARGE_RUN, str(tiny_bundle_master)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, after, peak = map(float, done.stdout.split())
    assert peak > before + 50
    assert after < before + 0.2 * (peak - before), f"{before} MB, {after} MB after a peak of {peak} MB"
