"""Batches: each picture once, the same every time, twins of the same picture; and the losses on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sayclip.errors import InputError
from sayclip_training.heads.batches import Batches
from sayclip_training.heads.objective import contrastive, towards_names, towards_vocabulary

MEANING = [0, 0, 0, 1, 1, 2, 3, 3]


def test_each_picture_comes_once_and_the_same_every_time() -> None:
    one, other = (Batches(range(8), MEANING, 4, seed, twins=False) for seed in (0, 1))
    for number in range(20):
        first, second = one.draw(number)
        assert sorted(MEANING[row] for row in first) == [0, 1, 2, 3]
        assert (first == second).all()
        assert (first == one.draw(number)[0]).all()
    assert any((one.draw(number)[0] != other.draw(number)[0]).any() for number in range(5))
    assert {int(row) for number in range(60) for row in one.draw(number)[0]} == set(range(8))


def test_twins_mean_the_same_and_are_not_the_same() -> None:
    batches = Batches(range(8), MEANING, 9, 0, twins=True)
    for number in range(20):
        first, second = batches.draw(number)
        assert [MEANING[row] for row in first] == [MEANING[row] for row in second]
        assert (first != second).all()
        assert 5 not in first, "its picture has no other utterance"


def test_only_the_rows_given_are_drawn_and_too_few_are_refused() -> None:
    batches = Batches([0, 3, 4], MEANING, 128, 0, twins=False)
    assert {int(row) for number in range(20) for row in batches.draw(number)[0]} == {0, 3, 4}
    with pytest.raises(InputError, match="1 pictures have an utterance to learn from"):
        Batches([0, 1], MEANING, 4, 0, twins=False)
    with pytest.raises(InputError, match="0 pictures have two utterances"):
        Batches([0, 5], MEANING, 4, 0, twins=True)


def test_what_means_the_same_is_no_negative() -> None:
    ours, theirs = (normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    apart = contrastive(ours, theirs, torch.arange(4))
    logits = (ours @ theirs.T / 0.07).numpy().astype(np.float64)
    both = [np.log(np.exp(table).sum(1)) - np.diag(table) for table in (logits, logits.T)]
    assert apart.item() == pytest.approx(np.mean(both), rel=1e-5)
    masked = logits.copy()
    masked[0, 1] = masked[1, 0] = -np.inf
    both = [np.log(np.exp(table).sum(1)) - np.diag(table) for table in (masked, masked.T)]
    assert contrastive(ours, theirs, torch.tensor([0, 0, 1, 2])).item() == pytest.approx(np.mean(both), rel=1e-5)


def test_units_are_drawn_to_the_nearest_word_that_is_one() -> None:
    table = torch.eye(4)
    units = torch.tensor([[[2.0, 0, 0, 0], [0, 0, 1.0, 1.0]]], requires_grad=True)
    barred = torch.tensor([True, False, False, False])
    loss = towards_vocabulary(units, torch.tensor([2]), table, barred)
    assert loss.item() == pytest.approx((1 - 0 + 1 - 0.5**0.5) / 2, abs=1e-5)
    alone = towards_vocabulary(units, torch.tensor([1]), table, torch.zeros(4, dtype=torch.bool))
    assert alone.item() == pytest.approx(0, abs=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert units.grad is not None
    assert units.grad.isfinite().all()


def test_units_are_drawn_to_their_names() -> None:
    table, barred = torch.eye(4), torch.tensor([True, False, False, False])
    units = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 3, 0], [9, 9, 9, 9]]], requires_grad=True)
    loss = towards_names(units, torch.tensor([[1, 3]]), table, barred)
    near = [(0.5**0.5, [0.5**0.5, 0, 0, -2]), (0.0, [0, 1, 0, -2])]
    wanted = [np.log(np.exp(np.array(all_of_them) / 0.05).sum()) - right / 0.05 for right, all_of_them in near]
    assert loss.item() == pytest.approx(np.mean(wanted), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert units.grad is not None
    assert (units.grad[0, 2] == 0).all(), "which has no name"
    nobody = towards_names(units, torch.full((1, 3), -1), table, barred)
    assert nobody.item() == 0
    nobody.backward()  # type: ignore[no-untyped-call]
