"""The file of a trained head: what is written is read, and what is none is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from segmental_parts import VARIANTS, encoder, feeds_as_tensors, random_waves
from torch import Tensor

from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.speech_head import FORMAT, SpeechHeadCheckpoint, read_speech_head, write_speech_head
from sayclip_export.speechclip_export import wave_feed


def write(path: Path, variant: str = "segmental") -> SpeechHeadCheckpoint:
    words = {number: f"word{number}" for number in range(3, 60)} if variant == "roberta" else {}
    checkpoint = SpeechHeadCheckpoint(encoder(variant), "some-space", "by hand", trim=variant != "cif", words=words)
    write_speech_head(path, checkpoint)
    return checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_written_is_read(variant: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    checkpoint = write(path, variant)
    read = read_speech_head(path)
    assert (read.space, read.history, read.trim) == ("some-space", "by hand", variant != "cif")
    assert len(read.sha256) == 64
    assert read.words == checkpoint.words
    assert (read.speech.kind, read.speech.head.config) == (VARIANTS[variant][0], VARIANTS[variant][1])
    feed = feeds_as_tensors(wave_feed(random_waves(9000, 4000)))
    with torch.no_grad():
        for one, two in zip(read.speech(*feed), checkpoint.speech(*feed), strict=True):
            assert torch.equal(one, two)
        for one, two in zip(read.speech.fold()(*feed), checkpoint.speech.fold()(*feed), strict=True):
            assert torch.equal(one, two)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_a_folded_encoder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folded, wanted it as it was trained"):
        write_speech_head(tmp_path / "head.safetensors", SpeechHeadCheckpoint(encoder("cif").fold(), "space", ""))
    assert not list(tmp_path.iterdir())


def changed(file: Path, change: Callable[[dict[str, Tensor], dict[str, str]], Any]) -> None:
    with safe_open(str(file), framework="pt") as opened:
        tensors, metadata = {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, str(file), metadata)


def configured(*path: str, value: Any) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    """``config`` with another value at ``path``; one of None is taken out."""

    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        config = json.loads(metadata["config"])
        inner = config
        for key in path[:-1]:
            inner = inner[key]
        inner.pop(path[-1], None)
        if value is not None:
            inner[path[-1]] = value
        metadata["config"] = json.dumps(config)

    return change


def with_tensor(name: str, value: Tensor) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda tensors, metadata: tensors.update({name: value})


CONV, TABLE = "tower.conv_1.weight", "head.reader.text.token_embedding.weight"
VARIANCE = "head.reader.norm.batch_norm.running_var"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(format="sayclip-pronunciation-1"), f"wanted '{FORMAT}'"),
        (lambda t, m: m.pop("format"), "has the format 'none'"),
        (lambda t, m: m.update(config="{"), "config is no JSON object"),
        (lambda t, m: m.update(config="[1]"), "config is no JSON object"),
        (lambda t, m: m.update(space=""), "names no space"),
        (lambda t, m: m.update(tokens="0" * 64), "the token table is not the one whose hash it names"),
        (lambda t, m: m.pop("tokens"), "the token table is not the one whose hash it names"),
        (lambda t, m: t.pop(CONV), f"lacks {CONV}"),
        (with_tensor("more", torch.zeros(3)), "has the unknown more"),
        (with_tensor(CONV, torch.zeros(3)), rf"{CONV} has the shape \[3\], wanted \[32, 80, 5\]"),
        (with_tensor(CONV, torch.zeros(32, 80, 5, dtype=torch.int32)), f"{CONV} is int32"),
        (with_tensor(CONV, torch.full((32, 80, 5), torch.nan)), f"{CONV} holds NaN or infinity"),
        (with_tensor(TABLE, torch.ones(60, 24)), "the token table is not the one"),
        (with_tensor(VARIANCE, torch.full((24,), -1.0)), "running_var reaches -1, wanted no variance below 0"),
        (configured("kind", value="other"), "kind is 'other', wanted 'parallel' or"),
        (configured("kind", value=None), "kind is None"),
        (configured("kind", value="parallel"), "lacks head.block."),
        (configured("head", value=None), "head is None, wanted an object"),
        (configured("head", "text", value=3), "text is 3, wanted an object"),
        (configured("head", "slots", value=19), "slots is 19, wanted 1 to 18"),
        (configured("head", "slots", value=10**12), "slots is 1000000000000, wanted a whole number from 1 to 8192"),
        (configured("head", "slots", value=True), "slots is True, wanted a whole number"),
        (configured("head", "layers", value=10**4), "layers is 10000, wanted a whole number from 0 to 128"),
        (configured("head", "layers", value=2), "lacks head.blocks.1"),
        (configured("head", "eps", value=0), "eps is 0, wanted a number above 0"),
        (configured("head", "threshold", value=2.0), "threshold is 2 and eps"),
        (configured("head", "vocabulary", value="all"), "vocabulary is 'all'"),
        (configured("head", "width", value=64), "the head reads frames of 64, the tower gives 32"),
        (configured("head", "text", "vocabulary", value=61), r"wanted \[61\]|wanted \[61, 24\]"),
        (configured("head", "text", "heads", value=5), "text width is 24 for 5 heads"),
        (configured("head", "text", "activation", value="relu"), "activation is 'relu'"),
        (configured("speech", value=None), "speech is None, wanted an object"),
        (configured("speech", "heads", value=5), "width 32 for 5 heads"),
        (configured("speech", "window", value=0), "window is 0, wanted a whole number from 1"),
        (configured("speech", "layers", value="2"), "layers is '2', wanted a whole number"),
        (configured("trim", value="yes"), "trim is 'yes', wanted true or false"),
    ],
)
def test_a_file_at_odds_with_itself_is_refused(change: Any, message: str, file: Path) -> None:
    changed(file, change)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_speech_head(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy


def worded(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    """``words`` otherwise."""

    def changed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        words = json.loads(metadata["words"])
        change(words)
        metadata["words"] = json.dumps(words)

    return changed


BRIDGE, BARRED = "head.reader.to_space.weight", "head.reader.barred"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.pop("words"), "words is no JSON object"),
        (lambda t, m: m.update(words="[]"), "words is no JSON object"),
        (worded(lambda w: w.pop("17")), "the word of token 17 is 'None', wanted one that shows"),
        (worded(lambda w: w.update({"17": "a\nb"})), "the word of token 17 is"),
        (worded(lambda w: w.update({"17": " "})), "the word of token 17 is ' '"),
        (worded(lambda w: w.update({"17": 5})), "the word of token 17 is"),
        (with_tensor(BARRED, torch.zeros(60)), "the word of token 0 is 'None'"),
        (lambda t, m: t.pop(BRIDGE), f"lacks {BRIDGE}"),
        (with_tensor(BRIDGE, torch.zeros(8, 24)), rf"{BRIDGE} has the shape \[8, 24\], wanted \[16, 24\]"),
        (with_tensor(TABLE, torch.ones(60, 24)), "the token table is not the one"),
        (configured("head", "text", "kind", value="bert"), "kind is 'bert', wanted 'clip' or 'roberta'"),
        (configured("head", "text", "kind", value=None), "context is None, wanted a whole number"),
        (configured("head", "text", "width", value=32), r"wanted \[\d*, ?32\]|wanted \[32"),
        (configured("head", "text", "heads", value=5), "text width is 24 for 5 heads"),
        (configured("head", "text", "positions", value=4), "positions is 4, wanted at least 5"),
        (configured("head", "text", "positions", value=15), "slots is 12, wanted 1 to 11, what the text side can read"),
        (configured("head", "text", "positions", value=10**6), "positions is 1000000, wanted a whole number from 1 to"),
        (configured("head", "text", "start", value=60), "start is 60, wanted a row of 60"),
        (configured("head", "text", "end", value=0), "wanted three rows"),
        (configured("head", "text", "padding", value=-1), "padding is -1, wanted a whole number from 0"),
    ],
)
def test_a_file_on_a_roberta_is_guarded_as_well(change: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "head.safetensors"
    write(file, "roberta")
    changed(file, change)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_speech_head(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_head_that_may_say_what_has_no_word_is_not_written(tmp_path: Path) -> None:
    words = {number: "word" for number in range(3, 59)}
    with pytest.raises(ValueError, match="may choose ids without a word"):
        write_speech_head(
            tmp_path / "h.safetensors", SpeechHeadCheckpoint(encoder("roberta"), "space", "", words=words)
        )
    assert not list(tmp_path.iterdir())


def test_widths_that_no_tower_can_have_are_refused(file: Path) -> None:
    """Of 20 channels no 16 groups can be made; nothing of such a size is built."""
    changed(file, configured("speech", "width", value=20))
    changed(file, configured("head", "width", value=20))
    with pytest.raises(CheckpointError, match="config is of no use"):
        read_speech_head(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, "cut", "missing", "folder"])
def test_what_is_no_such_file_is_refused_in_a_line(
    content: bytes | str, file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        file.unlink()
        if content == "folder":
            file.mkdir()
    status, out, err = run("export", "head", file, "--out", file.parent / "bundle")
    assert (status, out) == (2, "")
    assert str(file) in err
    assert err.count("\n") == 1
    assert not (file.parent / "bundle").exists()
