"""Damaged and hostile checkpoints: one line each, nothing run, and no flipped bit that goes unnoticed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sayclip_export.readers.archive import open_archive
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.state_dict import load
from sayclip_export.readers.tensors import load_pickle

State = dict[str, Tensor]
FORMS = ("archive", "pickle")


def tiny() -> State:
    """A few tensors of several kinds."""
    generator = torch.Generator().manual_seed(0)
    return {
        "visual.proj": torch.randn(3, 4, generator=generator),
        "visual.ln_post.bias": torch.randn(5, generator=generator).half(),
        "vocab_size": torch.tensor(60),
    }


@pytest.fixture(scope="module")
def whole(writers: dict[str, Callable[..., Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    return {form: writers[form](folder / form, tiny()).read_bytes() for form in (*FORMS, "safetensors")}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def rezip(source: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None], **options: Any) -> bytes:
    """The archive again, member by member; CRCs are those of the new content."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(source)) as old, zipfile.ZipFile(out, "w", **options) as new:
        for member in old.infolist():
            changed = change(member.filename, old.read(member))
            if changed is not None:
                new.writestr(*changed)
    return out.getvalue()


def test_every_form_is_read(whole: dict[str, bytes], tmp_path: Path) -> None:
    kinds = []
    for form, data in whole.items():
        (tmp_path / form).write_bytes(data)
        tensors, kind = load(tmp_path / form)
        assert equal(tensors, tiny())
        kinds.append(kind)
    assert kinds == ["TorchScript archive", "state dict", "safetensors"]


@pytest.mark.parametrize("form", ["archive", "pickle", "safetensors"])
@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused_or_changes_nothing(
    form: str, whole: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    """Of safetensors, which has no checksum, only that nothing but a refusal comes out of its header."""
    content = bytearray(whole[form])
    end = len(content) if form != "safetensors" else 8 + struct.unpack("<Q", content[:8])[0]
    content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flipped").write_bytes(content)
    with contextlib.suppress(CheckpointError):
        tensors, _ = load(tmp_path / "flipped")
        assert form == "safetensors" or equal(tensors, tiny())


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_weight_is_refused(form: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """torch itself does not look: it would give another weight."""
    weight = tiny()["visual.proj"].numpy().tobytes()
    content = bytearray(whole[form])
    content[content.index(weight) + 2] ^= 4
    path = tmp_path / "flipped.pt"
    path.write_bytes(content)
    if form == "pickle":
        assert not equal(torch.load(path, weights_only=True), tiny())
    assert "is damaged or cut short (Bad CRC-32 for file" in refused(path)


@pytest.mark.parametrize("form", [*FORMS, "safetensors"])
@pytest.mark.parametrize("keep", [0, 3, 4, 9, 200, -1, -30, -400])
def test_a_truncated_file(form: str, keep: int, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(whole[form][:keep])
    assert any(word in refused(path) for word in ("damaged", "begins with"))


class Payload:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("form", [*FORMS, "old pickle"])
def test_a_payload_is_refused_and_not_run(form: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "hostile.pt"
    state = {"visual.proj": torch.ones(2), "x": Payload(made)}
    if form == "archive":
        hostile = pickle.dumps({"x": Payload(made)}, protocol=2)
        path.write_bytes(rezip(whole[form], lambda n, d: (n, hostile if n.endswith("/data.pkl") else d)))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "pickle")
    message = refused(path)
    assert "mkdir" in message
    assert "was not run" in message
    assert not made.exists()
    pickle.loads(pickle.dumps(Payload(made)))  # the payload is live
    assert made.exists()


def test_the_code_of_an_archive_is_never_read(whole: dict[str, bytes], tmp_path: Path) -> None:
    """What ``torch.jit.load`` would compile may be anything."""
    data = rezip(whole["archive"], lambda n, d: (n, b"import os; os.abort()" if "/code/" in n else d))
    (tmp_path / "x.pt").write_bytes(data)
    assert equal(load(tmp_path / "x.pt")[0], tiny())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "made/../../evil", "a\\b", "C:/evil", "made//x", "made/./x", "made/folder/", ""]
)
def test_member_names_that_leave_the_folder(form: str, name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(whole[form])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    before = sorted(tmp_path.rglob("*"))
    assert "wanted plain files that stay in one folder" in refused(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive(whole: dict[str, bytes], tmp_path: Path) -> None:
    link = zipfile.ZipInfo("archive/data/9")
    link.external_attr = 0o120777 << 16
    (tmp_path / "x.pt").write_bytes(whole["archive"])
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "wanted plain files that stay in one folder" in refused(tmp_path / "x.pt")


def test_two_folders_in_an_archive(whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(whole["archive"])
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr("other/data.pkl", b"x")
    assert "has members in 2 folders, wanted one" in refused(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(whole["archive"])
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data.pkl")), b"\x80\x02N.")
    assert "data.pkl' twice, wanted it once" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("form", FORMS)
def test_a_zip_bomb(form: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """50 MB of zeros in 50 kB: refused by what the archive says of itself, before any of it is unpacked."""
    bomb = rezip(
        whole[form],
        lambda n, d: (n, bytes(50 << 20) if n.endswith("/data/0") else d),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 200_000
    (tmp_path / "bomb.pt").write_bytes(bomb)
    assert "wanted it unpacked, as torch stores tensors" in refused(tmp_path / "bomb.pt")


def test_members_that_overlap(tmp_path: Path) -> None:
    """A directory in which many entries claim the same bytes."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", bytes(5000))
        first = archive.getinfo("a/constants.pkl")
        for place in range(50):
            again = zipfile.ZipInfo(f"a/data/{place}")
            again.CRC, again.compress_size, again.file_size = first.CRC, first.compress_size, first.file_size
            again.header_offset, again.external_attr = first.header_offset, first.external_attr
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    assert "has members of 255000 bytes together, the file has" in refused(path)


def test_an_encrypted_member(whole: dict[str, bytes], tmp_path: Path) -> None:
    content = bytearray(whole["archive"])
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.pt").write_bytes(content)
    assert "has the encrypted member" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x1f\x8b gzip", b"PK", b"\x89HDF"])
def test_files_of_another_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    message = refused(tmp_path / "x.pt")
    assert f"begins with {content[:4]!r}, wanted a checkpoint" in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in place of a file, because the superuser of a container may read any file."""
    path = tmp_path / "pytorch_model.bin"
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read \(Is a directory\)"):
        load_pickle(path, "remedy")


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    for value in (torch.ones(3), {"epoch": 3}, {"state_dict": [torch.ones(1)]}, {3: torch.ones(1)}):
        torch.save(value, tmp_path / "x.pt")
        assert "wanted a state dict of tensors by name" in refused(tmp_path / "x.pt")


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path / "x.pt")


def test_an_archive_is_left_closed(whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(whole["archive"])
    with open_archive(tmp_path / "x", "remedy") as archive:
        assert archive.namelist()
    assert archive.fp is None
