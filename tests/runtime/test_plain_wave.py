"""WAV files of 16-bit PCM: the same samples as libsndfile gives, and everything else left to it."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sayclip.errors import AudioError
from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip.inputs.files import checked_file
from sayclip.inputs.plain_wave import PlainWave, open_plain


def opened(path: Path) -> PlainWave | None:
    return open_plain(checked_file(path, AudioError, "recording"))


def samples(frames: int, channels: int = 1, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-32768, 32768, (frames, channels), dtype=np.int16)


def taken(path: Path) -> bool:
    """Whether the file is read here; if so, it has to be what libsndfile reads."""
    plain = opened(path)
    if plain is None:
        return False
    with plain, soundfile.SoundFile(path) as file:
        assert (plain.samplerate, plain.frames, plain.channels) == (file.samplerate, file.frames, file.channels)
        assert plain.subtype == file.subtype
        parts = []
        while len(part := plain.read(1000)):
            parts.append(part)
        seen = np.concatenate(parts)
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, file.read(dtype="float32", always_2d=True))
    return True


@given(
    st.integers(1, 5000), st.integers(1, 9), st.sampled_from([4000, 8000, 16_000, 44_100, 384_000]), st.integers(0, 9)
)
def test_every_such_file_is_what_libsndfile_reads(frames: int, channels: int, rate: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        soundfile.write(path, samples(frames, channels, seed), rate, "PCM_16", format="WAV")
        # libsndfile writes another header for more channels than two, which is left to it.
        assert taken(path) or channels > 2


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"])
def test_other_samples_are_left_to_libsndfile(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", samples(800), 16_000, subtype)
    assert not taken(tmp_path / "a.wav")


@pytest.mark.parametrize("form", ["FLAC", "AIFF", "AU", "CAF", "W64", "RF64", "WAVEX", "OGG"])
def test_other_files_are_left_to_libsndfile(tmp_path: Path, form: str) -> None:
    soundfile.write(tmp_path / "a.wav", samples(800), 16_000, format=form)
    assert not taken(tmp_path / "a.wav")


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


FORM = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
HELD = samples(800).tobytes()


@pytest.mark.parametrize(
    ("content", "here"),
    [
        (FORM + chunk(b"data", HELD), True),
        (FORM + chunk(b"LIST", b"INFOISFT" + b"x" * 41) + chunk(b"data", HELD), True),
        (FORM + chunk(b"data", HELD) + chunk(b"LIST", b"INFO" + b"x" * 600), True),
        (FORM + chunk(b"data", HELD + b"\1"), True),  # half a sample too much
        (FORM + chunk(b"data", HELD, size=0), False),  # a recorder that was stopped too early
        (FORM + chunk(b"data", HELD, size=0xFFFFFFFF), False),  # written into a pipe
        (FORM + chunk(b"data", HELD, size=len(HELD) + 2), False),  # cut off
        (chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 64_000, 4, 16)) + chunk(b"data", HELD), False),
        (FORM, False),
        (FORM[:-4], False),
        (chunk(b"data", HELD) + FORM, False),
    ],
)
def test_headers(tmp_path: Path, content: bytes, here: bool) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(content) + 4) + b"WAVE" + content)
    assert taken(tmp_path / "a.wav") is here


@pytest.mark.parametrize("size", [0, 20, 36, 0xFFFFFFFF])
def test_a_length_of_the_whole_that_is_wrong(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", size) + b"WAVE" + FORM + chunk(b"data", HELD))
    assert taken(path) is (size > len(HELD))
    assert len(read_audio(path, AudioSettings())) == 800


@given(st.integers(0, 60), st.integers(0, 255), st.integers(0, 200))
def test_damage_is_read_as_libsndfile_reads_it_or_left_to_it(place: int, byte: int, cut: int) -> None:
    content = bytearray(b"RIFF" + struct.pack("<I", len(FORM) + len(HELD) + 12) + b"WAVE" + FORM + chunk(b"data", HELD))
    content[place] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        path.write_bytes(content[: len(content) - cut])
        taken(path)
