"""``Encoder.explain``: embedding and keywords of a recording out of one run, and searches by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sayclip
from sayclip import Encoder
from sayclip.explanation import Explanation
from sayclip.hearing import hear
from sayclip.text.keywords import Keyword

Picture = Callable[[int], np.ndarray]


@pytest.fixture(scope="module")
def timed_bundle(tiny_bundle_master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from keyword_bundle import build_keyword_bundle

    return build_keyword_bundle(tiny_bundle_master, tmp_path_factory.mktemp("timed") / "bundle")


@pytest.fixture
def encoder(timed_bundle: Path) -> Iterator[Encoder]:
    with sayclip.load(timed_bundle, backend="onnxruntime", threads=1) as loaded:
        yield loaded


@pytest.fixture
def speech_runs(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of recordings in each run of the speech graph from now on, after it was loaded and checked."""
    import onnxruntime

    encoder.open("speech")
    runs: list[int] = []
    run = onnxruntime.InferenceSession.run

    def counted(session: Any, names: Any, feeds: dict[str, np.ndarray], options: Any = None) -> Any:
        runs.extend(len(feeds[name]) for name in feeds if name == "waveform")
        return run(session, names, feeds, options)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", counted)
    return runs


def wave(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=round(16000 * seconds)) * 0.1).clip(-1, 1).astype(np.float32)


def assert_heard(units: tuple[Keyword, ...], seconds: float) -> None:
    """The first keywords, as many as the recording has quarters of a second."""
    from keyword_bundle import HEARD, SCORES

    count = min(int(seconds / 0.25), len(HEARD))
    assert [(unit.token_id, unit.word) for unit in units] == HEARD[:count]
    assert [unit.score for unit in units] == pytest.approx(SCORES[:count])
    assert [(unit.start_s, unit.end_s) for unit in units] == [(k / 4, (k + 1) / 4) for k in range(count)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1600, 40000), max_size=11))
def test_it_is_what_speech_and_keywords_give(encoder: Encoder, lengths: list[int]) -> None:
    waves = [wave(length / 16000, seed) for seed, length in enumerate(lengths)]
    heard = encoder.explain(waves)
    assert len(heard) == len(waves)
    embeddings = encoder.speech(waves)
    for one, given_wave, embedding, units in zip(heard, waves, embeddings, encoder.keywords(waves), strict=True):
        assert one.source is given_wave
        assert one.space == encoder.space
        np.testing.assert_array_equal(one.embedding, embedding)
        assert list(one.units) == units
        assert_heard(one.units, len(given_wave) / 16000)


def test_one_run_gives_both(encoder: Encoder, speech_runs: list[int]) -> None:
    waves = [wave(0.2 + 0.1 * number, number) for number in range(11)]
    encoder.explain(waves)
    assert speech_runs == [8, 3]
    speech_runs.clear()
    encoder.keywords(waves[0])
    assert speech_runs == [1]


def test_recordings_of_every_kind(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, wave(0.6), 16000, subtype="FLOAT")
    for source in (path, str(path), wave(0.6)):
        (heard,) = encoder.explain(source)
        assert heard.source is source
        assert_heard(heard.units, 0.6)
    (heard,) = encoder.explain(wave(1.2), sample_rate=32000)
    assert_heard(heard.units, 0.6)
    with pytest.raises(sayclip.NoSpeechError, match=r"^item 1 of 2: no speech heard"):
        encoder.explain([wave(0.3), np.zeros(8000, np.float32)])


def test_an_encoder_that_does_not_tell_when(tiny_bundle_master: Path, tmp_path: Path) -> None:
    from keyword_bundle import build_keyword_bundle

    with sayclip.load(build_keyword_bundle(tiny_bundle_master, tmp_path / "bundle", timed=False)) as encoder:
        (heard,) = encoder.explain(wave(0.5))
    assert [unit.word for unit in heard.units] == ["red", "ap-"]
    assert {(unit.start_s, unit.end_s) for unit in heard.units} == {(None, None)}


