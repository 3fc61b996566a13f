"""Searches by exported heads, by recordings as people have them; what their graphs give is in ``test_graphs``."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from segmental_parts import DEMO, RATE, demo_text, hard_waves, write_head

from sayclip.cli.main import main
from sayclip_export.head_export import export_head

SLOTS = 6
Run = Callable[..., "tuple[int, str, str]"]
KINDS = ("hybrid", "cif", "segmental")  # a hybrid head is a parallel and a cascaded one


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``exported(kind)``: a bundle whose speech encoder is a head of random weights, made once."""
    text = demo_text()
    known: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            write_head(folder / "head.safetensors", kind, text, slots=SLOTS)
            known[kind] = Path(shutil.copytree(DEMO / "bundle", folder / "bundle"))
            export_head(folder / "head.safetensors", known[kind])
        return known[kind]

    return get


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, waves = tmp_path_factory.mktemp("recordings"), hard_waves()
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    return {name: folder / f"{name}.wav" for name in waves}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the demo's pictures, as every bundle of its space can search them."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "pictures").mkdir()
    for picture in sorted((DEMO / "pictures").rglob("*.webp"))[:3]:
        shutil.copy(picture, folder / "pictures")
    where = ["--bundle", str(DEMO / "bundle"), "--library", str(folder / "l.sqlite")]
    assert main(["index", str(folder / "pictures"), *where]) == 0
    return folder / "l.sqlite"


GOOD = ("noise", "two speakers", "instant", "many units")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_answers_and_explains(
    kind: str, exported: Callable[[str], Path], recordings: dict[str, Path], library: Path, run: Run
) -> None:
    where = ["--bundle", exported(kind), "--library", library, "--json"]
    spoken = list(itertools.chain.from_iterable(("--speech", recordings[what]) for what in GOOD))
    status, out, err = run("search", *spoken, *where)
    assert (status, err) == (0, "")
    hits = json.loads(out)["hits"]
    assert len(hits) == 3
    assert np.isfinite([hit["score"] for hit in hits]).all()
    status, out, err = run("search", *spoken, "--explain", *where)
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
@pytest.mark.parametrize("kind", ["hybrid", "segmental"])
def test_what_cannot_be_searched_with_is_refused_in_a_line(
    kind: str,
    what: str,
    message: str,
    exported: Callable[[str], Path],
    recordings: dict[str, Path],
    library: Path,
    run: Run,
) -> None:
    explain = ["--explain"] if kind == "segmental" else []
    where = ["--bundle", exported(kind), "--library", library]
    status, out, err = run("search", "--speech", recordings[what], *explain, *where)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
