"""Checkpoints of CLIP4VLA: what is read equals what was written, and what is wrong with one is said in one line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clip4vla_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sayclip.errors import InputError
from sayclip_export.readers.clip4vla import Clip4VlaCheckpoint, arrange, read_clip4vla
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[reference.Clip4Vla, Path]:
    path = tmp_path_factory.mktemp("clip4vla") / "pytorch_model.bin.4"
    return reference.write(path), path


@pytest.fixture(scope="module")
def state(written: tuple[reference.Clip4Vla, Path]) -> State:
    return written[0].checkpoint()


@pytest.fixture(scope="module")
def shapes(state: State) -> State:
    return {key: value.to("meta") for key, value in state.items()}


def read(path: Path, **values: str) -> Clip4VlaCheckpoint:
    return read_clip4vla(path, Overrides({key.replace("__", "."): value for key, value in values.items()}))


def refused(path: Path, message: str, **values: str) -> str:
    """The one-line message of the refusal, which names the file and matches ``message``."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path, **values)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@torch.inference_mode()
def assert_equal(checkpoint: Clip4VlaCheckpoint, model: reference.Clip4Vla) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, reference.SIDE, reference.SIDE, generator=rng)
    mix = torch.tensor([0.0, 0.5, 1.0])
    ids = torch.randint(0, 60, (3, 9), generator=rng, dtype=torch.int32)
    length = torch.tensor([9, 3, 5], dtype=torch.int32)
    pairs = (
        (checkpoint.audio(images, mix), model.audio.visual(images, mix)),
        (checkpoint.image(images), model.clip.visual(images)),
        (checkpoint.text(ids, length), model.clip(ids, length)),
    )
    for seen, wanted in pairs:
        assert seen.shape == wanted.shape == (3, reference.JOINT)
        assert float((seen - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("cross", ["CLIP-like", "BERT-like", ""])
def test_towers_equal_what_was_written(tmp_path: Path, cross: str) -> None:
    path = tmp_path / "pytorch_model.bin.pretrain.0"
    model = reference.write(path, cross=cross)
    checkpoint = read(path)
    assert_equal(checkpoint, model)
    assert checkpoint.cross == cross
    towers = (checkpoint.audio, checkpoint.image, checkpoint.text)
    assert {parameter.dtype for tower in towers for parameter in tower.parameters()} == {torch.float32}
    assert not any(tower.training or next(tower.parameters()).requires_grad for tower in towers)
    assert (checkpoint.audio_config.heads, checkpoint.image_config.heads, checkpoint.text_config.heads) == (1, 2, 1)
    assert (checkpoint.text_config.layers, checkpoint.text_config.vocabulary, checkpoint.context) == (3, 60, 32)
    assert (checkpoint.log_mel.mels, checkpoint.log_mel.edge, checkpoint.log_mel.type_mix) == (32, "reflect", 0.5)
    assert checkpoint.dropped["the temperature of training"] == 1
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.weights_sha256)


def test_other_ways_to_save_it(tmp_path: Path, written: tuple[reference.Clip4Vla, Path], state: State) -> None:
    path = tmp_path / "model"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    assert_equal(read(path), written[0])
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_equal(read(path), written[0])
    torch.save({key: value.half() for key, value in state.items()}, path)
    assert_equal(read(path), written[0])
    torch.save(written[0].state_dict(), path)  # with the versions that a module notes beside its tensors
    assert_equal(read(path), written[0])


def test_what_a_checkpoint_leaves_open_can_be_told(written: tuple[reference.Clip4Vla, Path]) -> None:
    told = read(
        written[1],
        image__heads="4",
        audio__edge="zero",
        audio__segments="6",
        audio__cut="head",
        audio__type_mix="1",
        text__context="48",
    )
    assert told.image_config.heads == 4
    how = told.log_mel
    assert (how.edge, how.max_segments, how.cut, how.type_mix, told.context) == ("zero", 6, "head", 1.0, 48)
    for wrong in (
        {"audio__edge": "mirror"},
        {"audio__type_mix": "2"},
        {"audio__type_mix": "nan"},
        {"audio__type_mix": "speech"},
        {"audio__segments": "0"},
        {"text__context": "2"},
        {"hubert__heads": "4"},
    ):
        with pytest.raises(InputError, match=next(iter(wrong)).replace("__", r"\.")):
            read(written[1], **wrong)


def test_heads_that_no_width_tells(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.WIDTHS, "audio", 48)
    model = reference.write(tmp_path / "model")
    refused(tmp_path / "model", r"48 wide, which does not tell how many heads.*--set audio\.heads=NUMBER")
    assert_equal(read(tmp_path / "model", audio__heads="1"), model)
    refused(tmp_path / "model", "5 heads do not divide the audio tower's width, 48", audio__heads="5")


# Keys


def change(key: str, value: Tensor | None) -> Callable[[State], object]:
    return (lambda state: state.pop(key)) if value is None else (lambda state: state.update({key: value}))


AUDIO, BLOCK = "audio.visual.", "transformer.resblocks.1."
KEYS = {
    "no control": (change(f"{AUDIO}control_embedding", None), "lacks audio.visual.control_embedding, wanted .2, 64."),
    "background token": (
        change(f"{AUDIO}bg_embedding", torch.zeros(64)),
        "holds audio.visual.bg_embedding, a variant with a background token, wanted control_embedding",
    ),
    "no patches": (change(f"{AUDIO}conv1.weight", None), "lacks audio.visual.conv1.weight"),
    "no norm": (change("clip.visual.ln_pre.bias", None), r"lacks clip.visual.ln_pre.bias, wanted \[128\]"),
    "no projection": (change("clip.text_projection", None), "lacks clip.text_projection"),
    "no attention": (
        change(f"clip.{BLOCK}attn.in_proj_weight", None),
        rf"lacks clip.{BLOCK}attn.in_proj_weight, wanted \[192, 64\]",
    ),
    "other width": (
        change(f"{AUDIO}proj", torch.zeros(64, 33)),
        r"its towers end in the widths \[32, 33\], wanted one for all",
    ),
    "other norm": (
        change("clip.ln_final.weight", torch.zeros(65)),
        r"ln_final.weight has the shape \[65\], wanted \[64",
    ),
    "transposed": (
        change(f"clip.{BLOCK}mlp.c_fc.weight", torch.zeros(64, 128)),
        r"c_fc.weight has the shape \[64, 128\], wanted \[128, 64\]",
    ),
    "no square": (
        change(f"{AUDIO}positional_embedding", torch.zeros(8, 64)),
        r"positional_embedding has the shape \[8, 64\], wanted a row for each patch of a square and 2 more",
    ),
    "flat patches": (change(f"{AUDIO}conv1.weight", torch.zeros(64, 768)), "wanted 4 dimensions"),
    "one channel": (change(f"{AUDIO}conv1.weight", torch.zeros(64, 1, 16, 16)), "wanted square patches of 3"),
    "empty": (change("clip.token_embedding.weight", torch.zeros(0, 64)), "none of them empty"),
    "layer gap": (
        lambda state: [state.pop(key) for key in list(state) if "clip.transformer.resblocks.1." in key],
        r"has the layers \[0, 2\] of clip.transformer.resblocks",
    ),
    "NaN": (change("clip.visual.proj", torch.full((128, 32), torch.nan)), "clip.visual.proj holds NaN or infinity"),
    "integers": (change("clip.ln_final.bias", torch.zeros(64, dtype=torch.int64)), "ln_final.bias is int64"),
    "unknown": (
        change("clip.visual.adapter.weight", torch.zeros(1)),
        "holds clip.visual.adapter.weight, which CLIP4VLA",
    ),
    "unknown cross": (
        lambda state: state.update({f"cross.transformer.resblocks.0.{x}": torch.zeros(1) for x in ("gate", "hate")}),
        "holds cross.transformer.resblocks.0.gate and 1 more keys",
    ),
    "both layouts": (
        change("cross.pooler.dense.bias", torch.zeros(1)),
        "holds cross.* in the layouts CLIP-like and BERT-like",
    ),
    "no audio": (
        lambda state: [state.pop(key) for key in list(state) if key.startswith("audio.")],
        "holds clip.ln_final.bias, but no audio.visual.",
    ),
    "nothing": (lambda state: state.clear(), "holds nothing, but no audio.visual."),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_and_shapes(name: str, state: State, tmp_path: Path) -> None:
    damage, message = KEYS[name]
    damaged = dict(state)
    damage(damaged)
    torch.save(damaged, tmp_path / "model")
    refused(tmp_path / "model", message)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_tower_s_key_may_be_missing_or_misshapen(shapes: State, data: st.DataObject) -> None:
    """Taken away or with one row more; only the tables of tokens and positions may well have more."""
    key = data.draw(
        st.sampled_from([key for key in shapes if not key.startswith(("cross.", "similarity", "clip.logit"))])
    )
    damaged = dict(shapes)
    del damaged[key]
    longer = data.draw(st.booleans()) and key not in ("clip.token_embedding.weight", "clip.positional_embedding")
    if longer:
        damaged[key] = torch.empty([shapes[key].shape[0] + 1, *shapes[key].shape[1:]], device="meta")
    with pytest.raises(CheckpointError) as caught:
        arrange(damaged, Path("model"), Overrides())
    assert longer or key in str(caught.value)  # a row too many may make its neighbours wrong, which come first


def test_the_audio_tower_alone_has_no_space(tmp_path: Path, state: State) -> None:
    alone = {key.removeprefix("audio."): value for key, value in state.items() if key.startswith("audio.")}
    torch.save(alone, tmp_path / "model")
    refused(tmp_path / "model", "holds an audio tower alone, wanted the image and text towers of its space too")


def test_a_view_that_claims_more_than_there_is(tmp_path: Path, state: State) -> None:
    torch.save({**state, "clip.token_embedding.weight": torch.zeros(1).expand(1 << 40, 64)}, tmp_path / "model")
    assert (tmp_path / "model").stat().st_size < 1 << 22
    refused(tmp_path / "model", r"token_embedding.weight has the shape \[1099511627776, 64\], more than the file holds")


@pytest.mark.parametrize("odd", [torch.eye(64).to_sparse(), torch.empty(60, 64, device="meta")])
def test_tensors_without_plain_values(tmp_path: Path, state: State, odd: Tensor) -> None:
    torch.save({**state, "clip.token_embedding.weight": odd}, tmp_path / "model")
    refused(tmp_path / "model", r"clip\.token_embedding\.weight is torch\.\w+ on \w+, wanted plain values")


# Damage


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_short(written: tuple[reference.Clip4Vla, Path], tmp_path: Path, part: float) -> None:
    data = written[1].read_bytes()
    (tmp_path / "model").write_bytes(data[: int(len(data) * part)])
    refused(tmp_path / "model", "is damaged")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_harmless(
    written: tuple[reference.Clip4Vla, Path], tmp_path: Path, place: float, bit: int
) -> None:
    """A bit of what is stored is caught by its checksum; one of the archive's own padding changes nothing."""
    data = bytearray(written[1].read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (tmp_path / "model").write_bytes(data)
    checkpoint = None
    with contextlib.suppress(CheckpointError):
        checkpoint = read(tmp_path / "model")
    if checkpoint is not None:
        assert_equal(checkpoint, written[0])


def test_a_flipped_bit_in_a_weight(written: tuple[reference.Clip4Vla, Path], tmp_path: Path) -> None:
    """torch alone would read it: see that the checksum is what refuses it."""
    data = bytearray(written[1].read_bytes())
    with zipfile.ZipFile(written[1]) as archive:
        member = max(archive.infolist(), key=lambda one: one.file_size)
    data[member.header_offset + 1000] ^= 1
    (tmp_path / "model").write_bytes(data)
    torch.load(tmp_path / "model", weights_only=True)
    refused(tmp_path / "model", rf"is damaged or cut short \(Bad CRC-32 for file '{member.filename}'\)")


def test_a_compressed_archive(written: tuple[reference.Clip4Vla, Path], tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(written[1]) as source,
        zipfile.ZipFile(tmp_path / "model", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    refused(tmp_path / "model", "wanted it unpacked, as torch stores tensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or holds something else than tensors"),
        (b"not a checkpoint", "is damaged or holds something else"),
        (b"PK\x03\x04" + b"\0" * 100, "is damaged or cut short"),
        ([1, 2], "holds a list, wanted a state dict"),
        ({"epoch": 3}, "holds a dict, wanted a state dict"),
        ({"state_dict": {}}, "holds a dict, wanted a state dict"),
    ],
)
def test_something_else(tmp_path: Path, content: Any, message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "model").write_bytes(content)
    else:
        torch.save(content, tmp_path / "model")
    refused(tmp_path / "model", message)


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "gone", "cannot be read .No such file")
    refused(tmp_path, "is a folder, wanted the file")


# Code


class Payload:
    """Unpickled, it writes a file: a live payload, which must never run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("archive", [True, False])
def test_a_live_payload_is_refused_before_it_runs(tmp_path: Path, state: State, archive: bool) -> None:
    target = tmp_path / "ran"
    hostile: Any = {**state, "clip.extra": Payload(target)}
    torch.save(hostile, tmp_path / "model", _use_new_zipfile_serialization=archive)
    message = refused(tmp_path / "model", "was not run")
    assert "mkdir" in message
    assert not target.exists()
    with (tmp_path / "model").open("rb") as file:  # it is live: an ordinary unpickler runs it
        torch.load(io.BytesIO(file.read()), weights_only=False)
    assert target.exists()


def test_a_bare_pickle_with_a_payload(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (tmp_path / "model").write_bytes(pickle.dumps(Payload(target), protocol=2))
    refused(tmp_path / "model", "was not run")
    assert not target.exists()


def test_weights_are_the_file_s_own(written: tuple[reference.Clip4Vla, Path], state: State) -> None:
    """The three thirds of an attention's rows lie where they belong."""
    checkpoint = read(written[1])
    whole = state[f"{AUDIO}{BLOCK}attn.in_proj_weight"].float().numpy()
    tower = checkpoint.audio.state_dict()
    parts = [tower[f"blocks.1.attention.{name}_proj.weight"].numpy() for name in "qkv"]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
