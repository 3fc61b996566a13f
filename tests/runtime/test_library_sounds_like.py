"""Searching by a spelling that sounds right."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from library_encoder import ProjectionEncoder, numbered

import sayclip
from sayclip.errors import BundleError, InputError
from sayclip.library import Library
from sayclip.library.sounds_like import SOUND_SHARE, blend

DEMO = Path(__file__).resolve().parents[2] / "demo" / "sayclip_demo" / "bundle"


@pytest.fixture
def encoder() -> ProjectionEncoder:
    return ProjectionEncoder()


@pytest.fixture
def library(encoder, tmp_path):
    with Library.create(tmp_path / "library", encoder) as library:
        library.add_many([numbered(number) for number in range(20)])
        yield library


def ranked(result):
    return [(hit.item_id, pytest.approx(hit.score, abs=1e-6)) for hit in result]


@pytest.mark.parametrize("share", [None, 0.0, 0.25, 1.0])
def test_sound_and_spelling_by_their_shares(library, encoder, share):
    used = SOUND_SHARE if share is None else share
    spelt = encoder.text("aple")[0].astype(np.float64)
    sounding = encoder.pronunciation(words="aple")[0].astype(np.float64)
    result = library.search(sounds_like="aple", sound_share=share, k=20)
    assert ranked(result) == ranked(library.search_vector((1 - used) * spelt + used * sounding, 20))
    assert result.queries == [{"modality": "sounds_like", "query": "aple", "weight": 1.0, "sound_share": used}]


def test_it_is_fused_with_what_else_is_asked(library, encoder):
    both = blend(encoder.text(["aple", "kat"]), encoder.pronunciation(words=["aple", "kat"]), SOUND_SHARE)
    result = library.search("red", sounds_like=["aple", "kat"], weights={"sounds_like": [2, -1]}, k=20)
    assert ranked(result) == ranked(library.search_vector(encoder.text("red")[0] + 2 * both[0] - both[1], 20))


def test_words_and_spellings_may_be_in_another_language(library, encoder):
    german = encoder.pronunciation(words="zeit", language="de")
    assert ranked(library.search(words="zeit", language="de", k=20)) == ranked(library.search_vector(german[0], 20))
    both = blend(encoder.text("zeit"), german, 0.5)
    result = library.search(sounds_like="zeit", language="de", sound_share=0.5, k=20)
    assert ranked(result) == ranked(library.search_vector(both[0], 20))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sounds_like": "a", "sound_share": 1.5}, "sound_share is 1.5: give a number from 0"),
        ({"sounds_like": "a", "sound_share": float("nan")}, "sound_share is nan"),
        ({"sounds_like": "a", "sound_share": "1"}, "sound_share is '1'"),
        ({"text": "a", "sound_share": 0.5}, "sound_share is given and sounds_like is not"),
        ({"text": "a", "language": "de"}, "language is 'de', but no words are asked for"),
        ({"sounds_like": []}, "sounds_like is an empty list"),
    ],
)
def test_what_makes_no_sense_is_refused(library, asked, message):
    with pytest.raises(InputError, match=message):
        library.search(**asked)


def test_only_the_encoders_that_count_are_needed(library, encoder):
    encoder.names = ("image", "text")
    library.search(sounds_like="a", sound_share=0)
    with pytest.raises(BundleError, match="by sounds_like needs the pronunciation encoder, the bundle has image, text"):
        library.search(sounds_like="a")
    encoder.names = ("image", "pronunciation")
    library.search(sounds_like="a", sound_share=1)
    with pytest.raises(BundleError, match="by sounds_like needs the text encoder"):
        library.search(sounds_like="a")


def test_blending_is_of_unit_length_and_between_its_parts():
    rng = np.random.default_rng(0)
    spelt, sounding = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 5, 8)))
    for share in (0.0, 0.3, 1.0):
        rows = blend(spelt, sounding, share)
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5))
    assert np.allclose(blend(spelt, sounding, 0.0), spelt)
    assert np.allclose(blend(spelt, sounding, 1.0), sounding)
    nearness = [(blend(spelt, sounding, share) * sounding).sum(1) for share in (0.0, 0.3, 0.6, 1.0)]
    assert (np.diff(nearness, axis=0) > 0).all()
    assert not blend(spelt, -spelt, 0.5).any()


def test_a_sound_that_the_encoder_does_not_know_counts_as_the_nearest():
    if importlib.util.find_spec("phonemizer") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("phonemizer is not installed; `make test` installs it")
        pytest.skip("phonemizer is not installed")
    with sayclip.load(DEMO) as encoder:
        with pytest.raises(sayclip.PhonemeError, match="unknown IPA symbol"):
            encoder.pronunciation(words="bach")
        near = encoder.pronunciation(words="bach", nearest=True)
        assert np.linalg.norm(near) == pytest.approx(1, abs=1e-4)
        with pytest.raises(InputError, match="a language is given with IPA"):
            encoder.pronunciation("kæt", language="en-us")
        with pytest.raises(InputError, match="language is 'de', the pronunciation encoder was trained on en-us"):
            encoder.pronunciation(words="Zeit", language="de")
        assert np.array_equal(encoder.pronunciation(words="cat", language="en-us"), encoder.pronunciation(words="cat"))
