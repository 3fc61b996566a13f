"""Pickled module trees of TorchScript made by hand: what is rebuilt from them, and what is refused before it runs."""

from __future__ import annotations

import contextlib
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.torchscript import read_torchscript


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_torchscript(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def scripted(tmp_path: Path, tree: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """An archive of TorchScript with ``tree`` as its ``data.pkl``."""
    path = tmp_path / "made.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made/data.pkl", tree)
        archive.writestr("made/constants.pkl", b"\x80\x02).")
        for key, data in (storages or {}).items():
            archive.writestr(f"made/data/{key}", data)
    return path


def module(*attributes: bytes) -> bytes:
    """A pickled module with attributes, as TorchScript writes it; each is a name and a value in opcodes."""
    return b"\x80\x02c__torch__.a.b\nModel\n)\x81}(" + b"".join(attributes) + b"ub."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def storage(key: str, kind: str, count: int) -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cuda:0") + number(count) + b"tQ"


def tensor(where: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    sizes = b"".join(b"(" + b"".join(map(number, part)) + b"t" for part in (size, stride))
    ordered = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + where + number(offset) + sizes + b"\x89" + ordered + b"tR"


FLOATS = torch.arange(6, dtype=torch.float32)
SIX = {"0": FLOATS.numpy().tobytes()}


def test_an_archive_made_by_hand(tmp_path: Path) -> None:
    """Strides and offsets are honoured, storages are shared, and the device it was saved on does not matter."""
    whole = storage("0", "FloatStorage", 6)
    tree = module(
        text("a"), tensor(whole, 0, (3, 2), (1, 3)),
        text("training"), b"\x88", text("none"), b"N",
        text("b"), module(text("c"), tensor(whole, 5, (), ()))[2:-1],
    )  # fmt: skip
    found = read_torchscript(scripted(tmp_path, tree, SIX))
    assert list(found) == ["a", "b.c"]
    assert torch.equal(found["a"], FLOATS.reshape(2, 3).t())
    assert float(found["b.c"]) == 5.0


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (module(text("a"), b"cos\nsystem\n" + text("x") + b"\x85R"), "(GLOBAL os.system) and was not run"),
        (b"\x80\x02cbuiltins\neval\n" + text("1") + b"\x85R.", "(GLOBAL builtins.eval)"),
        (b"\x80\x02ctorch.serialization\nload\n.", "(GLOBAL torch.serialization.load)"),
        (b"\x80\x02c__torch__\nX\n" + number(1) + b"\x85\x81.", "(a module with arguments)"),
        (b"\x80\x02c__torch__\nX\n)\x81" + number(1) + b"b.", "(a module whose state is no dictionary of names)"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "(a changed function)"),
        (b"\x80\x02" + storage("0", "FloatStorage", 6) + b"}b.", "(a changed storage)"),
        (b"\x80\x02" + tensor(number(1), 0, (1,), (1,)) + b".", "(a tensor without storage)"),
        (b"\x80\x02" + text("x") + b"Q.", "(the reference x)"),
        (module(text("a"), tensor(storage("0", "FloatStorage", 6), 1, (3, 2), (1, 3))), "out of bounds"),
        (module(text("a"), tensor(storage("0", "FloatStorage", 6), 0, (9,), (0,))), "9 elements in a storage of 6"),
        (module(text("a"), tensor(storage("0", "FloatStorage", 6), 0, (2,), (-1,))), "of size (2,) and stride (-1,)"),
        (module(text("a"), tensor(storage("0", "FloatStorage", 9), 0, (2,), (1,))), "has 24 bytes, wanted 36"),
        (module(text("a"), tensor(storage("0", "HalfStorage", 6), 0, (2,), (1,))), "has 24 bytes, wanted at most 12"),
        (module(text("a"), tensor(storage("1", "FloatStorage", 6), 0, (2,), (1,))), "made/data/1 is missing"),
        (module(text("a"), tensor(storage("../0", "FloatStorage", 6), 0, (2,), (1,))), "is missing"),
        (b"\x80\x02c__torch__\nX\n)\x81q\x00}(" + text("self") + b"h\x00ub.", "a tree without end"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "a memo of 4294967295 places"),
        (b"\x80\x02(((", "is damaged or cut short (data.pkl:"),
        (b"", "is damaged or cut short (data.pkl:"),
    ],
)  # fmt: skip
def test_trees_that_are_refused(tree: bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(scripted(tmp_path, tree, SIX))


@given(tree=st.lists(st.sampled_from([
    b"\x80\x02", b"c__torch__\nX\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n", b"cos\nmkdir\n", b")", b"(", b"t", b"}", b"]", b"R", b"\x81", b"b", b"Q", b"u", b"s",
    b"a", b"e", b"N", b"0", b"2", b"q\x00", b"h\x00", b"\x85", b"\x86", text("0"), text("storage"), number(-1),
    number(6), b".",
]), max_size=30))  # fmt: skip
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pickle_is_read_or_refused(tree: list[bytes], tmp_path: Path) -> None:
    with contextlib.suppress(CheckpointError):
        found = read_torchscript(scripted(tmp_path, b"".join(tree), SIX))
        assert all(isinstance(value, Tensor) for value in found.values())


def test_big_endian_weights(tmp_path: Path) -> None:
    path = scripted(tmp_path, module())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("made/byteorder", "big")
    assert "is of a big-endian machine" in refused(path)
