"""A trained pronunciation encoder becomes part of a bundle, or is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import sayclip
from sayclip.bundle.entries import G2P
from sayclip.bundle.manifest import Manifest
from sayclip_export import rtx
from sayclip_export.models.text import PronunciationTower, TextConfig
from sayclip_export.phonemes.chart import folded_matrix, load_chart, write_inventory
from sayclip_export.pronunciation_export import phoneme_feed
from sayclip_export.readers.pronunciation import (
    PronunciationCheckpoint,
    read_pronunciation,
    write_pronunciation,
)

Run = Callable[..., tuple[int, str, str]]
DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo" / "bundle"
SAID = ("ɹɛd æpəl", "kæt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> PronunciationCheckpoint:
    """Random weights over the phonemes of two words, in the space of the demo's width."""
    torch.manual_seed(0)
    content = write_inventory(tmp_path_factory.mktemp("chart") / "phonemes.json", load_chart(), set("ɹɛdæpəlkt"))
    attributes = torch.from_numpy(folded_matrix(content))
    tower = PronunciationTower(TextConfig(len(attributes), 32, 2, 4, 48, 20, 128), attributes)
    torch.nn.init.normal_(tower.phonemes.residual, std=0.05)
    return PronunciationCheckpoint(tower.eval(), content, G2P("espeak-ng", "1.52.0", "en-us"), "some-space", "by hand")


@pytest.fixture
def file(checkpoint: PronunciationCheckpoint, tmp_path: Path) -> Path:
    path = tmp_path / "pronunciation.safetensors"
    write_pronunciation(path, checkpoint)
    return path


def test_what_is_written_is_read(checkpoint: PronunciationCheckpoint, file: Path) -> None:
    read = read_pronunciation(file)
    assert (read.phonemes, read.g2p, read.space, read.history) == (
        *(checkpoint.phonemes, checkpoint.g2p, checkpoint.space, checkpoint.history),
    )
    ids, length = (torch.from_numpy(value) for value in phoneme_feed([[1, 6, 7, 2], [1, 9, 2]]).values())
    with torch.no_grad():
        assert torch.equal(read.tower(ids, length), checkpoint.tower(ids, length))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_command_writes_a_bundle_that_pronounces_as_torch_does(
    checkpoint: PronunciationCheckpoint, file: Path, run: Run
) -> None:
    out = file.parent / "bundle"
    status, printed, err = run("export", "pronunciation", file, "--out", out)
    assert status == 0, err
    assert printed.startswith(f"wrote {out}: pronunciation ")
    entry = Manifest.read(out).entry("pronunciation")
    assert (entry.space, entry.width) == ("some-space", 128)
    assert entry.measured["torch_max_abs_difference"] < 1e-5
    assert entry.provenance["training"] == "by hand"
    with sayclip.load(out) as encoder:
        said = encoder.pronunciation(list(SAID))
        inventory = encoder._preparation.pronunciations(list(SAID), 0, 2)
    feed = phoneme_feed([ids.tolist() for ids in inventory])
    with torch.no_grad():
        wanted = checkpoint.tower(*(torch.from_numpy(value) for value in feed.values())).numpy()
    assert np.abs(said - wanted).max() < 1e-5


def test_it_replaces_that_of_a_bundle_of_its_space_alone(
    checkpoint: PronunciationCheckpoint, tmp_path: Path, run: Run
) -> None:
    """The demo's notice and other encoders stay; a bundle of another space is left as it was."""
    before = Manifest.read(DEMO)
    out = tmp_path / "demo"
    shutil.copytree(DEMO, out)
    other, fitting = tmp_path / "other.safetensors", tmp_path / "fitting.safetensors"
    write_pronunciation(other, checkpoint)
    status, _, err = run("export", "pronunciation", other, "--out", out)
    assert status == 2
    assert "the checkpoint gives 'some-space'" in err
    assert Manifest.read(out) == before
    tower = checkpoint.tower
    rest = (checkpoint.phonemes, checkpoint.g2p, before.space, "by hand")
    write_pronunciation(fitting, PronunciationCheckpoint(tower, *rest))
    status, _, err = run("export", "pronunciation", fitting, "--out", out)
    assert status == 0, err
    after = Manifest.read(out)
    assert (after.name, after.notice, after.license) == (before.name, before.notice, before.license)
    assert {k: v for k, v in after.encoders.items() if k != "pronunciation"} == {
        k: v for k, v in before.encoders.items() if k != "pronunciation"
    }
    assert after.entry("pronunciation").provenance["training"] == "by hand"


