"""The container of a Lightning checkpoint: damaged, hostile or foreign files are refused, and nothing in them runs."""

from __future__ import annotations

import contextlib
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechclip_parts import foreign_class, save

from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.lightning import read_lightning

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}
CONFIG = {"model": {"heads": 4, "sizes": [1, 2]}, "name": "tiny"}


class Payload:
    """Unpickled as usual it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return Path.touch, (self.mark,)


class Shell(Payload):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        import os

        return os.system, (f"touch {self.mark}",)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_lightning(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_tensors_and_configuration(tmp_path: Path) -> None:
    file = read_lightning(save(tmp_path / "a.ckpt", STATE, CONFIG))
    assert file.config == CONFIG
    assert file.version == "1.5.10"
    assert {key: value.tolist() for key, value in file.tensors.items()} == {k: v.tolist() for k, v in STATE.items()}


def test_what_released_files_hold_beside_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace, a logger and a function, none of whose packages is installed or imported here."""
    with monkeypatch.context() as patch:
        namespace = foreign_class(patch, "avssl.base.ordered_namespace.OrderedNamespace")
        logger = foreign_class(patch, "pytorch_lightning.loggers.wandb.WandbLogger")
        inner, outer, log = namespace(), namespace(), logger()
        inner.__dict__.update(nhead=8)
        log.__dict__.update(project="p", offset=-1)
        outer.__dict__.update(branch=inner, logger=log, reduce=np.mean, rate=0.5)
        path = save(tmp_path / "a.ckpt", STATE, outer)
    file = read_lightning(path)
    assert file.config == {
        "branch": {"nhead": 8},
        "logger": {"project": "p", "offset": -1},
        "reduce": None,
        "rate": 0.5,
    }
    assert not {"avssl", "pytorch_lightning", "wandb"} & set(sys.modules)


@pytest.mark.parametrize("payload", [Payload, Shell])
@pytest.mark.parametrize("place", ["hyper_parameters", "callbacks", "state_dict"])
def test_a_pickle_that_runs_code_is_refused_before_it_runs(payload: type[Payload], place: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = save(tmp_path / "a.ckpt", STATE, CONFIG, **{place: {"x": payload(mark)}})
    message = refused(path)
    assert "was not run" in message
    assert f"names {'posix.system' if payload is Shell else 'builtins.getattr'}, which no" in message
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the payload is a live one
    assert mark.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"state_dict": Payload(mark)}))
    assert "damaged or cut short (File is not a zip file) and was not run" in refused(tmp_path / "a.ckpt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dict": {}}, "has no state_dict"),
        ({"state_dict": {"a": 3}}, "state_dict holds 'a', wanted names of tensors alone"),
        ({"state_dict": {7: torch.ones(1)}}, "state_dict holds '7'"),
        ({"hyper_parameters": {}}, "has no hyper_parameters.config"),
        ({"hyper_parameters": None}, "has no hyper_parameters.config"),
    ],
)
def test_other_contents_are_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    assert message in refused(save(tmp_path / "a.ckpt", STATE, CONFIG, **change))


def test_no_dictionary(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.ckpt")
    assert "holds a list" in refused(tmp_path / "a.ckpt")


def test_no_file(tmp_path: Path) -> None:
    assert "is no file" in refused(tmp_path / "missing.ckpt")
    assert "is no file" in refused(tmp_path)


def test_configuration_without_end(tmp_path: Path) -> None:
    nested: dict[str, Any] = {}
    for _ in range(100):
        nested = {"a": nested}
    assert "more than 64 levels" in refused(save(tmp_path / "a.ckpt", STATE, nested))


def rewrite(path: Path, method: int, twice: bool) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if twice:
            archive.writestr(next(name for name in members if name.endswith("data/0")), bytes(48))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    """Mapped from the file they would be read as numbers."""
    path = save(tmp_path / "a.ckpt", STATE, CONFIG)
    rewrite(path, zipfile.ZIP_DEFLATED, twice=False)
    assert "wanted it unpacked, as torch stores tensors" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    """Else the sums of one could be checked and the other be read."""
    path = save(tmp_path / "a.ckpt", STATE, CONFIG)
    rewrite(path, zipfile.ZIP_STORED, twice=True)
    assert "twice, wanted it once" in refused(path)


@pytest.fixture(scope="module")
def whole() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(Path(folder) / "a.ckpt", STATE, CONFIG).read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_truncated(whole: bytes, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, len(whole) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        path.write_bytes(whole[:keep])
        refused(path)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_refused_or_harmless(whole: bytes, data: st.DataObject) -> None:
    """A date or a padding byte of the zip may change; no weight and no setting can."""
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    broken = bytearray(whole)
    broken[place] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        path.write_bytes(broken)
        with contextlib.suppress(CheckpointError):
            file = read_lightning(path)
            assert file.config == CONFIG
            assert all(torch.equal(file.tensors[key], value) for key, value in STATE.items())


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    """torch would hand it to its interpreter, allow-list or not."""
    path = tmp_path / "a.ckpt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    assert "is a TorchScript archive and was not run" in refused(path)
