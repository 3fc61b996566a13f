"""Exported heads of every kind on recordings as people have them: what the graph gives, and what a search says."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from segmental_parts import DEMO, feeds_as_tensors, procedure, write_head

from sayclip.sessions.onnxruntime import OnnxRuntimeSession
from sayclip_export.head_export import export_head
from sayclip_export.models.segmental import SegmentalSpeech
from sayclip_export.models.segmental.encoder import seconds
from sayclip_export.readers import text_graph
from sayclip_export.speechclip_export import wave_feed

RATE, SLOTS = 16_000, 6
Run = Callable[..., "tuple[int, str, str]"]
Wave = NDArray[np.float32]
KINDS = ("parallel", "cascaded", "hybrid", "cif", "segmental")


@dataclass(frozen=True)
class Exported:
    """A bundle whose speech encoder is a head of random weights, and that encoder in torch."""

    folder: Path
    speech: SegmentalSpeech

    @cached_property
    def session(self) -> OnnxRuntimeSession:
        return OnnxRuntimeSession(self.folder / "speech.fp32.onnx", threads=1)

    def given(self, wave: Wave) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """What the graph gives for ``wave``, and what torch does."""
        feed = wave_feed([wave])
        with torch.inference_mode():
            wanted = [value.numpy() for value in self.speech(*feeds_as_tensors(feed))]
        return self.session.run(feed), dict(zip(self.speech.outputs, wanted, strict=True))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """``exported(kind)``: made once."""
    text = text_graph.recover(DEMO / "bundle" / "text.fp32.onnx", {})
    assert text is not None
    known: dict[str, Exported] = {}

    def get(kind: str) -> Exported:
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            speech = write_head(folder / "head.safetensors", kind, text, slots=SLOTS)
            shutil.copytree(DEMO / "bundle", folder / "bundle")
            export_head(folder / "head.safetensors", folder / "bundle")
            known[kind] = Exported(folder / "bundle", speech)
        return known[kind]

    return get


@pytest.fixture(scope="module")
def waves() -> dict[str, Wave]:
    """Of every length and kind; ``instant`` holds three frames, of which the outer cannot be peaks: no boundary."""
    queries = [soundfile.read(path, dtype="float32")[0] for path in sorted((DEMO / "queries").glob("*.wav"))]
    one, other = queries[0], queries[7]
    shorter = min(len(one), len(other))
    loudest = int(np.abs(one).argmax())
    return {
        "400 samples": one[loudest : loudest + 400],
        "a minute": np.resize(np.concatenate(queries), 60 * RATE),
        "silence": np.zeros(RATE, np.float32),
        "noise": (0.2 * np.random.default_rng(0).standard_normal(2 * RATE)).clip(-1, 1).astype(np.float32),
        "two speakers": (one[:shorter] + other[:shorter]) / 2,
        "instant": one[loudest : loudest + RATE // 10],
        "many units": np.concatenate(queries)[: 14 * RATE],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_what_torch_does_and_times_inside_the_recording(
    kind: str, exported: Callable[[str], Exported], waves: dict[str, Wave]
) -> None:
    found = exported(kind)
    counts: dict[str, int] = {}
    for what, wave in waves.items():
        given, wanted = found.given(wave)
        assert list(given) == list(wanted)
        for output, value in given.items():
            assert np.isfinite(value).all(), (what, output)
            assert np.abs(value - wanted[output]).max() < 2e-4, (what, output)
        assert np.linalg.norm(given["embedding"]) == pytest.approx(1, abs=1e-4)
        if "boundaries" in given:
            assert (given["boundaries"] == wanted["boundaries"]).all() or kind == "cif", what
            counts[what] = count = int(given["keyword_count"][0])
            times = given["boundaries"][0]
            assert 1 <= count <= SLOTS
            assert times[0] == 0
            assert (np.diff(times[: count + 1]) > 0).all(), what
            end = len(wave) / RATE
            assert times[count] <= end + 1e-6, what
            # CIF leaves out what its slots do not hold, and a rest that is too small for a slot.
            assert times[count + (kind == "cif") :] == pytest.approx(end), what
            assert not given["keyword_ids"][0, count:].any()
            assert (given["keyword_ids"][0, :count] >= 600).all()
    if counts:
        assert counts["400 samples"] == counts["instant"] == 1
        assert counts["a minute"] == counts["many units"] == SLOTS
    if kind == "segmental":
        assert counts["silence"] == 1


def test_of_more_units_than_slots_the_highest_peaks_stay(
    exported: Callable[[str], Exported], waves: dict[str, Wave]
) -> None:
    found = exported("segmental")
    config = found.speech.head.config
    for what in ("many units", "a minute", "noise"):
        wave = waves[what]
        with torch.inference_mode():
            frames, count = found.speech.frames(*feeds_as_tensors(wave_feed([wave])))
        exact = frames[0].double().numpy()
        starts, _, _ = procedure(exact, config.threshold, config.eps, SLOTS)
        every, prominence, _ = procedure(exact, config.threshold, config.eps, len(exact))
        assert len(every) > SLOTS
        least = min(prominence[t] for t in starts)
        assert all(prominence[t] <= least for t in every if t not in starts)
        edges = torch.tensor([[0.0, *starts, float(count)]])
        wanted = seconds(edges, count, torch.tensor([len(wave)]), found.speech.tower.config)[0].numpy()
        given, _ = found.given(wave)
        np.testing.assert_allclose(given["boundaries"][0], wanted, atol=1e-6)


@pytest.fixture(scope="module")
def recordings(waves: dict[str, Wave], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recordings")
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    return {name: folder / f"{name}.wav" for name in waves}


@pytest.fixture
def library(run: Run, tmp_path: Path) -> Path:
    """Three of the demo's pictures, as every bundle of its space can search them."""
    (tmp_path / "pictures").mkdir()
    for picture in sorted((DEMO / "pictures").rglob("*.webp"))[:3]:
        shutil.copy(picture, tmp_path / "pictures")
    status, _, err = run(
        "index", tmp_path / "pictures", "--bundle", DEMO / "bundle", "--library", tmp_path / "l.sqlite"
    )
    assert status == 0, err
    return tmp_path / "l.sqlite"


