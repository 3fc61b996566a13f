"""Processes of candidates: they answer, and what crashes, hangs or prints nonsense is an error in one line."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayclip.bundle.manifest import Manifest
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.suite import inputs
from sayclip_benchmarks.suite.cases import Case, cases_of
from sayclip_benchmarks.suite.inputs import ROTATE, Sources
from sayclip_benchmarks.suite.worker import CandidateError, Worker

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = DEMO / "bundle"
TEXT = Case("session", "text", "8 tokens", 8)


@pytest.fixture(scope="module")
def sources() -> Sources:
    demo = read_demo(DEMO)
    return Sources(demo.pictures, demo.names, sorted((DEMO / "queries").glob("*.wav")))


def spec(**more: Any) -> dict[str, Any]:
    base = {"kind": "sayclip", "bundle": str(BUNDLE), "encoder": "text", "backend": "onnxruntime", "precision": "fp32"}
    return {**base, **more}


def interpreter(folder: Path, code: str) -> str:
    """An interpreter that runs ``code`` whatever it is asked to run."""
    path = folder / "python"
    path.write_text(f"#!/usr/bin/env python3\n{code}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_candidate_runs_and_gives_embeddings(sources: Sources, tmp_path: Path) -> None:
    made = inputs.make(Manifest.read(BUNDLE), TEXT, sources, tmp_path)
    with Worker(spec()) as worker:
        assert worker.label == "onnxruntime fp32"
        assert worker.model_bytes == (BUNDLE / "text.fp32.onnx").stat().st_size
        times = worker.run(TEXT.to_dict(), made, [0, 1, 2, 3, 0])
        assert len(times) == 5
        assert all(0 < value < 1000 for value in times)
        worker.outputs(TEXT.to_dict(), made, tmp_path / "seen.npy")
        seen = np.load(tmp_path / "seen.npy")
        assert seen.shape == (ROTATE, 128)
        assert len(np.unique(seen.round(4), axis=0)) == ROTATE, "inputs rotate"
        assert worker.quit()["rss_bytes"] > 20e6


def test_every_case_of_every_encoder_can_be_made_and_run(sources: Sources, tmp_path: Path) -> None:
    from sayclip_benchmarks.suite import vectors

    manifest = Manifest.read(BUNDLE)
    database, array = vectors.library(tmp_path, manifest.space, manifest.width, 300)
    for name in manifest.encoders:
        more = {"encoder": name, "library": str(database), "vectors": str(array)}
        with Worker(spec(**more)) as worker:
            for case in cases_of(name, quick=True):
                if case.size == "12 megapixels":
                    continue
                made = inputs.make(manifest, case, sources, tmp_path / name)
                assert len(worker.run(case.to_dict(), made, [0, 1])) == 2, case.key


@pytest.mark.parametrize("amount", [1.0, 6.4])
def test_recordings_have_the_length_that_is_asked_for_and_are_no_zeros(
    sources: Sources, tmp_path: Path, amount: float
) -> None:
    case = Case("query", "speech", f"{amount:g} s", amount)
    waves = inputs.load(inputs.make(Manifest.read(BUNDLE), case, sources, tmp_path))
    assert len(waves) == ROTATE
    assert {len(wave) for wave in waves} == {round(amount * 16_000)}
    assert all(np.abs(wave).max() > 0.05 for wave in waves)


def test_typed_texts_have_as_many_tokens_as_the_case(sources: Sources, tmp_path: Path) -> None:
    from sayclip.preparation import Preparation

    manifest = Manifest.read(BUNDLE)
    made = inputs.make(manifest, Case("query", "text", "8 tokens", 8), sources, tmp_path)
    texts = inputs.load(made)
    assert len(set(texts)) > 1
    assert {len(ids) for ids in Preparation(manifest).texts(texts)} == {8}


def test_what_cannot_be_opened_says_why_in_a_line() -> None:
    with pytest.raises(CandidateError) as caught:
        Worker(spec(precision="fp16"))
    assert "fp16" in caught.value.problem
    assert "\n" not in str(caught.value)


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="ended by signal 9"):
        Worker(spec(), python=interpreter(tmp_path, "import os; os.kill(os.getpid(), 9)"))


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CandidateError, match="no answer within 1 s"):
        Worker(spec(), python=interpreter(tmp_path, "import time; time.sleep(60)"), limit_s=1.0)
    assert time.monotonic() - started < 10


def test_a_process_that_prints_nonsense_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="something else"):
        Worker(spec(), python=interpreter(tmp_path, "print('hello', flush=True); input()"))


def test_a_case_that_fails_leaves_the_process_alive(sources: Sources, tmp_path: Path) -> None:
    made = inputs.make(Manifest.read(BUNDLE), TEXT, sources, tmp_path)
    with Worker(spec()) as worker:
        with pytest.raises(CandidateError):
            worker.run(Case("query", "text", "8 tokens", 8).to_dict(), {"texts": ["red apple"]}, [0])
        assert len(worker.run(TEXT.to_dict(), made, [0])) == 1
