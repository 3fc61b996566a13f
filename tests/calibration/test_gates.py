"""What counts as lost: each gate by itself, and what no gate may ever let through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sayclip.errors import InputError
from sayclip_calibration.agreement import join, row_cosines, same_boundaries, same_keywords
from sayclip_calibration.gates import Gate, Limits
from sayclip_calibration.retrieval import GALLERY, QUERIES, Retrieval

Rows = Any


def rows(count: int, width: int = 16, seed: int = 0, common: float = 0.0) -> Rows:
    """Embeddings of length 1; ``common`` is what they share, in multiples of what tells them apart."""
    values = np.random.default_rng(seed).normal(size=(count, width)) + common
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def turned(values: Rows, by: float, seed: int = 1) -> Rows:
    """Each row turned so that its cosine is ``by``."""
    aside = np.random.default_rng(seed).normal(size=values.shape)
    aside -= (aside * values).sum(axis=1, keepdims=True) * values
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    return (by * values + math.sqrt(1 - by * by) * aside).astype(np.float32)


def test_nothing_lost_is_a_score_of_one() -> None:
    outputs = {"embedding": rows(40)}
    judgement = Gate().judge(outputs, outputs)
    assert judgement.passed
    assert judgement.failed == ()
    assert judgement.score == pytest.approx(1.0)
    assert judgement.mean == pytest.approx(1.0)
    assert judgement.recall == {"recall@1": 0.0, "recall@5": 0.0, "recall@10": 0.0}
    assert (judgement.keywords, judgement.boundaries) == (None, None)


@pytest.mark.parametrize("by", [0.996, 0.994])
def test_the_gate_on_the_mean(by: float) -> None:
    judgement = Gate(Limits(worst=0.9), None).judge({"embedding": rows(20)}, {"embedding": turned(rows(20), by)})
    assert judgement.mean == pytest.approx(by, abs=1e-5)
    assert judgement.passed == (by >= 0.995)
    assert (judgement.score >= 0) == judgement.passed
    assert judgement.score == pytest.approx((by - 0.995) / 0.005, abs=0.01)
    if not judgement.passed:
        assert judgement.failed == ("mean cosine is 0.9940, wanted at least 0.995",)


def test_the_worst_sample_is_named() -> None:
    seen = rows(20).copy()
    seen[7] = turned(seen[7:8], 0.9)
    judgement = Gate(Limits(mean=0.9), None, tuple(f"{n}.png" for n in range(20))).judge(
        {"embedding": rows(20)}, {"embedding": seen}
    )
    assert judgement.worst_sample == 7
    assert judgement.failed == ("worst cosine of 7.png is 0.9000, wanted at least 0.98",)


def test_what_all_embeddings_share_is_no_agreement() -> None:
    """In a narrow cone every embedding is near every other; without their mean it is seen that nothing is kept."""
    one, two = rows(64, common=20.0), rows(64, seed=5, common=20.0)
    judgement = Gate(retrieval=None).judge({"embedding": one}, {"embedding": two})
    assert judgement.raw_mean > 0.99
    assert judgement.centred
    assert judgement.mean < 0.3
    assert not judgement.passed
    few = Gate(retrieval=None).judge({"embedding": one[:31]}, {"embedding": two[:31]})
    assert not few.centred
    assert few.mean == few.raw_mean


def test_an_encoder_that_gives_one_embedding_for_everything_finds_nothing() -> None:
    collapsed = np.repeat(rows(1), 40, axis=0)
    judgement = Gate(Limits(-1, -1, 0.01, centred_worst=-1)).judge({"embedding": rows(40)}, {"embedding": collapsed})
    assert judgement.recall["recall@1"] == -1.0
    assert judgement.recall["recall@10"] == -1.0
    assert "change of recall@1 is -1.0000, wanted at least -0.025" in judgement.failed


@pytest.mark.parametrize(("count", "lost", "passed"), [(20, 1, True), (20, 2, False), (300, 3, True), (300, 4, False)])
def test_recall_may_lose_a_hundredth_or_one_query(count: int, lost: int, passed: bool) -> None:
    gallery = np.eye(count, dtype=np.float32)
    seen = gallery.copy()
    seen[:lost] = np.roll(gallery, 40, axis=0)[:lost] if count > 50 else np.roll(gallery, 11, axis=0)[:lost]
    judgement = Gate(Limits(-1, -1, centred_worst=-1), Retrieval(QUERIES, gallery, np.eye(count, dtype=bool))).judge(
        {"embedding": gallery}, {"embedding": seen}
    )
    assert judgement.recall["recall@1"] == pytest.approx(-lost / count)
    assert judgement.passed == passed


def test_pairs_are_the_truth_where_there_are_any() -> None:
    """What int8 finds better than fp32 is a gain, not a difference."""
    gallery = np.eye(12, dtype=np.float32)
    wrong = np.roll(gallery, 1, axis=0)
    judgement = Gate(Limits(-1, -1, centred_worst=-1), Retrieval(QUERIES, gallery, np.eye(12, dtype=bool))).judge(
        {"embedding": wrong}, {"embedding": gallery}
    )
    assert judgement.recall["recall@1"] == 1.0
    assert judgement.passed


def test_pictures_are_the_gallery_of_others_queries() -> None:
    gallery = np.eye(12, dtype=np.float32)
    seen = gallery[::-1].copy()
    for relevant in (np.eye(12, dtype=bool), None):
        judgement = Gate(Limits(-1, -1, centred_worst=-1), Retrieval(GALLERY, gallery, relevant)).judge(
            {"embedding": gallery}, {"embedding": seen}
        )
        assert judgement.recall["recall@1"] == -1.0
        assert not judgement.passed


def test_a_part_of_the_samples_keeps_its_truth() -> None:
    truth = np.eye(12, dtype=bool)
    gallery = np.eye(12, dtype=np.float32)
    for role in (QUERIES, GALLERY):
        gate = Gate(Limits(), Retrieval(role, gallery, truth), tuple("abcdefghijkl")).subset([3, 5, 7])
        part = {"embedding": gallery[[3, 5, 7]]}
        judgement = gate.judge(part, part)
        assert judgement.passed
        assert gate.name_of(judgement.worst_sample) in "dfh"


def keyword_outputs(ids: list[list[int]], counts: list[int] | None = None) -> dict[str, Any]:
    outputs: dict[str, Any] = {"embedding": rows(len(ids)), "keyword_ids": np.array(ids, np.int32)}
    return outputs | ({} if counts is None else {"keyword_count": np.array(counts, np.int32)})


def test_keywords_agree_within_their_count() -> None:
    one = keyword_outputs([[1, 2, 9], [3, 4, 5]], [2, 3])
    two = keyword_outputs([[1, 2, 7], [3, 0, 5]], [2, 3])
    whole, share = same_keywords(one, two)
    assert whole.tolist() == [True, False]
    assert share == pytest.approx(4 / 5)
    judgement = Gate(retrieval=None).judge(one, two)
    assert judgement.failed == ("share of equal keywords is 0.8000, wanted at least 0.95",)
    shorter = keyword_outputs([[1, 2, 9], [3, 4, 5]], [1, 3])
    assert same_keywords(one, shorter)[1] == pytest.approx(4 / 5)  # one keyword less is one that differs


def test_an_embedding_made_of_keywords_is_not_judged_twice() -> None:
    """A keyword that changes turns the cascaded embedding; that it changed is what the gate on keywords counts."""
    one = keyword_outputs([[n] for n in range(40)])
    ids = one["keyword_ids"].copy()
    ids[3] = 99
    embedding = one["embedding"].copy()
    embedding[3] = turned(embedding[3:4], 0.9)
    changed = {**one, "keyword_ids": ids, "embedding": embedding}
    limits = Limits(mean=0.99)
    judgement = Gate(limits, None).judge(one, changed)
    assert judgement.keywords == pytest.approx(39 / 40)
    assert judgement.passed
    assert judgement.raw_worst == pytest.approx(0.9, abs=1e-3)  # what a check of sessions will see
    unchanged = Gate(limits, None).judge(one, {**one, "embedding": embedding})
    assert unchanged.worst_sample == 3
    assert not unchanged.passed
    steady = {"parallel_embedding": one["embedding"]}
    both = Gate(limits, None).judge({**one, **steady}, {**changed, "parallel_embedding": embedding})
    assert not both.passed  # the parallel branch has nothing to do with keywords


def test_boundaries_agree_within_20_ms() -> None:
    one = {"boundaries": np.array([[0, 0.5, 1.0], [0, 0.3, 0]], np.float32), "keyword_count": np.array([2, 1])}
    two = {"boundaries": np.array([[0, 0.515, 1.0], [0, 0.35, 9]], np.float32), "keyword_count": np.array([2, 1])}
    seconds, share = same_boundaries(one, two)
    assert seconds == pytest.approx((0.015 * 2 + 0.05 * 2) / 10)
    assert share == pytest.approx(8 / 10)
    lacking = {"boundaries": one["boundaries"], "keyword_count": np.array([2, 0])}
    assert same_boundaries(one, lacking)[1] == pytest.approx(8 / 9)
    assert same_boundaries(one, {**one, "boundaries": np.full((2, 3), np.nan)})[1] == 0.0


def test_runs_with_other_numbers_of_keywords_are_joined() -> None:
    parts = [
        {"embedding": rows(1), "keyword_ids": np.array([[1, 2, 3]]), "boundaries": np.ones((1, 4), np.float32)},
        {"embedding": rows(2), "keyword_ids": np.array([[4], [5]]), "boundaries": np.ones((2, 2), np.float32)},
    ]
    joined = join(parts)
    assert joined["embedding"].shape == (3, 16)
    assert joined["keyword_ids"].tolist() == [[1, 2, 3], [4, -1, -1], [5, -1, -1]]
    assert joined["boundaries"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    with pytest.raises(InputError, match="wanted the same in each"):
        join([])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_never_passes(bad: float) -> None:
    seen = rows(40).copy()
    seen[5, 3] = bad
    for limits in (Limits(), Limits(mean=-1.0, worst=-1.0, recall=1.0)):
        judgement = Gate(limits).judge({"embedding": rows(40)}, {"embedding": seen})
        assert not judgement.passed
        assert judgement.worst == -1.0
        assert judgement.worst_sample == 5
        assert np.isfinite(judgement.cosines).all()
    everywhere = {"embedding": np.full((40, 16), bad, np.float32)}
    assert not Gate(Limits(-1, -1, 1)).judge(everywhere, everywhere).passed


def test_outputs_of_something_else_are_refused() -> None:
    with pytest.raises(InputError, match="wanted as fp32 gives them"):
        Gate().judge({"embedding": rows(3)}, {"embedding": rows(4)})
    with pytest.raises(InputError, match="wanted as fp32 gives them"):
        Gate().judge({"embedding": rows(3), "keyword_ids": np.zeros((3, 1))}, {"embedding": rows(3)})
    with pytest.raises(InputError, match="wanted as fp32 gives them"):
        Gate().judge({"logits": rows(3)}, {"logits": rows(3)})


@pytest.mark.parametrize("name", ["mean", "worst", "recall", "keywords", "boundaries"])
@pytest.mark.parametrize("value", [1.5, -1.5, math.nan])
def test_a_limit_that_no_figure_can_have_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"the gate {name} is"):
        Limits.of("image", **{name: value})


def test_speech_has_a_gate_of_its_own() -> None:
    assert Limits.of("speech").mean == 0.99
    assert Limits.of("image").mean == Limits.of("text", worst=None).mean == 0.995
    assert Limits.of("speech", mean=0.9, worst=None) == Limits(mean=0.9)


embeddings = hnp.arrays(np.float32, (35, 4), elements=st.floats(-1, 1, width=32))


def test_without_pairs_a_hair_makes_no_difference_and_damage_does() -> None:
    """Which of two items comes first by a hair is no matter of accuracy; a cosine of 0.8 is."""
    for seed in range(10):
        one, others = rows(64, 64, seed=seed), rows(128, 64, seed=seed + 100)
        for role in (QUERIES, GALLERY):
            gate = Gate(Limits(-1, -1, centred_worst=-1), Retrieval(role, others))
            assert gate.judge({"embedding": one}, {"embedding": turned(one, 0.9999, seed)}).passed
            assert not gate.judge({"embedding": one}, {"embedding": turned(one, 0.8, seed)}).passed


@settings(max_examples=60, deadline=None)
@given(embeddings, embeddings)
def test_the_score_is_negative_exactly_where_a_gate_is_missed(one: Rows, two: Rows) -> None:
    judgement = Gate().judge({"embedding": one}, {"embedding": two})
    assert judgement.passed == (judgement.score >= 0) == (judgement.failed == ())
    assert judgement.score <= 1.0 + 1e-9
    assert -1 <= judgement.worst <= judgement.mean <= 1
    assert len(judgement.cosines) == 35
    assert all(-1 <= change <= 1 for change in judgement.recall.values())


@settings(max_examples=60, deadline=None)
@given(embeddings, st.permutations(range(35)))
def test_the_order_of_samples_changes_no_figure(values: Rows, order: list[int]) -> None:
    gate, seen = Gate(), turned(rows(35, 4), 0.97)
    one = gate.judge({"embedding": values}, {"embedding": seen})
    two = gate.judge({"embedding": values[order]}, {"embedding": seen[order]})
    assert two.mean == pytest.approx(one.mean, abs=1e-6)
    assert two.worst == pytest.approx(one.worst, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(embeddings, st.floats(0.01, 100))
def test_cosines_know_no_length(values: Rows, factor: float) -> None:
    assert np.allclose(row_cosines(values, values), 1.0, atol=1e-6)
    large = values * (np.abs(values).sum(axis=1, keepdims=True) > 1e-3)
    assert np.allclose(row_cosines(large, large * np.float32(factor)), 1.0, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
def test_recall_of_fp32s_own_finds_is_whole(queries: int, gallery: int, seed: int) -> None:
    one, others = rows(queries, seed=seed), rows(gallery, seed=seed + 1)
    before, after, asked = Retrieval(QUERIES, others).recall(one, turned(one, 0.9, seed), centred=False)
    assert asked == queries
    assert all(value == 1.0 for value in before.values())
    assert sorted(after.values()) == list(after.values())  # more is found among more
    assert set(before) == {k for k in (1, 5, 10) if k < gallery}
