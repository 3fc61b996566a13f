"""``Encoder.audio``: sounds of every kind go in, one vector each comes out, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sayclip
from sayclip import Encoder
from sayclip.bundle.log_mel_entry import LogMelPreprocessing
from sayclip.bundle.manifest import Manifest
from sayclip.inputs import AudioSettings, LogMelSettings, log_mel_images, read_stereo
from sayclip.pooling import pool_segments

HEARING = AudioSettings(max_seconds=5.0)


@pytest.fixture
def encoder(sound_bundle: Path) -> Iterator[Encoder]:
    with sayclip.load(sound_bundle, threads=1) as loaded:
        yield loaded


def noise(seconds: float, seed: int = 0, channels: int = 2) -> np.ndarray:
    shape = (round(16_000 * seconds), channels)
    return np.random.default_rng(seed).uniform(-0.3, 0.3, shape).astype(np.float32)


def test_one_vector_for_each_sound(encoder: Encoder) -> None:
    assert "audio" in encoder.names
    sounds = [noise(seconds, seed) for seed, seconds in enumerate((0.1, 2.0, 0.7, 4.9, 0.256, 1.0, 0.3, 0.5, 1.5, 3.0))]
    together = encoder.audio(sounds)
    assert together.shape == (10, encoder.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([encoder.audio(one) for one in sounds]), atol=1e-6)
    np.testing.assert_array_equal(encoder.audio(tuple(sounds)), together)
    assert len(np.unique(together.round(4), axis=0)) == 10
    assert encoder.audio([]).shape == (0, encoder.width)
    assert encoder.info()["encoders"]["audio"]["loaded"]


def test_it_is_the_mean_over_segments(encoder: Encoder) -> None:
    sound = noise(0.9)
    images = log_mel_images(read_stereo(sound, HEARING), LogMelSettings(mels=32, max_segments=4))
    assert len(images) == 4
    rows = encoder._encoders["audio"].run({"segments": images, "type_mix": np.full(4, 0.5, np.float32)})
    np.testing.assert_allclose(encoder.audio(sound), pool_segments(rows, [4]), atol=1e-6)


def test_the_bundle_limits_the_segments(encoder: Encoder) -> None:
    """Of a long sound the middle is heard, up to the loudness that the rest of it had."""
    sound = noise(4.0)
    heard = log_mel_images(read_stereo(sound, HEARING), LogMelSettings(mels=32, max_segments=4))
    assert heard.shape[0] == 4
    edited = sound.copy()
    edited[:8000] = noise(0.5, 7)
    np.testing.assert_allclose(encoder.audio(edited), encoder.audio(sound), atol=2e-2)
    edited[24_000:40_000] = noise(1.0, 8)
    assert float((encoder.audio(edited) @ encoder.audio(sound).T).item()) < 0.999


def test_type_mix(encoder: Encoder) -> None:
    sound = noise(1.0)
    usual = encoder.audio(sound)
    np.testing.assert_array_equal(encoder.audio(sound, type_mix=0.5), usual)
    speech, other = encoder.audio(sound, type_mix=0), encoder.audio(sound, type_mix=np.float32(1))
    assert float((speech @ other.T).item()) < float((usual @ other.T).item()) < 0.9999
    for wrong in (-0.1, 1.1, float("nan"), "speech", True, [0.5]):
        with pytest.raises(sayclip.InputError, match=r"type_mix is .*, wanted a number from 0 to 1"):
            encoder.audio(sound, type_mix=wrong)  # type: ignore[arg-type]


def test_sounds_of_every_kind(encoder: Encoder, tmp_path: Path) -> None:
    samples = noise(0.5)
    wanted = encoder.audio(samples)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    for same in (tmp_path / "a.wav", str(tmp_path / "a.wav"), [samples], samples.astype(np.float64)):
        np.testing.assert_allclose(encoder.audio(same), wanted, atol=1e-5)
    assert float((encoder.audio(samples[:, ::-1]) @ wanted.T).item()) < 0.9999  # left is not right
    mono = encoder.audio(samples[:, 0])
    np.testing.assert_allclose(encoder.audio(samples[:, [0, 0]]), mono, atol=1e-6)
    np.testing.assert_allclose(encoder.audio(samples[:, [0]]), mono, atol=1e-6)
    np.testing.assert_allclose(encoder.audio(samples[:, [0, 0, 0, 0, 0, 0]]), mono, atol=1e-3)
    integers = np.rint(samples * 32767).astype(np.int16)
    assert float((encoder.audio(integers) @ wanted.T).item()) > 0.9999


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate(encoder: Encoder, tmp_path: Path, rate: int) -> None:
    def sound(rate: int) -> np.ndarray:
        t = np.arange(rate) / rate
        return np.stack([0.3 * np.sin(2 * np.pi * f * t) * np.sin(np.pi * t) for f in (300, 1000)], axis=1)

    seen = encoder.audio(sound(rate), sample_rate=rate)
    assert float((seen @ encoder.audio(sound(16_000)).T).item()) > 0.99
    soundfile.write(tmp_path / "a.wav", sound(rate), rate, subtype="FLOAT")
    np.testing.assert_allclose(encoder.audio(tmp_path / "a.wav"), seen, atol=1e-3)


@pytest.mark.parametrize(
    ("sound", "kind", "message"),
    [
        (np.full((8000, 2), np.nan), sayclip.AudioError, "holds NaN samples"),
        (np.full(8000, np.inf), sayclip.AudioError, "holds infinite samples"),
        (np.zeros((0, 2)), sayclip.AudioError, "holds no samples"),
        (np.zeros(0, np.float32), sayclip.AudioError, "holds no samples"),
        (np.zeros((8000, 2)), sayclip.NoSpeechError, "no sound heard in the recording .*digital silence"),
        (np.full((8000, 2), 0.5), sayclip.NoSpeechError, "no sound heard"),
        (np.ones((1, 1)), sayclip.AudioError, r"too short \(1 sample, .*50 ms or more: record more of it"),
        (noise(0.5).T, sayclip.AudioError, "transpose the array"),
        (noise(5.1), sayclip.AudioError, r"5\.1 s long, the limit is 5 s: cut it to what is to be heard"),
        (noise(0.5) * 30_000, sayclip.AudioError, "where full scale is 1"),
        (np.ones((10, 10, 2)), sayclip.AudioError, "have the shape"),
        (np.ones(8000, np.complex64), sayclip.AudioError, "of type complex64"),
        ([0.1, 0.2], sayclip.AudioError, "list of numbers"),
        (3, sayclip.AudioError, "list of numbers"),
        (None, sayclip.AudioError, "was given as NoneType"),
    ],
)
def test_bad_sounds(encoder: Encoder, sound: object, kind: type[sayclip.SayclipError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        encoder.audio(sound)
    assert "\n" not in str(caught.value)


def test_a_bad_sound_in_a_list_has_its_place(encoder: Encoder) -> None:
    sounds = [noise(0.1)] * 10
    sounds[9] = np.zeros((8000, 2), np.float32)
    with pytest.raises(sayclip.NoSpeechError, match=r"^item 9 of 10: no sound heard"):
        encoder.audio(sounds)


def test_sides_that_cancel_are_heard_apart(encoder: Encoder) -> None:
    samples = noise(0.5, channels=1)
    assert np.isfinite(encoder.audio(np.concatenate([samples, -samples], axis=1))).all()
    many = np.concatenate([samples, -samples] * 2, axis=1)  # only the average of so many is heard
    with pytest.raises(sayclip.NoSpeechError, match="its 4 channels cancel each other out"):
        encoder.audio(many)


def test_bad_files(encoder: Encoder, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.5), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20])
    with pytest.raises(sayclip.AudioError, match="damaged"):
        encoder.audio(tmp_path / "a.wav")
    with pytest.raises(sayclip.AudioError, match=r"b\.wav"):
        encoder.audio(tmp_path / "b.wav")


def test_without_an_audio_encoder(tiny_bundle: Path) -> None:
    with (
        sayclip.load(tiny_bundle) as encoder,
        pytest.raises(sayclip.BundleError, match="has no encoder 'audio', it has image"),
    ):
        encoder.audio(noise(0.5))


# The manifest


def test_what_was_written_is_read(sound_bundle: Path) -> None:
    manifest = Manifest.read(sound_bundle)
    how = manifest.entry("audio").preprocessing
    assert how == LogMelPreprocessing(mels=32, max_segments=4, max_seconds=5.0)
    assert Manifest.from_dict(manifest.to_dict()) == Manifest.from_dict(Manifest.read(sound_bundle).to_dict())
    data = manifest.to_dict()["encoders"]["audio"]["preprocessing"]
    assert data["kind"] == "log-mel"
    assert data["edge"] == "reflect"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "audio", "kind is 'audio', wanted one of log-mel"),
        ("sample_rate", 1, "sample_rate is 1"),
        ("window", 1, "window is 1"),
        ("hop", 0, "hop is 0"),
        ("hop", 513, "hop is 513, wanted an integer from 1 to 512"),
        ("mels", 0, "mels is 0"),
        ("low_hz", -1, "low_hz is -1"),
        ("low_hz", 8000, "high_hz is 8000.0, wanted more than low_hz"),
        ("high_hz", 8001, "high_hz is 8001"),
        ("top_db", 0, "top_db is 0"),
        ("edge", "mirror", "edge is 'mirror', wanted one of reflect, zero"),
        ("max_seconds", 0.01, "max_seconds is 0.01, wanted more than min_seconds"),
        ("max_segments", 0, "max_segments is 0"),
        ("cut", "middle", "cut is 'middle', wanted one of centre, head, tail"),
        ("type_mix", 1.5, "type_mix is 1.5"),
        ("type_mix", None, "type_mix is None"),
    ],
)
def test_bad_manifests(sound_bundle: Path, key: str, value: object, message: str) -> None:
    data = Manifest.read(sound_bundle).to_dict()
    data["encoders"]["audio"]["preprocessing"][key] = value
    with pytest.raises(sayclip.BundleError, match=message):
        Manifest.from_dict(data)
