"""Peers: rows that say what is missing, and fastembed's own code on a real bundle where it is installed."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.bundle.manifest import Manifest
from sayclip.errors import InputError
from sayclip.text.tokenizer import Tokenizer
from sayclip.text.vocabulary import read_merges
from sayclip_benchmarks.demo.data import read_demo
from sayclip_benchmarks.suite import fastembed_side, inputs, plan, vectors
from sayclip_benchmarks.suite.cases import Case, cases_of
from sayclip_benchmarks.suite.inputs import Sources
from sayclip_benchmarks.suite.openers import SEARCHES
from sayclip_benchmarks.suite.worker import CandidateError, Worker

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo"
BUNDLE = DEMO / "bundle"
PYTHON = os.environ.get(plan.FASTEMBED, "") or (sys.executable if importlib.util.find_spec("fastembed") else "")
installed = pytest.mark.skipif(not PYTHON, reason=f"${plan.FASTEMBED} names no python, and fastembed is not here")


def entrants(tmp_path: Path, encoder: str) -> dict[str, plan.Entrant]:
    shared = {"library": "", "vectors": "", "work": str(tmp_path)}
    return {one.label: one for one in plan.entrants(Manifest.read(BUNDLE), encoder, shared, compiled=False)}


def test_fastembed_is_a_candidate_for_what_clip_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plan.FASTEMBED, sys.executable)
    for encoder, there in (("image", True), ("text", True), ("speech", False), ("pronunciation", False)):
        assert ("fastembed fp32" in entrants(tmp_path, encoder)) is there
    one = entrants(tmp_path, "text")["fastembed fp32"]
    assert (one.python, one.missing, one.kind) == (sys.executable, "", "peer")
    assert one.whats == {"session", "preprocessing", "encoder"}


@pytest.mark.parametrize(("variable", "label"), [(plan.FASTEMBED, "fastembed fp32"), (plan.OPTIMUM, "optimum fp32")])
def test_an_environment_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, label: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "python"))
    assert entrants(tmp_path, "text")[label].missing == f"${variable} is {tmp_path / 'python'}, which is not there"
    monkeypatch.delenv(variable)
    if label.startswith("optimum") or importlib.util.find_spec("fastembed") is None:
        assert f"${variable} names the python" in entrants(tmp_path, "text")[label].missing


def test_fastembed_in_an_environment_without_it_is_an_error_in_a_line(tmp_path: Path) -> None:
    if importlib.util.find_spec("fastembed"):
        pytest.skip("fastembed is here")
    with pytest.raises(CandidateError) as caught:
        Worker({"kind": "fastembed", "bundle": str(BUNDLE), "encoder": "text", "work": str(tmp_path)})
    assert "fastembed is not here" in caught.value.problem
    assert "\n" not in str(caught.value)


# Beyond these, letters that Unicode has had for a few years only are no letters yet for some versions of `tokenizers`.
@given(text=st.text(st.characters(max_codepoint=0x24F) | st.sampled_from("αωжя日本語🍎²½ﬁ"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_tokenizer_that_fastembed_is_given_is_the_bundles(text: str) -> None:
    theirs, ours = tokenizers()
    seen = theirs.encode(text).ids
    if 2 < len(seen) <= ours.context:
        assert seen == ours.encode(text)


@functools.cache
def tokenizers() -> tuple[Any, Tokenizer]:
    library = pytest.importorskip("tokenizers")
    merges = read_merges(BUNDLE / "tokenizer.txt")
    return library.Tokenizer.from_str(json.dumps(fastembed_side.tokenizer_json(merges))), Tokenizer(merges)


def test_the_folder_holds_the_graph_and_what_preprocessing_is(tmp_path: Path) -> None:
    manifest = Manifest.read(BUNDLE)
    for _ in range(2):  # again over what is there
        fastembed_side.model_folder(manifest, "image", tmp_path / "image")
    how: Any = manifest.entry("image").preprocessing
    config = json.loads((tmp_path / "image" / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert config["size"] == {"shortest_edge": how.size}
    assert config["image_mean"] == list(how.mean)
    assert (tmp_path / "image" / "model.onnx").resolve() == (BUNDLE / "image.fp32.onnx").resolve()
    entry = manifest.entry("image")
    squashed = dataclasses.replace(entry, preprocessing=dataclasses.replace(how, resize="squash"))
    graph = dataclasses.replace(entry.graphs["fp32"], data=entry.graphs["int8"].data)
    apart = dataclasses.replace(entry, graphs={"fp32": graph})
    for wrong, said in ((squashed, "squash"), (apart, "file of their own")):
        with pytest.raises(InputError, match=said):
            fastembed_side.model_folder(
                dataclasses.replace(manifest, encoders={"image": wrong}), "image", tmp_path / "wrong"
            )


@installed
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_fastembed_gives_what_sayclip_gives(encoder: str, tmp_path: Path) -> None:
    demo, manifest = read_demo(DEMO), Manifest.read(BUNDLE)
    sources = Sources(demo.pictures, demo.names, sorted((DEMO / "queries").glob("*.wav")))
    told = {"bundle": str(BUNDLE), "encoder": encoder, "work": str(tmp_path)}
    ours = {"kind": "sayclip", "backend": "onnxruntime", "precision": "fp32", **told}
    session = cases_of(encoder, quick=True)[0]
    whole = Case("encoder", encoder, session.size, session.amount)
    if encoder == "image":
        from PIL import Image

        paths = []
        for number, path in enumerate(demo.pictures[:3]):  # without an alpha channel, which each lays on its own ground
            paths.append(str(tmp_path / f"{number}.png"))
            with Image.open(path) as picture:
                picture.convert("RGB").save(paths[-1])
        made: dict[str, Any] = {"files": paths}
    else:
        made = {"texts": list(demo.names[:5])}
    with Worker({"kind": "fastembed", **told}, python=PYTHON) as one, Worker(ours) as two:
        assert one.label == "fastembed fp32"
        assert one.model_bytes == two.model_bytes
        for case, given_ in ((session, inputs.make(manifest, session, sources, tmp_path / "in")), (whole, made)):
            seen = []
            for number, worker in enumerate((one, two)):
                worker.outputs(case.to_dict(), given_, tmp_path / f"{number}.npy")
                seen.append(np.load(tmp_path / f"{number}.npy"))
            assert seen[0].shape == seen[1].shape
            assert (seen[0] * seen[1]).sum(axis=1).min() > 0.999, case.what
        assert len(one.run(Case("preprocessing", encoder, "", 0.0).to_dict(), made, [0, 1])) == 2


@pytest.mark.parametrize("method", SEARCHES)
def test_every_way_to_search_finds_the_same(method: str, tmp_path: Path) -> None:
    module = {"faiss flat": "faiss", "usearch exact fp16": "usearch"}.get(method)
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    database, array = vectors.library(tmp_path, "space", 64, 500)
    queries = vectors.vectors(4, 64, seed=1)
    np.savez(tmp_path / "queries.npz", **{f"{number}.wave": row for number, row in enumerate(queries)})
    told = {"kind": "search", "method": method, "library": str(database), "vectors": str(array)}
    with Worker(told) as worker:
        case = Case("search", "", "500 vectors", 500.0)
        assert len(worker.run(case.to_dict(), {"arrays": str(tmp_path / "queries.npz")}, [0, 1, 2, 3])) == 4