@pytest.mark.parametrize("timed", [True, False])
def test_times_are_those_of_the_recording(timed: bool, tiny_bundle_master: Path, tmp_path: Path) -> None:
    """Silence before the words is not heard where a bundle has it cut off, but it takes its time."""
    from keyword_bundle import build_keyword_bundle

    folder = build_keyword_bundle(tiny_bundle_master, tmp_path / "bundle", trim=True, timed=timed)
    late = np.concatenate([np.zeros(16000 * 7 // 10, np.float32), wave(0.6)])
    soundfile.write(tmp_path / "late.wav", np.stack([late, late]).T.repeat(2, axis=0), 32000, subtype="FLOAT")
    with sayclip.load(folder) as encoder:
        waves = [late, wave(0.6), tmp_path / "late.wav"]
        heard = encoder.explain(waves)
        np.testing.assert_array_equal(np.stack([one.embedding for one in heard]), encoder.speech(waves))
        heard += encoder.explain(late.repeat(2), sample_rate=32000)
    wanted = [0.6, 0.85] if timed else [None, None]  # a tenth of a second of silence is left
    for one, starts in zip(heard, [wanted, [0.0, 0.25] if timed else wanted, wanted, wanted], strict=True):
        assert [unit.start_s for unit in one.units] == (pytest.approx(starts, abs=0.011) if timed else starts)
        if timed:
            assert [unit.end_s for unit in one.units] == pytest.approx([time + 0.25 for time in starts], abs=0.011)


def test_an_encoder_without_keywords_says_so_before_it_is_loaded(tiny_bundle_master: Path) -> None:
    with sayclip.load(tiny_bundle_master) as encoder:
        for waves in ([], wave(0.3)):
            with pytest.raises(sayclip.BundleError, match="the speech encoder of tiny gives no keywords"):
                encoder.explain(waves)
        assert not encoder.info()["encoders"]["speech"]["loaded"]


def test_numbers_that_are_not_finite_are_refused(encoder: Encoder, tiny_bundle_master: Path, tmp_path: Path) -> None:
    from keyword_bundle import HEARD, build_keyword_bundle

    scores = [float("nan")] * len(HEARD)
    with sayclip.load(build_keyword_bundle(tiny_bundle_master, tmp_path / "bundle", scores=scores)) as other:
        with pytest.raises(sayclip.BackendError, match="gave scores or times of keywords that are not finite"):
            other.explain(wave(0.3))
        assert other.explain(wave(0.2))[0].units == ()
    silent = {"waveform": np.zeros((1, 8000), np.float32), "length": np.array([8000], np.int32)}
    with pytest.raises(sayclip.BackendError, match="of 'speech' on onnxruntime gave numbers that are not finite"):
        hear(encoder._encoders["speech"], silent, {})


def test_a_search_takes_it_in_place_of_the_recording(
    encoder: Encoder, speech_runs: list[int], picture: Picture, tmp_path: Path
) -> None:
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", wave(0.5 + number, number), 16000)
    paths = [str(tmp_path / "0.wav"), tmp_path / "1.wav"]
    heard = encoder.explain(paths)
    with sayclip.Library.create(tmp_path / "a.sqlite", encoder) as library:
        library.add_many([picture(seed) for seed in range(5)])
        for plain, explained in ((paths, heard), (paths[0], encoder.explain(paths[0])[0])):
            asked: dict[str, Any] = {"text": "red", "words": None, "weights": {"speech": -0.5, "text": 2}, "k": 4}
            wanted = library.search(speech=plain, **asked)
            speech_runs.clear()
            result = library.search(speech=explained, **asked)
            assert speech_runs == []
            assert list(result) == list(wanted)
            assert result.queries == wanted.queries
        wanted = library.search(speech=[*paths, wave(0.3)], weights={"speech": [1, 2, 3]})
        speech_runs.clear()
        mixed = library.search(speech=[heard[0], paths[1], wave(0.3)], weights={"speech": [1, 2, 3]})
        assert speech_runs == [2]
        assert mixed.queries == wanted.queries
        assert [hit.item_id for hit in mixed] == [hit.item_id for hit in wanted]
        assert [hit.score for hit in mixed] == pytest.approx([hit.score for hit in wanted], abs=1e-6)


def test_an_explanation_of_another_space_is_refused(encoder: Encoder, picture: Picture, tmp_path: Path) -> None:
    foreign = Explanation("q.wav", "other-1", np.eye(1, 32, dtype=np.float32)[0], ())
    with sayclip.Library.create(tmp_path / "a.sqlite", encoder) as library:
        library.add(picture(1))
        with pytest.raises(sayclip.SpaceMismatchError, match=r"the explanation of q\.wav is of space other-1"):
            library.search(speech=[wave(0.3), foreign])