@pytest.mark.skipif(not rtx.installed(), reason="tensorrt-rtx is not installed")
def test_nvidias_parser_and_builder_take_it(file: Path, run: Run) -> None:
    out = file.parent / "bundle"
    assert run("export", "pronunciation", file, "--out", out)[0] == 0
    assert rtx.build(out / "pronunciation.fp32.onnx").outputs == ("embedding",)


def changed(file: Path, change: Callable[[dict[str, Tensor], dict[str, str]], Any]) -> None:
    with safe_open(str(file), framework="pt") as opened:
        metadata = dict(opened.metadata())
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (the file is no mapping)
    change(tensors, metadata)
    save_file(tensors, str(file), metadata)


def config(**values: Any) -> Callable[[dict[str, Tensor], dict[str, str]], Any]:
    return lambda _, metadata: metadata.update(config=json.dumps(json.loads(metadata["config"]) | values))


def fill(key: str, value: float) -> Callable[[dict[str, Tensor], dict[str, str]], Any]:
    return lambda tensors, _: tensors[key].fill_(value)


def inventory(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Tensor], dict[str, str]], Any]:
    def apply(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        phonemes = json.loads(metadata["phonemes"])
        change(phonemes)
        metadata["phonemes"] = json.dumps(phonemes)

    return apply


BAD: dict[str, tuple[Callable[[dict[str, Tensor], dict[str, str]], Any], str]] = {
    "another format": (lambda _, m: m.update(format="x"), "has the format 'x', wanted"),
    "no config": (lambda _, m: m.pop("config"), "config is no JSON object"),
    "a size missing": (lambda _, m: m.update(config="{}"), "config: vocabulary is None"),
    "a huge size": (config(hidden=10**9), "hidden is 1000000000, wanted a whole number from 1 to"),
    "a large size": (config(hidden=4096), "has the shape"),
    "heads": (config(heads=5), "width 32 for 5 heads"),
    "other phonemes": (config(vocabulary=11), "its config says 11"),
    "a malformed inventory": (lambda _, m: m.update(phonemes="{}"), "phonemes is malformed"),
    "no g2p": (lambda _, m: m.update(g2p="{}"), "names no g2p"),
    "no space": (lambda _, m: m.pop("space"), "or no space"),
    "a key missing": (lambda t, _: t.pop("tower.projection.weight"), "lacks tower.projection.weight"),
    "a key too many": (lambda t, _: t.update(more=torch.zeros(1)), "has the unknown more"),
    "NaN": (fill("tower.projection.weight", float("nan")), "holds NaN or infinity"),
    "another chart": (fill("phonemes.attributes", 0.5), "attributes differ"),
    "a changed inventory": (inventory(lambda p: p["symbols"][9]["vector"].__setitem__(2, 0.25)), "whose hash it names"),
    "another hash": (inventory(lambda p: p.update(chart_sha256="0" * 64)), "whose hash it names (000000000000…)"),
    "marks that are none": (inventory(lambda p: p.update(marks=[])), "whose hash it names"),
    "an activation": (config(activation="relu"), "activation is 'relu', wanted 'quick_gelu' or 'gelu'"),
    "languages": (lambda _, m: m.update(g2p=json.dumps(json.loads(m["g2p"]) | {"also": "de"})), "names no g2p"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_disagrees_with_itself_is_refused_in_a_line(case: str, file: Path, run: Run) -> None:
    change, message = BAD[case]
    changed(file, change)
    status, out, err = run("export", "pronunciation", file, "--out", file.parent / "bundle")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, "cut", "missing", "folder"])
def test_what_is_no_such_file_is_refused_in_a_line(content: bytes | str, file: Path, run: Run) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        file.unlink()
        if content == "folder":
            file.mkdir()
    status, out, err = run("export", "pronunciation", file, "--out", file.parent / "bundle")
    assert (status, out) == (2, "")
    assert str(file) in err
    assert err.count("\n") == 1
