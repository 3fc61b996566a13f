"""The session on a stub of each library: real numbers, and every call in the shape that the library takes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip.errors import BackendError
from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip.sessions.reference import check, read_reference
from sayclip.sessions.tensorrt import has_engine, open_engine, plan, unavailable

Build = Callable[..., dict[str, Any]]
Engine = Callable[..., None]


@pytest.fixture
def expected(manifest: Manifest) -> Callable[[str, dict[str, Any]], Any]:
    """What ONNX Runtime gives for the fp32 graph."""

    def run(encoder: str, feeds: dict[str, Any]) -> Any:
        session = OnnxRuntimeSession(manifest.path(f"{encoder}.fp32.onnx"), threads=1)
        return session.run(feeds)["embedding"]

    return run


def texts(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "token_ids": rng.integers(0, 500, (rows, length), dtype=np.int32),
        "length": rng.integers(1, length + 1, rows, dtype=np.int32),
    }


def test_the_reference_is_met(backend: str, manifest: Manifest, build: Build) -> None:
    """Four rows in a query plan run one by one, in an index plan at once."""
    assert not has_engine(manifest, "speech", "fp32", backend)
    for name in ("query", "index"):
        outcome = build(backend, "speech", "fp32", name)
        assert (outcome["status"], outcome["accurate"]) == ("built", True)
        assert "max abs difference to the reference" in outcome["facts"]["reference"]
    assert has_engine(manifest, "speech", "fp32", backend)
    assert not has_engine(manifest, "speech", "int8", backend)
    assert not has_engine(manifest, "image", "fp32", backend)
    session = open_engine(manifest, "speech", "fp32", backend)
    assert check(session, manifest, "speech", "fp32").passed
    assert (session.backend, session.threads) == (backend, 0)
    assert "NVIDIA Stub (sm_87)" in session.provider
    assert session.signature.inputs == manifest.entry("speech").graphs["fp32"].inputs
    session.close()


def test_both_plans_serve_their_batches(backend: str, manifest: Manifest, engine: Engine, expected: Any) -> None:
    engine(backend, "text", "fp32", "query", "index")
    session = open_engine(manifest, "text", "fp32", backend)
    for rows, length in ((1, 5), (32, 5), (33, 20), (70, 77), (1, 77), (1, 2)):
        feeds = texts(rows, length, seed=rows)
        seen = session.run(feeds)["embedding"]
        assert seen.shape == (rows, 32)
        np.testing.assert_allclose(seen, expected("text", feeds), atol=1e-5)
    session.close()


def test_a_shape_seen_again_runs_as_a_cuda_graph(
    backend: str, gpu: Any, manifest: Manifest, engine: Engine, expected: Any
) -> None:
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    for seed in range(4):
        feeds = texts(1, 6, seed)
        np.testing.assert_allclose(session.run(feeds)["embedding"], expected("text", feeds), atol=1e-5)
    assert gpu.calls.count("cudaStreamBeginCapture") == 1
    assert gpu.calls.count("cudaGraphLaunch") == 2
    session.run(texts(1, 7))
    session.run(texts(1, 40))  # another profile, whose scratch space is larger: what was captured is no good any more
    for seed in (7, 8):
        feeds = texts(1, 6, seed)
        np.testing.assert_allclose(session.run(feeds)["embedding"], expected("text", feeds), atol=1e-5)
    assert gpu.calls.count("cudaStreamBeginCapture") == 2
    assert session.no_graphs == ""
    session.close()
    assert not gpu.executables
    assert not gpu.graphs


def test_graphs_are_bounded_in_number(
    backend: str, gpu: Any, manifest: Manifest, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GRAPHS", 3)
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    for length in range(2, 12):
        for _ in range(3):
            session.run(texts(1, length))
    assert len(gpu.executables) == 3
    session.close()


@pytest.mark.parametrize("failing", ["cudaStreamBeginCapture", "cudaGraphInstantiateWithFlags", ""])
def test_what_cannot_be_captured_runs_without(
    backend: str, gpu: Any, manifest: Manifest, engine: Engine, expected: Any, failing: str
) -> None:
    """Where recording cannot begin or be used, or where the work itself does not let itself be recorded."""
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    gpu.fail.update({failing: 801} if failing else {})
    gpu.uncapturable = not failing
    for seed in range(5):
        feeds = texts(1, 6, seed)
        np.testing.assert_allclose(session.run(feeds)["embedding"], expected("text", feeds), atol=1e-5)
    assert ("words for 801" if failing else "running failed") in session.no_graphs
    assert gpu.calls.count("cudaStreamBeginCapture") == 1
    session.close()


def test_bind_gives_pinned_memory_that_is_copied_from_directly(
    backend: str, gpu: Any, manifest: Manifest, engine: Engine, expected: Any
) -> None:
    engine(backend, "image", "fp32", "index")
    session = open_engine(manifest, "image", "fp32", backend)
    pixels = np.random.default_rng(3).uniform(-1, 1, (40, 3, 16, 16)).astype(np.float32)
    bound = session.bind("pixels", pixels.shape)
    start = bound.ctypes.data
    assert any(a <= start and start + bound.nbytes <= a + len(block) for a, block in gpu.pinned.items())
    bound[...] = pixels
    out = np.empty((40, 32), np.float32)
    seen = session.run({}, {"embedding": out})
    assert seen["embedding"] is out
    np.testing.assert_allclose(out, expected("image", {"pixels": pixels}), atol=1e-5)
    other = session.run({"pixels": pixels[:2] * 0.5})["embedding"]
    np.testing.assert_allclose(other, expected("image", {"pixels": pixels[:2] * 0.5}), atol=1e-5)
    np.testing.assert_array_equal(bound, pixels)  # what others are fed does not touch it
    session.close()


def test_results_are_the_callers(backend: str, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    first = session.run(texts(1, 6, 1))["embedding"]
    before = first.copy()
    session.run(texts(1, 6, 2))
    np.testing.assert_array_equal(first, before)
    session.close()


def test_closing_gives_everything_back(backend: str, gpu: Any, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "text", "fp32", "query", "index")
    assert (gpu.device, gpu.streams) == ({}, {})
    session = open_engine(manifest, "text", "fp32", backend)
    bound = session.bind("length", (1,))
    for rows in (1, 1, 1, 4, 4):
        session.run(texts(rows, 6))
    assert gpu.device
    session.close()
    session.close()
    assert (gpu.device, gpu.streams, gpu.executables, gpu.graphs, gpu.retained) == ({}, {}, {}, {}, 0)
    bound[0] = 3  # still there, for as long as somebody holds it
    del session, bound
    gc.collect()
    assert gpu.pinned == {}


def test_wrong_feeds_are_refused_in_one_line(backend: str, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    good = texts(1, 6)
    for feeds, words in (
        ({"ids": good["length"]}, "has no 'ids'"),
        ({"length": good["length"]}, "was given no 'token_ids'"),
        ({**good, "length": good["length"].astype(np.int64)}, "dtype int64, wanted int32"),
        ({**good, "token_ids": good["token_ids"][0]}, "shape [6], wanted ['batch', 'tokens']"),
        ({**good, "length": np.ones(2, np.int32)}, "1 of token_ids, 2 of length"),
        (texts(1, 78), "takes token_ids of [1, 2] to [1, 16] or [1, 17] to [1, 32] or [1, 33] to [1, 77], given"),
        (texts(0, 6), "wanted the same number of each, at least 1"),
    ):
        with pytest.raises(BackendError) as error:
            session.run(feeds)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(BackendError, match=r"shape \[2, 32\], wanted \[1, 32\]"):
        session.run(good, {"embedding": np.empty((2, 32), np.float32)})
    with pytest.raises(BackendError, match="strided or read-only"):
        session.run(good, {"embedding": np.empty((1, 64), np.float32)[:, ::2]})
    with pytest.raises(BackendError, match="has no input 'ids'"):
        session.bind("ids", (1,))
    assert session.run(good)["embedding"].shape == (1, 32)
    session.close()
    with pytest.raises(BackendError, match="is closed"):
        session.run(good)
    with pytest.raises(BackendError, match="is closed"):
        session.bind("length", (1,))


def test_a_strided_feed_is_copied(backend: str, manifest: Manifest, engine: Engine, expected: Any) -> None:
    engine(backend, "image", "fp32", "index")
    session = open_engine(manifest, "image", "fp32", backend)
    pixels = read_reference(manifest, "image")[0]["pixels"][:, :, ::-1]
    np.testing.assert_allclose(
        session.run({"pixels": pixels})["embedding"], expected("image", {"pixels": pixels}), atol=1e-5
    )
    session.close()


def test_too_little_memory_for_the_weights(backend: str, gpu: Any, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "image", "fp32", "index")
    gpu.integrated, gpu.free_bytes = 0, 100
    with pytest.raises(BackendError, match=r"needs 0 MB of memory for its weights alone, 0 MB are free: close other"):
        open_engine(manifest, "image", "fp32", backend)
    assert (gpu.device, gpu.streams) == ({}, {})


def test_too_little_memory_for_the_inputs(backend: str, gpu: Any, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "image", "fp32", "index")
    session = open_engine(manifest, "image", "fp32", backend)
    gpu.free_bytes = 3000
    with pytest.raises(BackendError, match=r"the GPU has too little memory: 0 MB wanted, 0 MB free: close other"):
        session.run({"pixels": np.zeros((1, 3, 16, 16), np.float32)})
    gpu.free_bytes = 1 << 30  # somebody else let go
    assert session.run({"pixels": np.zeros((1, 3, 16, 16), np.float32)})["embedding"].shape == (1, 32)
    session.close()
    assert (gpu.device, gpu.streams) == ({}, {})


def test_the_device_fails_in_cudas_words(backend: str, gpu: Any, manifest: Manifest, engine: Engine) -> None:
    engine(backend, "text", "fp32")
    session = open_engine(manifest, "text", "fp32", backend)
    gpu.fail["cudaStreamSynchronize"] = 700
    with pytest.raises(BackendError, match=r"CUDA's cudaStreamSynchronize failed \(error 700, words for 700\)"):
        session.run(texts(1, 6))


def test_usable_here(backend: str, gpu: Any) -> None:
    assert unavailable(backend) == ""
    gpu.count = 0
    assert unavailable(backend) == "NVIDIA's driver sees no GPU"


def test_the_encoder_runs_on_engines(backend: str, manifest: Manifest, engine: Engine) -> None:
    """Asked for by name: whole batches and single queries, the same vectors as on the processor."""
    import sayclip

    for encoder in ("image", "text", "speech"):
        engine(backend, encoder, "fp32", "query", "index")
    assert manifest.folder is not None
    pictures = [np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8) for seed in range(3)]
    waves = [np.random.default_rng(seed).normal(0, 0.1, 4000 + 900 * seed).astype(np.float32) for seed in range(9)]
    words = ["a cat", "red", "a red cat and another one " * 3]
    found = {}
    for name in (backend, "onnxruntime"):
        with sayclip.load(manifest.folder, backend=name, precision="fp32") as encoder:
            found[name] = np.concatenate(
                [encoder.image(pictures), encoder.image(pictures[0]), encoder.text(words), encoder.speech(waves)]
            )
            assert encoder.info()["encoders"]["speech"]["backend"] == name
    np.testing.assert_allclose(found[backend], found["onnxruntime"], atol=1e-5)
