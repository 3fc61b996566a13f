"""Exact search, fusing, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from library_encoder import ProjectionEncoder, VectorEncoder, unit

from sayclip.errors import BundleError, InputError, LibraryError
from sayclip.library import Item, Library
from sayclip.library.exact import ExactIndex, _highest
from sayclip.library.queries import encode_queries

WIDTH = 8


def rows_to_items(rows: np.ndarray) -> list[Item]:
    return [Item(row.reshape(1, 1, -1), str(number)) for number, row in enumerate(rows)]


def brute_force(stored: list[tuple[int, np.ndarray]], query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The reference: one Python loop over float16 rows, each by itself, in float64."""
    best: dict[int, float] = {}
    query = encode_queries({"vector": query}, None, len(query)).vectors[0].astype(np.float64)
    for item_id, row in stored:
        row = row.astype(np.float16).astype(np.float32)
        row = (row / np.sqrt((row * row).sum())).astype(np.float64)
        best[item_id] = max(best.get(item_id, -2), float(np.clip((row * query).sum(), -1, 1)))
    return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One library file whose items hypothesis replaces: making a file a hundred times would be slow."""
    encoder = VectorEncoder(WIDTH)
    with Library.create(tmp_path_factory.mktemp("search") / "library", encoder) as library:
        library._store._db.execute("PRAGMA synchronous = OFF")
        yield library


# Few different values, so that equal scores are common.
coarse = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])
fine = st.floats(-1, 1, width=16)
any_rows = st.one_of(
    *[
        hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(WIDTH)), elements=elements)
        for elements in (coarse, fine)
    ]
)
usable = any_rows.filter(lambda rows: bool((np.abs(rows).max(axis=1) > 1e-2).all()))


@settings(max_examples=80, deadline=None)
@given(rows=usable, query=usable, k=st.integers(1, 60), owners=st.lists(st.integers(0, 39), min_size=40, max_size=40))
def test_search_equals_brute_force(shared, rows, query, k, owners):
    store = shared._store
    with store.writing():
        store.delete_items([item.item_id for item in shared.items()])
        ids = [store.insert_item("picture", f"{number}", "0", {}) for number in range(len(rows))]
        stored = []
        for number, row in enumerate(unit(rows)):
            # Some items own several vectors, as a video's spans will.
            item_id = ids[owners[number] % len(ids)]
            store.replace_vector(item_id, f"encoder {number}", "0", row.astype("<f2").tobytes())
            stored.append((item_id, row))
    hits = shared.search_vector(query[0], k)
    assert [(hit.item_id, hit.score) for hit in hits] == brute_force(stored, query[0], k)


def test_many_equal_scores_come_by_id(tmp_path, vector_encoder):
    rng = np.random.default_rng(3)
    patterns = rng.normal(size=(5, 16))
    rows = patterns[rng.integers(0, 5, 3000)]
    with Library.create(tmp_path / "l", vector_encoder) as library:
        library.add_many(rows_to_items(rows), batch_size=1000)
        expected = brute_force([(number + 1, row) for number, row in enumerate(unit(rows))], patterns[2], 3000)
        for k in (1, 7, 600, 3000, 5000):
            hits = library.search_vector(patterns[2], k)
            assert [hit.item_id for hit in hits] == [item_id for item_id, _ in expected[:k]]
            assert len(hits) == min(k, 3000)


def test_rows_that_differ_by_rounding_only_are_all_compared_again():
    scores = np.array([0.5, 0.9 - 1e-7, 0.9, 0.9 + 1e-7, 0.1], np.float32)
    assert _highest(scores, 1).tolist() == [1, 2, 3]
    assert _highest(scores, 4).tolist() == [0, 1, 2, 3]


def test_an_empty_library_finds_nothing(tmp_path, encoder):
    with Library.create(tmp_path / "l", encoder) as library:
        result = library.search("x")
        assert result == []
        assert result.to_dict()["hits"] == []
        assert len(library) == 0


@pytest.fixture
def library(tmp_path, encoder, picture):
    with Library.create(tmp_path / "library", encoder) as library:
        library.add_many([Item(picture(number), str(number), caption=f"picture {number}") for number in range(30)])
        yield library


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3", None])
def test_k(library, k):
    with pytest.raises(InputError, match=r"^k is .*give a whole number of at least 1$"):
        library.search("x", k=k)
    with pytest.raises(InputError, match=r"^k is"):
        library.search_vector(np.ones(16), k)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (np.full(16, np.nan), "NaN or Inf"),
        (np.r_[np.ones(15), np.inf], "NaN or Inf"),
        (np.zeros(16), "all zeros"),
        (np.ones(15), r"shape \[1, 15\]: give \[16\]"),
        (np.ones((2, 17)), r"shape \[2, 17\]|shape \[1, 17\]"),
        (np.ones((1, 1, 16)), "shape"),
        (np.empty((0, 16)), "shape"),
        (3.0, "shape"),
        ("word", "no array of numbers"),
        ([1, "x"], "no array of numbers"),
        (object(), "no array of numbers"),
    ],
)
def test_vectors_of_no_use(library, vector, words):
    for search in (library.search_vector, lambda vector: library.search(vector=vector)):
        with pytest.raises(InputError, match=words):
            search(vector)


def test_vectors_of_any_length_and_kind(library, encoder, picture):
    vector = encoder.image(picture(4))[0]
    wanted = [(hit.item_id, pytest.approx(hit.score, abs=1e-6)) for hit in library.search_vector(vector, 5)]
    for form in (
        vector * 1e-30,
        vector.astype(np.float64) * 1e200,
        vector[None],
        list(map(float, vector)),
        (vector * 1000).astype(int),
    ):
        hits = library.search_vector(form, 5)
        assert [hit.item_id for hit in hits] == [item_id for item_id, _ in wanted]
    with pytest.raises(InputError, match="give one vector"):
        library.search_vector(np.ones((2, 16)))


def test_every_modality_reaches_its_encoder(library, encoder, picture, tmp_path):
    wave = np.sin(np.arange(64) / 3)
    for asked, vector in (
        ({"text": "red"}, encoder.text("red")),
        ({"speech": wave}, encoder.speech(wave)),
        ({"speech": wave, "sample_rate": 32}, encoder.speech(wave, sample_rate=32)),
        ({"image": picture(3)}, encoder.image(picture(3))),
        ({"ipa": "ɹɛd"}, encoder.pronunciation("ɹɛd")),
        ({"words": "red"}, encoder.pronunciation(words="red")),
    ):
        result = library.search(**asked, k=30)
        expected = library.search_vector(vector[0], 30)
        assert [(hit.item_id, hit.score) for hit in result] == [
            (hit.item_id, pytest.approx(hit.score)) for hit in expected
        ]
        assert [part["modality"] for part in result.queries] == [next(iter(asked))]
        assert result.encode_ms > 0
        assert result.search_ms > 0
        assert json.loads(json.dumps(result.to_dict()))["hits"][0]["caption"] == result[0].caption


def test_fusing_is_the_weighted_sum_of_unit_embeddings(library, encoder, picture):
    text, image, wave = encoder.text("red")[0], encoder.image(picture(5))[0], np.cos(np.arange(64))
    speech = encoder.speech(wave)[0]
    scaled = 1000 * speech  # a given vector counts by its direction
    for asked, weights, vector in (
        ({"text": "red", "image": picture(5)}, None, text + image),
        ({"text": "red", "image": picture(5)}, {"text": 3}, 3 * text + image),
        ({"text": "red", "image": picture(5)}, {"text": 0.0}, image),
        ({"text": "red", "image": picture(5)}, {"image": -0.5}, text - 0.5 * image),
        ({"text": ["red", "blue"]}, None, text + encoder.text("blue")[0]),
        ({"text": ["red", "blue"], "speech": wave}, {"text": 2}, 2 * text + 2 * encoder.text("blue")[0] + speech),
        ({"text": ["red", "blue"]}, {"text": [2, -1]}, 2 * text - encoder.text("blue")[0]),
        ({"text": "red", "vector": scaled}, {"vector": np.float32(2)}, text + 2 * speech),
        ({"vector": [text, speech]}, {"vector": np.array([1, 2])}, text + 2 * speech),
        ({"text": "red"}, {"text": -1}, -text),
    ):
        result = library.search(**asked, weights=weights, k=30)
        expected = library.search_vector(vector, 30)
        assert [hit.item_id for hit in result] == [hit.item_id for hit in expected]
        assert [hit.score for hit in result] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert [
        (part["query"], part["weight"]) for part in library.search(text=["a", "b"], weights={"text": [2, 3]}).queries
    ] == [
        ("a", 2.0),
        ("b", 3.0),
    ]


@pytest.mark.parametrize(
    ("asked", "weights", "words"),
    [
        ({}, None, "nothing to search for: give at least one of text, speech, image, ipa, words, vector"),
        ({"text": []}, None, "text is an empty list"),
        ({"text": "a"}, {"text": 0}, "all weights are 0"),
        ({"text": ["a", "b"]}, {"text": [0, 0]}, "all weights are 0"),
        ({"text": "a"}, {"text": float("nan")}, "weight of text is nan"),
        ({"text": "a"}, {"text": float("inf")}, "weight of text is inf"),
        ({"text": "a"}, {"text": "1"}, "weight of text is '1'"),
        ({"text": "a"}, {"text": None}, "weight of text is None"),
        ({"text": "a"}, {"text": True}, "weight of text is True"),
        ({"text": "a"}, {"speech": 1}, "weights names 'speech': name only what is asked: text"),
        ({"text": "a"}, {"txt": 1}, "weights names 'txt'"),
        ({"text": ["a", "b"]}, {"text": [1]}, "1 weights for 2 text queries"),
        ({"text": ["a", "a"]}, {"text": [1, -1]}, "cancel each other"),
    ],
)
def test_queries_and_weights_of_no_use(library, asked, weights, words):
    with pytest.raises(InputError, match=words):
        library.search(**asked, weights=weights)


def test_an_encoder_that_is_not_there(library, encoder, picture):
    encoder.names = ("image", "text")
    for asked, name in (
        ({"speech": np.ones(64)}, "speech"),
        ({"ipa": "a"}, "pronunciation"),
        ({"words": "a"}, "pronunciation"),
    ):
        with pytest.raises(
            BundleError, match=f"needs the {name} encoder, the bundle has image, text: load a bundle of space"
        ):
            library.search(**asked)
        with pytest.raises(BundleError, match=name):
            library.search("red", **asked)


def test_an_encoder_that_gives_something_else(library, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "text", lambda texts: np.ones((1, 3), np.float32))
    with pytest.raises(BundleError, match=r"text encoder gave \[1, 3\], wanted \[1, 16\]"):
        library.search("x")
    monkeypatch.setattr(encoder, "text", lambda texts: np.full((1, 16), np.nan, np.float32))
    with pytest.raises(InputError, match="embedding of the text query holds NaN"):
        library.search("x")


def test_min_score(library, encoder):
    everything = library.search("x", k=30)
    least = everything[9].score
    assert [hit.item_id for hit in library.search("x", k=30, min_score=least)] == [
        hit.item_id for hit in everything[:10]
    ]
    assert library.search("x", min_score=1) == []
    for bad in (float("nan"), float("inf"), "0.5", True):
        with pytest.raises(InputError, match="min_score is"):
            library.search("x", min_score=bad)


def test_search_follows_every_change(library, encoder, picture):
    """Changes by the same connection and by another one, adding, updating and removing."""
    with Library.open(library.path, encoder) as other:
        for number, writer in enumerate([library, other, library, other], start=100):
            assert len(other.search("x", k=100)) == len(library.search("x", k=100)) == len(library)
            item_id = writer.add(picture(number), source=f"new {number}")
            for reader in (library, other):
                assert reader.search(image=picture(number), k=1)[0].item_id == item_id
            writer.add(picture(number + 50), source=f"new {number}")
            for reader in (library, other):
                assert reader.search(image=picture(number + 50), k=1)[0].item_id == item_id
                assert reader.search(image=picture(number), k=1)[0].score < 0.999
            writer.remove(number - 99)
            for reader in (library, other):
                ids = [hit.item_id for hit in reader.search("x", k=100)]
                assert number - 99 not in ids
                assert len(ids) == 30


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("aru"), st.integers(0, 9)), max_size=25))
def test_a_cache_that_followed_equals_a_fresh_one(shared, steps):
    store = shared._store
    followed = ExactIndex(WIDTH)
    rng = np.random.default_rng(len(steps))
    with store.writing():
        store.delete_items([item.item_id for item in shared.items()])
    for action, number in steps:
        known = store.find(str(number), "picture")
        if action in "au":
            shared.add(rng.normal(size=(1, 1, WIDTH)), source=str(number))
        elif known is not None:
            shared.remove(known.id)
        with store.reading():
            followed.refresh(store)
    fresh = ExactIndex(WIDTH)
    with store.reading():
        followed.refresh(store)
        fresh.refresh(store)
    query = unit(rng.normal(size=(1, WIDTH)))[0]
    for mine, its in zip(followed.best(query, 20), fresh.best(query, 20), strict=True):
        assert mine.tolist() == its.tolist()
    assert len(followed) == len(fresh) == len(shared)


def test_an_interrupted_search_does_not_spoil_the_next(library, encoder, picture):
    library.search("x")
    library.remove(3)
    library.add(picture(77), source="new")

    class Interrupted(np.ndarray):
        armed = True

        def __setitem__(self, *args):
            if Interrupted.armed:
                Interrupted.armed = False
                raise KeyboardInterrupt
            super().__setitem__(*args)

    # Between moving the ids and moving the vectors that belong to them.
    library._exact._rows = library._exact._rows.view(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        library.search("x")
    with Library.open(library.path, encoder) as fresh:
        assert library.search("x", k=40) == fresh.search("x", k=40)


def test_a_library_is_read_at_one_moment(library, encoder, picture, monkeypatch):
    """An item removed by another process between scoring and looking up cannot leave a hole."""
    with Library.open(library.path, encoder) as other:
        get = library._store.get

        def remove_first(ids):
            other.remove(ids[0])
            return get(ids)

        best = library.search("x", k=30)[0].item_id
        monkeypatch.setattr(library._store, "get", remove_first)
        hits = library.search("x", k=30)
        assert len(hits) == 30
        assert hits[0].item_id == best
        monkeypatch.undo()
        assert len(library.search("x", k=30)) == 29


def test_foreign_vectors_never_count(tmp_path):
    """The same pictures in libraries of two spaces: nothing crosses."""
    first, second = ProjectionEncoder(space="one"), ProjectionEncoder(space="two")
    with Library.create(tmp_path / "one", first) as library:
        library.add(np.ones((4, 4, 3), np.uint8))
        stranger = SimpleNamespace(space="two", width=16, names=("text",), text=second.text)
        with pytest.raises(LibraryError.__mro__[1], match="space one"):
            Library.open(tmp_path / "one", stranger)