GOOD = ("noise", "two speakers", "instant", "many units")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_answers_and_explains(
    kind: str, exported: Callable[[str], Exported], recordings: dict[str, Path], library: Path, run: Run
) -> None:
    found = exported(kind)
    where = ["--bundle", found.folder, "--library", library, "--json"]
    spoken = list(itertools.chain.from_iterable(("--speech", recordings[what]) for what in GOOD))
    status, out, err = run("search", *spoken, *where)
    assert (status, err) == (0, "")
    hits = json.loads(out)["hits"]
    assert len(hits) == 3
    assert np.isfinite([hit["score"] for hit in hits]).all()
    status, out, err = run("search", *spoken, "--explain", *where)
    if kind == "parallel":
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.endswith("gives no keywords: export a checkpoint with a cascaded branch\n")
        return
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["hits"] == hits
    heard = dict(zip(GOOD, document["explanation"], strict=True))
    for what, one in heard.items():
        units = one["units"]
        assert all(unit["word"] and -1 <= unit["score"] <= 1 for unit in units)
        if kind not in ("cif", "segmental"):
            assert {unit["start_s"] for unit in units} == {None}
            continue
        assert 1 <= len(units) <= SLOTS
        assert all(0 <= unit["start_s"] < unit["end_s"] for unit in units)
        assert all(before["end_s"] == after["start_s"] for before, after in itertools.pairwise(units))
        assert units[-1]["end_s"] <= soundfile.info(recordings[what]).duration + 1e-3
    if kind in ("cif", "segmental"):
        assert (len(heard["instant"]["units"]), len(heard["many units"]["units"])) == (1, SLOTS)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("400 samples", "is too short (400 samples, 25 ms), wanted are 100 ms or more: record a whole word"),
        ("a minute", "is 1 min 0 s long, the limit is 15 s: cut it to the words to search for"),
        ("silence", "(loudest moment: digital silence, wanted: above -55 dBFS): check the microphone"),
    ],
)
@pytest.mark.parametrize("kind", ["parallel", "segmental"])
def test_what_cannot_be_searched_with_is_refused_in_a_line(
    kind: str,
    what: str,
    message: str,
    exported: Callable[[str], Exported],
    recordings: dict[str, Path],
    library: Path,
    run: Run,
) -> None:
    explain = ["--explain"] if kind == "segmental" else []
    where = ["--bundle", exported(kind).folder, "--library", library]
    status, out, err = run("search", "--speech", recordings[what], *explain, *where)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
