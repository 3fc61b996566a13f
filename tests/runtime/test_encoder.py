"""The encoder: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import sayclip
from sayclip import Encoder

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]
WORDS = ["red", "a red cat", "cat", "the quick brown fox", "x"]
IPA = ["ɹɛd", "kæt", "ɹɛd æpəl", "ə"]


@pytest.fixture
def encoder(tiny_bundle_master: Path) -> Iterator[Encoder]:
    with sayclip.load(tiny_bundle_master, threads=1) as loaded:
        yield loaded


def picture(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def wave(seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=round(16000 * seconds)) * 0.1
    return np.clip(noise, -1, 1).astype(np.float32)


def assert_unit(embeddings: np.ndarray, count: int) -> None:
    assert embeddings.shape == (count, 32)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_what_an_encoder_says_of_itself(encoder: Encoder) -> None:
    assert encoder.names == ("image", "text", "pronunciation", "speech")
    assert (encoder.space, encoder.width) == ("tiny-0123456789ab", 32)
    assert encoder.notice == "a bundle of random weights, for tests"
    assert "tiny" in repr(encoder)
    assert encoder.graph_sha256("text") == encoder.manifest.encoders["text"].graphs["fp32"].sha256


def test_pictures_of_every_kind(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(1)).save(path)
    wanted = encoder.image(picture(1))
    assert_unit(wanted, 1)
    for same in (path, str(path), Image.open(path), [picture(1)], (path,)):
        np.testing.assert_allclose(encoder.image(same), wanted, atol=1e-6)
    assert_unit(encoder.image([path, picture(2), Image.open(path), picture(3)[:, :, 0]]), 4)


def test_batches_do_not_change_pictures(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(7)]
    together = encoder.image(pictures)
    np.testing.assert_allclose(encoder.image(pictures, batch_size=3), together, atol=1e-6)
    np.testing.assert_allclose(encoder.image(iter(pictures)), together, atol=1e-6)
    prepared = np.stack([encoder.prepare_image(one) for one in pictures])
    assert prepared.shape == (7, 3, 16, 16)
    np.testing.assert_allclose(encoder.image_prepared(prepared), together, atol=1e-6)


def test_prepared_pictures_are_checked(encoder: Encoder) -> None:
    assert encoder.image_prepared(np.empty((0, 3, 16, 16), np.float32)).shape == (0, 32)
    for wrong in (np.zeros((3, 16, 16), np.float32), np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 3, 16, 16))):
        with pytest.raises(sayclip.InputError, match="prepared pictures are"):
            encoder.image_prepared(wrong)


def test_texts_and_pronunciations(encoder: Encoder) -> None:
    for encode, items in ((encoder.text, WORDS), (encoder.pronunciation, IPA)):
        together = encode(items)
        assert_unit(together, len(items))
        one_by_one = np.concatenate([encode(item) for item in items])
        np.testing.assert_allclose(together, one_by_one, atol=1e-6)
        np.testing.assert_array_equal(encode(tuple(items)), together)
        assert len(np.unique(together.round(4), axis=0)) == len(items)


def test_long_lists_keep_their_order(encoder: Encoder) -> None:
    """More than one batch, and more than what is prepared ahead."""
    rng = np.random.default_rng(5)
    words = [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(64 * 16 + 70)]
    together = encoder.text(words)
    chosen = [0, 63, 64, 64 * 16 - 1, 64 * 16, len(words) - 1]
    np.testing.assert_allclose(together[chosen], encoder.text([words[place] for place in chosen]), atol=1e-6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1600, 24000), min_size=1, max_size=12))
def test_padding_never_changes_a_recording(encoder: Encoder, lengths: list[int]) -> None:
    waves = [wave(length / 16000, seed) for seed, length in enumerate(lengths)]
    together = encoder.speech(waves)
    assert_unit(together, len(waves))
    unpadded = [{"waveform": one[None], "length": np.array([len(one)], np.int32)} for one in waves]
    exact = np.concatenate([encoder._encoders["speech"].run(feeds) for feeds in unpadded])
    np.testing.assert_allclose(together, exact, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([encoder.speech(one) for one in waves]), exact, atol=1e-5)


def test_recordings_of_every_kind(encoder: Encoder, tmp_path: Path) -> None:
    samples = wave(0.5)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    wanted = encoder.speech(samples)
    for same in (tmp_path / "a.wav", str(tmp_path / "a.wav"), [samples], np.stack([samples, samples], axis=1)):
        np.testing.assert_allclose(encoder.speech(same), wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.speech([tmp_path / "a.wav", samples]), wanted.repeat(2, 0), atol=1e-5)
    # 440 Hz is 440 Hz at any rate, and another tone when the rate is not the samples' own.
    tone = {rate: 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (16000, 48000)}
    right = encoder.speech(tone[48000], sample_rate=48000) @ encoder.speech(tone[16000]).T
    assert right > 0.999 > encoder.speech(tone[48000], sample_rate=16000) @ encoder.speech(tone[16000]).T


def test_buckets_pad_without_changing_anything(edit_manifest: Edit) -> None:
    def buckets(data: dict[str, Any]) -> None:
        data["encoders"]["speech"]["preprocessing"]["buckets"] = [1.0, 0.4]

    waves = [wave(seconds, seed) for seed, seconds in enumerate((0.2, 0.4, 0.7, 1.3))]
    folder = edit_manifest(lambda data: None)
    plain = sayclip.load(folder)
    wanted = plain.speech(waves)
    bucketed = sayclip.load(edit_manifest(buckets))
    fed: list[int] = []
    opened = bucketed._encoders["speech"]
    run = opened.run
    opened.run = lambda feeds, output: (fed.append(feeds["waveform"].shape[1]), run(feeds, output))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    np.testing.assert_allclose(bucketed.speech(waves), wanted, atol=1e-5)
    for one in waves:
        bucketed.speech(one)
    assert fed == [22000, 6400, 6400, 16000, 22000]  # beyond the buckets, steps of an eighth of a second


def test_empty_lists_give_no_rows(encoder: Encoder) -> None:
    for empty in (encoder.image([]), encoder.text([]), encoder.pronunciation([]), encoder.speech([])):
        assert empty.shape == (0, 32)
        assert empty.dtype == np.float32
    assert encoder.info()["encoders"]["image"]["loaded"] is False


def test_words_are_pronounced(encoder: Encoder) -> None:
    pytest.importorskip("phonemizer")
    assert_unit(encoder.pronunciation(words="cat"), 1)
    np.testing.assert_allclose(
        encoder.pronunciation(words=["red", "cat"]), encoder.pronunciation(["ɹɛd", "kæt"]), atol=1e-6
    )


def test_another_g2p_is_refused(edit_manifest: Edit) -> None:
    pytest.importorskip("phonemizer")

    def other(data: dict[str, Any]) -> None:
        data["encoders"]["pronunciation"]["preprocessing"]["g2p"]["name"] = "somebody's"

    encoder = sayclip.load(edit_manifest(other))
    with pytest.raises(sayclip.BundleError, match="IPA of \"somebody's\", this sayclip has 'espeak-ng'"):
        encoder.pronunciation(words="cat")
    assert_unit(encoder.pronunciation("kæt"), 1)


@pytest.mark.parametrize("given", [{}, {"ipa": "kæt", "words": "cat"}])
def test_either_ipa_or_words(given: dict[str, str], encoder: Encoder) -> None:
    with pytest.raises(sayclip.InputError, match="wanted one"):
        encoder.pronunciation(**given)


def test_bad_inputs_say_which_one(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(sayclip.PictureError, match=r"^item 2 of 3: "):
        encoder.image([picture(1), picture(2), tmp_path / "gone.png"], batch_size=2)
    with pytest.raises(sayclip.TextError, match=r"^item 1 of 2: "):
        encoder.text(["cat", ""])
    with pytest.raises(sayclip.PhonemeError, match=r"^item 0 of 2: unknown IPA symbol 'ʘ'"):
        encoder.pronunciation(["ʘ", "kæt"])
    with pytest.raises(sayclip.NoSpeechError, match=r"^item 1 of 2: "):
        encoder.speech([wave(0.3), np.zeros(8000, np.float32)])
    with pytest.raises(sayclip.NoSpeechError, match=r"^no speech"):
        encoder.speech(np.zeros(8000, np.float32))
    with pytest.raises(sayclip.AudioError, match="list of numbers"):
        encoder.speech([0.1, 0.2])
    for wrong in (3, None, [None], {"a": 1}):
        with pytest.raises(sayclip.InputError):
            encoder.image(wrong)
        with pytest.raises(sayclip.InputError):
            encoder.text(wrong)  # type: ignore[arg-type]
        with pytest.raises(sayclip.InputError):
            encoder.speech(wrong)
    with pytest.raises(sayclip.InputError, match="batch_size is 0"):
        encoder.image([picture(1)], batch_size=0)


def test_a_missing_encoder_names_those_there_are(edit_manifest: Edit) -> None:
    encoder = sayclip.load(edit_manifest(lambda data: [data["encoders"].pop(name) for name in ("speech", "image")]))
    assert encoder.names == ("text", "pronunciation")
    calls: list[Callable[[], object]] = [
        lambda: encoder.speech(wave(0.2)),
        lambda: encoder.image(picture(1)),
        lambda: encoder.prepare_image(picture(1)),
        lambda: encoder.graph_sha256("speech"),
        lambda: encoder.open("smell"),
    ]
    for call in calls:
        with pytest.raises(sayclip.BundleError, match=r"has no encoder '\w+', it has text, pronunciation"):
            call()


def test_only_what_is_used_is_loaded(encoder: Encoder) -> None:
    encoder.speech(wave(0.2))
    about = encoder.info()
    assert {name: one["loaded"] for name, one in about["encoders"].items()} == {
        "image": False,
        "text": False,
        "pronunciation": False,
        "speech": True,
    }
    assert about["encoders"]["speech"]["precision"] == "fp32"
    assert about["encoders"]["speech"]["threads"] == 1
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    encoder.open("text")
    assert encoder.info()["encoders"]["text"]["loaded"]


def test_precision_by_name(tiny_bundle: Path) -> None:
    pictures = [picture(seed) for seed in range(4)]
    exact = sayclip.load(tiny_bundle, precision="fp32").image(pictures)
    for precision in ("int8", "int8-u8"):
        encoder = sayclip.load(tiny_bundle, precision=precision)
        assert np.sum(encoder.image(pictures) * exact, axis=1).min() > 0.99
        assert encoder.info()["encoders"]["image"]["precision"] == precision
        with pytest.raises(sayclip.BundleError, match=f"'text' has no '{precision}' graph, it has fp32"):
            encoder.text("cat")
    with pytest.raises(sayclip.BundleError, match="has no 'fp16' graph, it has fp32, int8, int8-u8"):
        sayclip.load(tiny_bundle, precision="fp16")
    with pytest.raises(sayclip.BackendError, match="no backend 'abacus'"):
        sayclip.load(tiny_bundle, backend="abacus")


def test_results_that_are_no_directions_are_refused(encoder: Encoder) -> None:
    """All zeros have no direction: 0 / 0 in the graph."""
    with pytest.raises(sayclip.BackendError, match="of 'image' on onnxruntime gave numbers that are not finite"):
        encoder.image_prepared(np.zeros((2, 3, 16, 16), np.float32))


def test_results_of_another_length_are_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder.text("cat")
    opened = encoder._encoders["text"]
    rows: dict[str, np.ndarray] = {}
    monkeypatch.setattr(opened._session, "run", lambda feeds: rows)
    for embeddings, message in (
        (np.full((1, 32), 1.0, np.float32), "a vector of length 5.657, wanted 1"),
        (np.ones((1, 31), np.float32), "gave shape \\[1, 31\\], wanted \\[1, 32\\]"),
    ):
        rows["embedding"] = embeddings
        with pytest.raises(sayclip.BackendError, match=message):
            encoder.text("cat")
    rows["embedding"] = np.eye(1, 32, dtype=np.float16) * np.float16(1.001)
    assert_unit(encoder.text("cat"), 1)


def test_threads_share_an_encoder(encoder: Encoder) -> None:
    inputs = [(WORDS[n % 5], IPA[n % 4], wave(0.2 + 0.05 * (n % 3), n % 3), picture(n % 4)) for n in range(40)]

    def encode(one: tuple[str, str, np.ndarray, np.ndarray]) -> np.ndarray:
        text, ipa, speech, image = one
        parts = [encoder.text(text), encoder.pronunciation(ipa), encoder.speech(speech), encoder.image(image)]
        return np.concatenate(parts)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encode, inputs))
    for one, seen in zip(inputs, together, strict=True):
        np.testing.assert_allclose(seen, encode(one), atol=1e-6)


def test_a_closed_encoder_says_so(tiny_bundle: Path) -> None:
    with sayclip.load(tiny_bundle) as encoder:
        encoder.text("cat")
    encoder.close()
    for call in (lambda: encoder.text("cat"), lambda: encoder.image(picture(1))):
        with pytest.raises(sayclip.BackendError, match="is closed"):
            call()


def test_the_library_takes_this_encoder(encoder: Encoder, tmp_path: Path) -> None:
    with sayclip.Library.create(tmp_path / "a.sqlite", encoder) as library:
        ids = [library.add(picture(seed), caption=f"picture {seed}") for seed in range(3)]
        hits = library.search(image=picture(1), k=2)
        assert hits[0].item_id == ids[1]
        assert hits[0].score > 0.999
        assert library.search(text="cat", ipa="kæt", speech=wave(0.3), weights={"speech": 0.5}, k=3)[0].score <= 1
