"""Recordings: every format and sample type, and every way a recording can be wrong."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import AudioError, NoSpeechError, SayclipError
from sayclip.inputs import AudioSettings, read_audio
from sayclip.inputs.audio_files import _is_mpeg

SETTINGS = AudioSettings()


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def refused(source: object, words: str, kind: type[SayclipError] = AudioError, **options: object) -> str:
    """The one-line message of the refusal, which must hold every one of ``words`` (separated by ``|``)."""
    with pytest.raises(kind) as caught:
        read_audio(source, options.pop("settings", SETTINGS), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    for word in words.split("|"):
        assert word in message, message
    return message


# Formats, rates and channels


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1 / 128),
        ("a.wav", "PCM_16", 1 / 32768),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 0.0),
        ("a.wav", "DOUBLE", 0.0),
        ("a.wav", "ULAW", 0.02),
        ("a.flac", "PCM_16", 1 / 32768),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1 / 32768),
        ("a.au", "PCM_16", 1 / 32768),
        ("a.caf", "PCM_16", 1 / 32768),
        ("a.w64", "PCM_16", 1 / 32768),
        ("a.rf64", "PCM_16", 1 / 32768),
    ],
)
def test_lossless_formats_give_the_samples(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    samples = tone()
    soundfile.write(tmp_path / name, samples, 16_000, subtype=subtype)
    heard = read_audio(tmp_path / name, SETTINGS)
    assert heard.dtype == np.float32
    assert heard.shape == (16_000,)
    assert heard.flags.c_contiguous
    assert np.abs(heard - samples).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.mp3", "MPEG_LAYER_III"), ("a.ogg", "VORBIS"), ("a.opus", "OPUS"), ("a.oga", "VORBIS")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_sound_the_same(tmp_path: Path, name: str, subtype: str, channels: int) -> None:
    samples = tone(2.0, hertz=300.0)
    spread = np.repeat(samples[:, None], channels, axis=1)
    kind = "MP3" if name.endswith("mp3") else "OGG"
    soundfile.write(tmp_path / name, spread, 16_000, format=kind, subtype=subtype)
    heard = read_audio(tmp_path / name, SETTINGS)
    assert abs(len(heard) - 32_000) < 3_000
    assert level(heard[8_000:24_000]) == pytest.approx(level(samples), rel=0.05)
    # The same tone: its spectral peak is where it was.
    spectrum = np.abs(np.fft.rfft(heard[8_000:24_000]))
    assert int(spectrum.argmax()) == 300


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    samples = tone(1.0, rate, hertz=500.0)
    spread = np.repeat(samples[:, None], channels, axis=1)
    soundfile.write(tmp_path / "a.wav", spread, rate, subtype="FLOAT")
    heard = read_audio(tmp_path / "a.wav", SETTINGS)
    assert heard.shape == (16_000,)
    inner = slice(1_600, 14_400)
    assert np.abs(heard[inner] - tone(1.0, 16_000, 500.0)[inner]).max() < 2e-3
    np.testing.assert_array_equal(heard, read_audio(spread, SETTINGS, sample_rate=rate))


def test_channels_are_averaged() -> None:
    left, right = noise(16_000, seed=1), noise(16_000, seed=2)
    heard = read_audio(np.stack([left, right], axis=1), SETTINGS)
    np.testing.assert_allclose(heard, (left + right) / 2, atol=1e-7)


def test_resampling_keeps_out_what_the_encoder_cannot_hear() -> None:
    samples = tone(1.0, 48_000, 1_000.0, 0.3) + tone(1.0, 48_000, 15_000.0, 0.3)  # 15 kHz would fold to 1 kHz
    heard = read_audio(samples, SETTINGS, sample_rate=48_000)
    assert level(heard[1_600:14_400]) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_sample_rate_is_for_arrays_only(tmp_path: Path) -> None:
    samples = noise(8_000)
    soundfile.write(tmp_path / "a.wav", samples, 8_000, subtype="FLOAT")
    heard = read_audio(tmp_path / "a.wav", SETTINGS, sample_rate=48_000)
    assert heard.shape == (16_000,)
    assert read_audio(samples, SETTINGS).shape == (8_000,)


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(tmp_path: Path, kind: Callable[[str], object]) -> None:
    path = tmp_path / "naïve ☂ file.wav"
    soundfile.write(path, tone(), 16_000)
    assert read_audio(kind(str(path)), SETTINGS).shape == (16_000,)  # type: ignore[arg-type]


def test_path_that_is_no_valid_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.wav"
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    os.rename(tmp_path / "a.wav", path)
    assert read_audio(os.fsdecode(path), SETTINGS).shape == (16_000,)
    os.truncate(path, 20)
    refused(path, "damaged").encode("utf-8")


def test_home_and_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    assert len(read_audio("~/a.wav", SETTINGS)) == 16_000
    # A file really called "-" is read, and not standard input.
    (tmp_path / "-").write_bytes((tmp_path / "a.wav").read_bytes())
    assert len(read_audio("-", SETTINGS)) == 16_000
    (tmp_path / "~").write_bytes((tmp_path / "a.wav").read_bytes())
    assert len(read_audio("~", SETTINGS)) == 16_000


def test_link_is_followed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "b.wav").symlink_to("a.wav")
    (tmp_path / "c.wav").symlink_to("nowhere.wav")
    assert len(read_audio(tmp_path / "b.wav", SETTINGS)) == 16_000
    refused(tmp_path / "c.wav", "c.wav|does not exist")


# Arrays


@given(
    st.sampled_from(
        ["int8", "uint8", "int16", "int32", ">i2", ">i4", "float16", "float32", ">f4", "float64", "longdouble"]
    ),
    st.integers(800, 900),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_samples_are_scaled_by_their_type(name: str, length: int, channels: int, seed: int) -> None:
    kind = np.dtype(name)
    random = np.random.default_rng(seed)
    if kind.kind == "f":
        samples = random.uniform(-1, 1, (length, channels)).astype(kind)
        wanted = samples.astype(np.float64)
    else:
        info = np.iinfo(kind)
        samples = random.integers(info.min, info.max, (length, channels), endpoint=True, dtype=np.int64).astype(kind)
        samples[0], samples[1] = info.min, info.max
        middle = 128 if kind == np.uint8 else 0
        wanted = (samples.astype(np.float64) - middle) / 2.0 ** (8 * kind.itemsize - 1)
    before = samples.copy()
    heard = read_audio(samples, SETTINGS)
    np.testing.assert_allclose(heard, wanted.mean(axis=1), atol=3e-7)
    assert np.abs(heard).max() <= 1.0
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("channels", [1, 2])
def test_result_belongs_to_the_caller(channels: int) -> None:
    samples = np.repeat(noise(16_000)[:, None], channels, axis=1)
    samples.flags.writeable = False
    heard = read_audio(samples, SETTINGS)
    assert not np.shares_memory(heard, samples)
    heard[:] = 0
    np.testing.assert_array_equal(read_audio(samples[:, 0], SETTINGS), samples[:, 0])


def test_strided_arrays() -> None:
    samples = noise(32_000)
    np.testing.assert_array_equal(read_audio(samples[::2], SETTINGS), samples[::2])
    np.testing.assert_array_equal(read_audio(samples[::-1], SETTINGS), samples[::-1])


@pytest.mark.parametrize("peak", [1.2, 4.0, 15.9])
def test_overs_are_scaled_down_as_a_whole(tmp_path: Path, peak: float) -> None:
    samples = noise(16_000)
    samples *= peak / np.abs(samples).max()
    heard = read_audio(samples, SETTINGS)
    np.testing.assert_allclose(heard, samples / peak, atol=1e-6)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", SETTINGS), heard)


def test_resampling_never_leaves_the_range() -> None:
    square = np.sign(tone(1.0, 48_000, 700.0)).astype(np.float32)  # rings over 1 when band-limited
    heard = read_audio(square, SETTINGS, sample_rate=48_000)
    assert np.abs(heard).max() == 1.0


@pytest.mark.parametrize("scale", [32768.0, 1e30, 1e300])
def test_integers_kept_as_floats_are_explained(tmp_path: Path, scale: float) -> None:
    refused(noise(16_000).astype(np.float64) * scale, "full scale is 1|32768|int16")
    if scale < 1e10:
        soundfile.write(tmp_path / "a.wav", noise(16_000) * scale, 16_000, subtype="FLOAT")
        refused(tmp_path / "a.wav", "a.wav|full scale is 1|32768")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float, kind: str, channels: int) -> None:
    samples = np.repeat(noise(16_000)[:, None], channels, axis=1).astype(kind)
    samples[7_000, channels - 1] = value
    words = "holds NaN" if np.isnan(value) else "holds infinite"
    refused(samples, f"{words}|must be finite")
    soundfile.write(tmp_path / "a.wav", samples.astype(np.float32), 16_000, subtype="FLOAT")
    refused(tmp_path / "a.wav", f"a.wav|{words}")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.array(0.5), "shape ()|[samples]"),
        (np.ones((100, 2, 2), np.float32), "shape (100, 2, 2)|[samples, channels]"),
        (np.ones((16_000, 0), np.float32), "no channel"),
        (np.ones(0, np.float32), "holds no samples"),
        (np.ones((0, 2), np.float32), "holds no samples"),
        (np.ones((2, 16_000), np.float32), "16000 channels of 2|transpose"),
        (np.ones(16_000, bool), "type bool|int16"),
        (np.ones(16_000, complex), "type complex128|int16"),
        (np.ones(16_000, object), "type object|int16"),
        (np.ones(16_000, np.int64), "type int64|int16"),
        (np.ones(16_000, np.uint16), "type uint16|int16"),
        (np.full(16_000, "a"), "type <U1|int16"),
        (np.zeros(16_000, "M8[s]"), "type datetime64"),
    ],
)
def test_arrays_that_are_no_recording(samples: np.ndarray, words: str) -> None:
    refused(samples, words)


@pytest.mark.parametrize("source", [[0.1, 0.2], None, 3, 0.5, memoryview(b"abc")])
def test_other_objects(source: object) -> None:
    refused(source, f"{type(source).__name__}|path or a numpy array")


@pytest.mark.parametrize(
    "rate", [0, -16_000, float("nan"), float("inf"), 1e9, 100, 3_999, 384_001, "16000", True, 1 + 2j, np.array([1, 2])]
)
def test_nonsense_sample_rates(rate: object) -> None:
    refused(noise(16_000), "sample_rate|16000", sample_rate=rate)


@pytest.mark.parametrize("rate", [44_100, 44_100.0, np.int32(44_100), np.float64(44_100)])
def test_sample_rates_of_every_kind(rate: float) -> None:
    assert len(read_audio(noise(44_100), SETTINGS, sample_rate=rate)) == 16_000


# Silence


def test_silence() -> None:
    for silent in (np.zeros(16_000), np.zeros((16_000, 6), np.int16), np.full(16_000, 128, np.uint8)):
        refused(silent, "no speech heard|digital silence|microphone", NoSpeechError)
    for offset in (0.3, -1.0, 1e-9):
        refused(np.full(16_000, offset), "no speech heard", NoSpeechError)
        refused(np.full(48_000, offset), "no speech heard", NoSpeechError, sample_rate=48_000)


def test_silence_threshold() -> None:
    message = refused(tone(level=10 ** (-56 / 20) * np.sqrt(2)), "-56 dBFS|-55 dBFS", NoSpeechError)
    assert "no speech heard" in message
    quiet = tone(level=10 ** (-54 / 20) * np.sqrt(2))
    assert len(read_audio(quiet, SETTINGS)) == 16_000
    # On a strong offset it is as quiet, or as loud, as without.
    refused(tone(level=10 ** (-56 / 20) * np.sqrt(2)) + 0.4, "no speech heard", NoSpeechError)
    assert len(read_audio(quiet + 0.4, SETTINGS)) == 16_000


@pytest.mark.parametrize("start", [0, 7_777, 14_400])
def test_one_loud_moment_anywhere_is_enough(start: int) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[start : start + 1600] = tone(0.1)
    assert np.abs(read_audio(samples, SETTINGS)).max() > 0.4


@pytest.mark.parametrize("start", [0, 7_777, 15_999])
def test_a_click_is_no_speech(start: int) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[start : start + 40] = 0.8
    refused(samples, "no speech heard", NoSpeechError)


def test_dithered_8_bit_silence(tmp_path: Path) -> None:
    dither = np.random.default_rng(0).integers(127, 129, 16_000).astype(np.uint8)
    refused(dither, "no speech heard|-45 dBFS", NoSpeechError)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(dither.tobytes())
    refused(tmp_path / "a.wav", "a.wav|no speech heard", NoSpeechError)
    # The same level is heard where it is not the last bit.
    assert len(read_audio((dither.astype(np.float32) - 128) / 128, SETTINGS)) == 16_000


def test_ultrasound_is_not_heard() -> None:
    whistle = tone(1.0, 48_000, 20_000.0) * np.hanning(48_000)  # its edges alone would be heard as clicks
    refused(whistle, "no speech heard", NoSpeechError, sample_rate=48_000)


def test_channels_that_cancel_are_explained() -> None:
    samples = noise(16_000)
    refused(np.stack([samples, -samples], axis=1), "2 channels cancel|one channel", NoSpeechError)
    refused(np.full((16_000, 2), 0.5), "digital silence", NoSpeechError)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_silent_files(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, np.zeros((32_000, 2), np.float32), 16_000)
    refused(tmp_path / name, f"{name}|no speech heard|microphone", NoSpeechError)


# Lengths


def test_too_short(tmp_path: Path) -> None:
    refused(np.float32([0.5]), "too short (1 sample, 0.0625 ms)|50 ms or more|record a whole word")
    soundfile.write(tmp_path / "a.wav", np.float32([0.5]), 48_000)
    refused(tmp_path / "a.wav", "a.wav|1 sample|50 ms")
    refused(noise(799), "799 samples")
    assert len(read_audio(noise(800), SETTINGS)) == 800
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    refused(tmp_path / "none.wav", "holds no samples")


def test_longest(tmp_path: Path) -> None:
    settings = AudioSettings(max_seconds=2.0)
    for rate in (8_000, 16_000, 44_100):
        assert len(read_audio(noise(2 * rate), settings, sample_rate=rate)) == 32_000
        refused(noise(2 * rate + 1), "limit is 2 s|cut it", settings=settings, sample_rate=rate)
        soundfile.write(tmp_path / "a.wav", noise(2 * rate), rate)
        assert len(read_audio(tmp_path / "a.wav", settings)) == 32_000
        soundfile.write(tmp_path / "a.wav", noise(2 * rate + 1), rate)
        refused(tmp_path / "a.wav", "a.wav is 2.000|limit is 2 s|cut it", settings=settings)


@pytest.mark.parametrize(
    ("name", "minutes", "length"),
    [("a.wav", 60, "1 h 0 min"), ("a.flac", 60, "1 h 0 min"), ("a.mp3", 5, "5 min 0 s"), ("a.ogg", 5, "5 min 0 s")],
)
def test_long_file_is_refused_by_its_header(
    tmp_path: Path, name: str, minutes: int, length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with soundfile.SoundFile(tmp_path / name, "w", 8_000, 1) as file:
        for _ in range(6 * minutes):
            file.write(np.zeros(80_000, np.float32))

    def read(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    refused(tmp_path / name, f"{name} is {length} long|limit is 20 s|cut it")


def flac_length(path: Path, frames: int) -> None:
    """Make the header of a FLAC promise ``frames`` (0: unknown)."""
    data = bytearray(path.read_bytes())
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    data[18:26] = fields.to_bytes(8, "big")
    path.write_bytes(data)


def test_flac_of_unknown_length_is_read_up_to_the_limit(tmp_path: Path) -> None:
    short, long = tmp_path / "short.flac", tmp_path / "long.flac"
    soundfile.write(short, noise(48_000), 16_000)
    flac_length(short, 0)
    assert len(read_audio(short, SETTINGS)) == 48_000
    with soundfile.SoundFile(long, "w", 16_000, 1) as file:
        for _ in range(360):
            file.write(np.zeros(160_000, np.float32))
    flac_length(long, 0)
    tracemalloc.start()
    message = refused(long, "long.flac|limit is 20 s|cut it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "20.0001 s" in message  # where reading stopped
    assert peak < 20 * 16_000 * 4 * 4


def test_hour_long_array_is_refused_before_work() -> None:
    hour = np.broadcast_to(np.float32(0), (3600 * 48_000, 2))
    refused(hour, "is 1 h 0 min long|limit is 20 s|cut it", sample_rate=48_000)
    refused(np.broadcast_to(np.float32(0), 125 * 16_000), "is 2 min 5 s long")


# Damage


@pytest.mark.parametrize("promised", [40_000, 80_000, 600_000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_that_promises_more_than_it_holds(tmp_path: Path, promised: int) -> None:
    path = tmp_path / "a.wav"
    samples = noise(16_000)
    soundfile.write(path, samples, 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", promised)
    path.write_bytes(data)
    heard = read_audio(path, SETTINGS)
    np.testing.assert_allclose(heard, samples, atol=1 / 32768)


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.mp3", "a.aiff"])
def test_files_cut_short_give_what_is_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(48_000), 16_000)
    os.truncate(path, path.stat().st_size // 2)
    assert 10_000 < len(read_audio(path, SETTINGS)) < 30_000


def test_flac_with_a_damaged_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(48_000), 16_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = b"\xff" * 50
    path.write_bytes(data)
    refused(path, "a.flac is damaged or cut short|save it again as WAV")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("size", [1, 3, 4, 11, 12, 20, 36])
def test_header_cut_short(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(16_000), 16_000)
    os.truncate(path, size)
    refused(path, f"{name}|WAV, FLAC, OGG or MP3")


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["", "RIFF", "fLaC", "OggS", ".snd", "caff"]))
@settings(max_examples=150, deadline=None)
def test_bytes_that_are_no_recording(tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: str) -> None:
    head = start.encode() + (b"\0\0\0\0WAVE" if start == "RIFF" else b"")
    if _is_mpeg(head + junk) or junk.startswith(b"ID3"):  # tested apart: the MP3 decoder writes on stderr
        return
    path = tmp_path_factory.getbasetemp() / "junk.wav"
    path.write_bytes(head + junk)
    refused(path, "junk.wav")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"hello, this is text\n" * 20, "not a recording|WAV, FLAC, OGG or MP3"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a recording"),
        (bytes(5_000), "not a recording"),
        (b"\0\0\0\x20ftypM4A " + bytes(100), "an M4A, MP4 or 3GP file|ffmpeg"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "a WebM or Matroska file|ffmpeg"),
        (b"#!AMR\n" + bytes(100), "an AMR file|ffmpeg"),
        (b"\xff\xf1\x50\x80" + bytes(100), "an AAC file|ffmpeg"),
    ],
)
def test_other_files(tmp_path: Path, head: bytes, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.wav", "a.mp3", "a.raw"):
        (tmp_path / name).write_bytes(head)
        refused(tmp_path / name, f"{name}|{words}")
    assert capfd.readouterr().err == ""


def test_raw_suffix(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    refused(tmp_path / "a.raw", "without a header|rename it")


@pytest.mark.parametrize("rate", [1, 100, 3_999, 500_000, 2_000_000_000])
def test_header_with_a_nonsense_rate(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16_000), 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", rate)
    path.write_bytes(data)
    refused(path, f"a.wav gives a sample rate of {rate} Hz|16000")


# Paths that are no recording


def test_missing_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no.wav", "no.wav does not exist|check the path")
    refused(tmp_path / "no" / "such.wav", "such.wav does not exist|check the path")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty.wav is empty (0 bytes)|save it again")
    refused(tmp_path / "empty.wav" / "x", "does not exist")
    refused(tmp_path, "is a folder, not a recording|one recording")
    refused("", "does not exist")
    refused("a\0b.wav", "null|give the path")
    refused(b"RIFF\0\0\0\0WAVE", "null|give the path")
    refused("x" * 5_000, "too long|give the path")
    refused("~nobody-of-that-name/x.wav", "does not exist")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", "cannot be opened|symbolic links")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "a named pipe|to a file")
    refused("/dev/zero", "a device|to a file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    (tmp_path / "a.wav").chmod(0)
    refused(tmp_path / "a.wav", "Permission denied|readable")


def test_names_are_shown_on_one_printable_line(tmp_path: Path) -> None:
    message = refused(tmp_path / "two\nlines\x1b[31m\u202e.wav", "two\\nlines\\x1b[31m\\u202e.wav")
    assert message.isprintable()
    assert len(refused(tmp_path / ("x" * 200 + "end.wav"), "…|end.wav")) < 260


# Settings


def test_utterance_normalisation(tmp_path: Path) -> None:
    samples = noise(16_000) + np.float32(0.05)
    settings = AudioSettings(normalisation="utterance")
    heard = read_audio(samples, settings)
    exact = samples.astype(np.float64)
    wanted = (exact - exact.mean()) / np.sqrt(((exact - exact.mean()) ** 2).mean() + 1e-5)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, wanted, atol=1e-5)
    # With the epsilon: a quiet recording stays below unit variance.
    quiet = read_audio(noise(16_000, 0.002), settings)
    assert quiet.std() == pytest.approx(0.002 / np.sqrt(4e-6 + 1e-5), rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_rate": 0}, "sample rate of 0"),
        ({"sample_rate": float("nan")}, "sample rate of nan"),
        ({"min_seconds": 3, "max_seconds": 2}, "3 to 2 s"),
        ({"max_seconds": float("inf")}, "inf"),
        ({"min_seconds": float("nan")}, "nan"),
        ({"normalisation": "peak"}, "'peak'|'utterance'"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, object], words: str) -> None:
    with pytest.raises(AudioError) as caught:
        AudioSettings(**options)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words.split("|"))


def test_importing_stays_light() -> None:
    code = (
        "import sys, sayclip.inputs as inputs; [getattr(inputs, name) for name in inputs.__all__];"
        "print([name for name in ('PIL', 'soundfile', 'soxr', 'cffi', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr
