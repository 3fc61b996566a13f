"""Sessions: one graph on one backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError, MissingDependencyError
from sayclip.sessions.choose import open_graph
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.reference import compare

PIXELS = (3, 16, 16)


@pytest.fixture
def session(tiny_bundle_master: Path) -> OnnxRuntimeSession:
    return OnnxRuntimeSession(tiny_bundle_master / "image.fp32.onnx", threads=1)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, *PIXELS)).astype(np.float32)


def test_signature_names_what_the_graph_takes(session: OnnxRuntimeSession) -> None:
    [pixels] = session.signature.inputs
    assert (pixels.name, pixels.dtype, pixels.shape) == ("pixels", "float32", ("batch", 3, 16, 16))
    assert [output.name for output in session.signature.outputs] == ["embedding"]
    assert (session.backend, session.provider) == ("onnxruntime", "CPUExecutionProvider")


def test_results_are_the_callers(session: OnnxRuntimeSession) -> None:
    first = session.run({"pixels": pictures(2)})["embedding"]
    kept = first.copy()
    session.run({"pixels": pictures(2) * 2})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_outputs_are_written_where_asked(session: OnnxRuntimeSession) -> None:
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


def test_bound_buffers_are_the_sessions_own(session: OnnxRuntimeSession) -> None:
    buffer = session.bind("pixels", (4, *PIXELS))
    buffer[:] = pictures(4)
    np.testing.assert_array_equal(session.run({})["embedding"], session.run({"pixels": pictures(4)})["embedding"])
    smaller = session.bind("pixels", (2, *PIXELS))
    assert np.shares_memory(smaller, buffer)
    smaller[:] = pictures(2)
    assert session.run({})["embedding"].shape == (2, 32)
    with pytest.raises(BackendError, match="no input 'waveform', it has pixels"):
        session.bind("waveform", (1,))
    with pytest.raises(BackendError, match="wanted \\['batch', 3, 16, 16\\]"):
        session.bind("pixels", (1, 3, 8, 8))


def test_wrong_feeds_are_refused(session: OnnxRuntimeSession) -> None:
    with pytest.raises(BackendError, match="was given no 'pixels'"):
        session.run({})
    with pytest.raises(BackendError, match="has no 'other', inputs are pixels"):
        session.run({"pixels": pictures(1), "other": pictures(1)})
    with pytest.raises(BackendError, match="dtype float64, wanted float32"):
        session.run({"pixels": pictures(1).astype(np.float64)})
    with pytest.raises(BackendError, match="shape \\[3, 16, 16\\], wanted"):
        session.run({"pixels": pictures(1)[0]})
    # Any layout of memory is taken.
    turned = np.asfortranarray(pictures(2))
    np.testing.assert_array_equal(
        session.run({"pixels": turned})["embedding"], session.run({"pixels": pictures(2)})["embedding"]
    )


def test_a_closed_session_says_so(session: OnnxRuntimeSession) -> None:
    session.close()
    session.close()
    with pytest.raises(BackendError, match="is closed"):
        session.run({"pixels": pictures(1)})


def test_what_the_graph_cannot_compute_is_one_line(tiny_bundle_master: Path) -> None:
    session = OnnxRuntimeSession(tiny_bundle_master / "text.fp32.onnx", threads=1)
    ids = np.array([[1, 10_000_000]], np.int32)
    with pytest.raises(BackendError, match="failed on token_ids \\[1, 2\\], length \\[1\\]") as caught:
        session.run({"token_ids": ids, "length": np.array([2], np.int32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x08\x01garbage", None])
def test_a_damaged_graph_is_one_line(
    content: bytes | None, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_bundle / "image.fp32.onnx"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(BackendError, match="cannot be loaded by onnxruntime") as caught:
        OnnxRuntimeSession(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_external_weights_are_found_beside_the_graph(tiny_bundle: Path) -> None:
    manifest = Manifest.read(tiny_bundle)
    wanted = open_graph(manifest, "image", "fp32").run({"pixels": pictures(6)})["embedding"]
    for precision in ("int8", "int8-u8"):
        seen = open_graph(manifest, "image", precision).run({"pixels": pictures(6)})["embedding"]
        assert compare(seen, wanted, precision, 0.99).passed
    (tiny_bundle / "image.int8.data").unlink()
    with pytest.raises(BackendError, match="cannot be loaded"):
        open_graph(manifest, "image", "int8")


def test_a_provider_that_is_not_there_is_an_error(tiny_bundle_master: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(BackendError, match=r"needs CUDAExecutionProvider, this onnxruntime .* has only"):
        OnnxRuntimeSession(tiny_bundle_master / "image.fp32.onnx", backend="onnxruntime-cuda")


def test_without_onnxruntime_the_extra_is_named(tiny_bundle_master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install 'sayclip\\[cpu\\]'"):
        OnnxRuntimeSession(tiny_bundle_master / "image.fp32.onnx")
