"""Searching by a spelling that sounds right."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_encoder import ProjectionEncoder, numbered

import sayclip
from sayclip.errors import BundleError, InputError
from sayclip.library import Library
from sayclip.library.exact import Scores, merged
from sayclip.library.exact import ranked as ranked_scores
from sayclip.library.sounds_like import SOUND_SHARE, factors

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


def nearer(library, readings, k=20):
    """(item, score) by the larger of the cosines to each of ``readings``, times its factor: from two whole searches."""
    best = {}
    for vector, factor in readings:
        for hit in library.search_vector(vector, len(library)):
            best[hit.item_id] = max(best.get(hit.item_id, -9.0), factor * hit.score)
    order = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    return [(item, pytest.approx(score, abs=1e-6)) for item, score in order]


@pytest.mark.parametrize("k", [3, 20])
@pytest.mark.parametrize(
    ("share", "spelling", "sound"),
    [(None, (1 - SOUND_SHARE) / SOUND_SHARE, 1), (0.5, 1, 1), (0.25, 1, 1 / 3), (0.0, 1, None), (1.0, None, 1)],
)
def test_an_item_counts_by_the_reading_that_it_is_nearer_to(library, encoder, share, spelling, sound, k):
    readings = [(encoder.text("aple")[0], spelling), (encoder.pronunciation(words="aple")[0], sound)]
    result = library.search(sounds_like="aple", sound_share=share, k=k)
    assert ranked(result) == nearer(library, [(row, factor) for row, factor in readings if factor is not None], k)
    used = SOUND_SHARE if share is None else share
    assert result.queries == [{"modality": "sounds_like", "query": "aple", "weight": 1.0, "sound_share": used}]


def test_each_reading_is_fused_with_what_else_is_asked(library, encoder):
    spelt, heard = encoder.text(["aple", "kat"]), encoder.pronunciation(words=["aple", "kat"])
    red = encoder.text("red")[0]
    result = library.search("red", sounds_like=["aple", "kat"], weights={"sounds_like": [2, -1]}, sound_share=0.5, k=20)
    assert ranked(result) == nearer(library, [(red + 2 * rows[0] - rows[1], 1) for rows in (spelt, heard)])


def test_a_low_score_is_left_out_after_both_readings(library, encoder):
    everything = library.search(sounds_like="aple", k=20)
    least = everything[9].score
    assert ranked(library.search(sounds_like="aple", k=20, min_score=least)) == ranked(everything)[:10]


def test_words_and_spellings_may_be_in_another_language(library, encoder):
    german = encoder.pronunciation(words="zeit", language="de")
    assert ranked(library.search(words="zeit", language="de", k=20)) == ranked(library.search_vector(german[0], 20))
    result = library.search(sounds_like="zeit", language="de", sound_share=0.5, k=20)
    assert ranked(result) == nearer(library, [(encoder.text("zeit")[0], 1), (german[0], 1)])


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


@given(
    scores=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=30),
    share=st.floats(0.1, 0.9),
    k=st.integers(1, 12),
)
def test_the_best_of_each_search_are_enough(scores, share, k):
    """Merging the best k of two searches gives the best k of the whole."""
    factor = factors(share)
    pairs = [
        (pair, factor[name]) for pair, name in zip(zip(*scores, strict=True), ("text", "pronunciation"), strict=True)
    ]
    ids = np.arange(len(scores))
    whole = merged([Scores(ids, np.array(pair)) for pair, _ in pairs], [f for _, f in pairs], k)
    own = [ranked_scores(ids, np.array(pair)) for pair, _ in pairs]
    cut = merged([Scores(one.item_ids[:k], one.cosines[:k]) for one in own], [f for _, f in pairs], k)
    assert cut.cosines.tolist() == whole.cosines.tolist()
    assert len(cut.item_ids) == min(k, len(scores))


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
