"""Phonemes of the spoken corpus become numbers, and CTC learns from those that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sayclip.phonemes.inventory import PhonemeInventory
from sayclip_training import labels
from sayclip_training.speech import ctc


def test_what_is_said_becomes_ids_of_an_inventory(tmp_path: Path) -> None:
    said = ["ɹ ɛ d", "ɹˈɛd ˈæpəl", "", "ɹ ɛ d"]
    inventory, ids = labels.label(said, tmp_path / "heard.json")
    read = PhonemeInventory.from_file(tmp_path / "heard.json")
    assert [e["symbol"] for e in inventory["symbols"] if e["id"]] == [e for e in read.symbols]
    assert ids[0] == ids[3] == ids[1][:3] == read.encode("ɹɛd")[1:-1]
    assert ids[2] == []
    assert [read.symbols[number - 5] for number in ids[1]] == ["ɹ", "ɛ", "d", "æ", "p", "ə", "l"]
    assert min(min(row) for row in ids if row) > 0, "0 is CTC's blank"


def test_a_rare_phoneme_counts_as_the_nearest_that_is_not(tmp_path: Path) -> None:
    inventory, ids = labels.label(["t s d"] * 2000 + ["ʈ"], tmp_path / "heard.json")
    assert sorted(e["symbol"] for e in inventory["symbols"] if e["id"]) == ["d", "s", "t"]
    assert ids[-1] == ids[0][:1]


def test_ctc_leaves_out_what_is_unknown() -> None:
    torch.manual_seed(0)
    scores, frames = torch.randn(3, 12, 7, requires_grad=True), torch.tensor([12, 9, 12])
    loss = ctc(scores, frames, [[1, 2, 3], [4], []])
    log = scores.log_softmax(-1).transpose(0, 1)
    wanted = []
    for i, count, row in ((0, 12, [1, 2, 3]), (1, 9, [4])):
        one = torch.nn.functional.ctc_loss(
            log[:count, i : i + 1],
            torch.tensor([row]),
            torch.tensor([count]),
            torch.tensor([len(row)]),
            reduction="sum",
        )  # fmt: skip
        wanted.append(one / len(row))
    assert loss.item() == pytest.approx(torch.stack(wanted).mean().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient[0].any()
    assert not gradient[2].any()
    assert ctc(scores, frames, [[], [], []]).item() == 0.0
