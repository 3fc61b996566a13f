"""Optimisation profiles: which shapes an engine is built for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sayclip.bundle.entries import AudioPreprocessing, TensorSpec
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError
from sayclip.sessions.tensorrt.profiles import LEAST_SAMPLES, lengths, profiles

EDGE = 163_840
"""512 frames of 20 ms at 16 kHz."""


def test_pictures_are_fixed_but_for_the_batch(manifest: Manifest) -> None:
    entry = manifest.entry("image")
    assert profiles(entry, entry.graphs["fp32"], "query") == [{"pixels": ((1, 3, 16, 16),) * 3}]
    (index,) = profiles(entry, entry.graphs["fp32"], "index")
    assert index == {"pixels": ((1, 3, 16, 16), (32, 3, 16, 16), (32, 3, 16, 16))}


@pytest.mark.parametrize("encoder", ["text", "pronunciation"])
def test_tokens_up_to_the_context(manifest: Manifest, encoder: str) -> None:
    entry = manifest.entry(encoder)
    ids = entry.graphs["fp32"].inputs[0].name
    found = profiles(entry, entry.graphs["fp32"], "query")
    assert [(profile[ids][0], profile[ids][2]) for profile in found] == [
        ((1, 2), (1, 16)),
        ((1, 17), (1, 32)),
        ((1, 33), (1, 77)),
    ]
    assert all(profile["length"] == ((1,), (1,), (1,)) for profile in found)


@given(
    least=st.floats(0, 2),
    span=st.floats(0.1, 60),
    buckets=st.lists(st.floats(0.01, 70), max_size=6),
    rate=st.sampled_from([8000, 16000, 22050, 48000]),
)
def test_speech_is_covered_without_a_gap_or_a_step_over_the_edge(
    least: float, span: float, buckets: list[float], rate: int
) -> None:
    how = AudioPreprocessing(rate, min_seconds=least, max_seconds=least + span, buckets=tuple(sorted(buckets)))
    found = lengths(how)
    edge = round(512 * 0.02 * rate)
    assert all(low <= likely <= high for low, likely, high in found)
    assert all(after[0] == before[2] + 1 for before, after in itertools.pairwise(found))
    assert not [part for part in found if part[0] <= edge < part[2]]
    longest = (least + span) * rate
    assert found[-1][2] >= longest
    # What the preparation pads the longest recording to.
    assert found[-1][2] >= min(
        (round(bucket * rate) for bucket in buckets if round(bucket * rate) >= longest), default=0
    )
    assert found[0][0] >= LEAST_SAMPLES or found[0][0] == found[0][2]
    if found[0][2] > LEAST_SAMPLES:
        assert found[0][0] <= max(LEAST_SAMPLES, least * rate)


def test_buckets_of_the_manifest_end_ranges_and_are_likeliest() -> None:
    found = lengths(AudioPreprocessing(min_seconds=0.1, max_seconds=12.0, buckets=(2.0, 5.0, 12.5)))
    assert [high for _, _, high in found] == [32_000, 80_000, EDGE, 200_000]
    assert all(likely == high for _, likely, high in found)


def test_a_free_dimension_nobody_knows_is_refused(manifest: Manifest) -> None:
    entry = manifest.entry("image")
    graph = replace(entry.graphs["fp32"], inputs=(TensorSpec("pixels", "float32", ("batch", 3, "side", 16)),))
    with pytest.raises(BundleError, match="free dimension side"):
        profiles(entry, graph, "query")
    graph = replace(graph, inputs=(TensorSpec("pixels", "float32", ("batch", 3, "h", "w")),))
    with pytest.raises(BundleError, match="free dimensions h, w beside the batch, wanted one"):
        profiles(entry, graph, "query")
