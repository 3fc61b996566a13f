"""The published confusions, and what they are held against."""

from __future__ import annotations

import numpy as np
import pytest

from sayclip_export.phonemes.chart import load_chart
from sayclip_training.claims.pronunciation.perception import CONSONANTS, confusions
from sayclip_training.claims.ranks import rank_correlation


def test_the_figures_are_those_of_the_experiment() -> None:
    table = confusions()
    assert table.shape == (16, 16)
    assert (table == table.T).all()
    upper = table[np.triu_indices(16, 1)]
    assert ((upper > 0) & (upper < 0.5)).all()
    # As the source has them: the most confused pairs, and the sum of all typed figures.
    places = [divmod(int(place), 16) for place in np.argsort(-np.triu(table), axis=None)[:5]]
    named = [CONSONANTS[a] + CONSONANTS[b] for a, b in places]
    assert named == ["pk", "fθ", "dɡ", "vð", "tk"]
    assert upper.sum() == pytest.approx(6.979, abs=1e-9)


def test_the_chart_is_nearer_where_people_confuse_more() -> None:
    chart = load_chart()
    upper = np.triu_indices(16, 1)
    gaps = [chart.distance(CONSONANTS[a], CONSONANTS[b]) for a, b in zip(*upper, strict=True)]
    assert -rank_correlation(gaps, confusions()[upper]) == pytest.approx(0.42, abs=0.01)
