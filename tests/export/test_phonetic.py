"""The phonetic branch reads what was said, not how fast, and padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sayclip_export.models.phonetic import (
    CLEAR,
    PhoneticBranch,
    PhoneticConfig,
    SpeechEncoder,
    Windows,
    segments,
)
from sayclip_export.models.speech import SpeechConfig, SpeechTower

PHONEMES = 12


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    speech = SpeechConfig(width=32, layers=2, heads=4, hidden=48, head_heads=4, head_hidden=48, embedding=16,
                          phonemes=PHONEMES, phoneme_layer=1)  # fmt: skip
    branch = PhoneticConfig(PHONEMES, width=24, layers=2, kernel=5, pools=2, embedding=16)
    encoder = SpeechEncoder(SpeechTower(speech), PhoneticBranch(branch))
    nn.init.normal_(encoder.tower.phoneme_head().weight, std=2.0)  # decided phonemes, as a trained tower's
    return encoder.eval()


def said(phonemes: list[int], frames: list[int], gaps: list[int]) -> tuple[Tensor, Tensor]:
    """Certain posteriors: every phoneme for some frames, then blanks."""
    rows = [0]
    for phoneme, count, gap in zip(phonemes, frames, gaps, strict=True):
        rows += [phoneme] * count + [0] * gap
    return nn.functional.one_hot(torch.tensor([rows]), PHONEMES).float(), torch.ones(1, len(rows), 1)


spelling = st.lists(st.integers(1, PHONEMES - 1), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(phonemes=spelling, data=st.data())
def test_certain_phonemes_become_one_slot_each_at_any_tempo(phonemes: list[int], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, 5)) for _ in phonemes]
    gaps = [data.draw(st.integers(1, 4)) for _ in phonemes]
    slots, reached, possible = segments(*said(phonemes, counts, gaps))
    wanted = nn.functional.one_hot(torch.tensor(phonemes), PHONEMES)[:, 1:].float()
    assert torch.equal(slots[0, : len(phonemes)], wanted)
    assert not slots[0, len(phonemes) :].any()
    assert (reached[0, : len(phonemes)] == 1).all()
    assert possible[0, : len(phonemes)].all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(2, 40), step=st.sampled_from([1e-5, 1e-4]))
def test_a_small_change_of_the_posteriors_changes_the_slots_a_little(seed: int, frames: int, step: float) -> None:
    torch.manual_seed(seed)
    scores, mask = torch.randn(1, frames, PHONEMES).double() * 3, torch.ones(1, frames, 1).double()
    slots, _, _ = segments(scores.softmax(-1), mask)
    moved, _, _ = segments((scores + step * torch.randn_like(scores)).softmax(-1), mask)
    assert (slots - moved).abs().max() < 60 * step * frames


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_the_branch_makes_no_leaps(encoder: SpeechEncoder, seed: int) -> None:
    """On the way from one utterance to another, in 800 steps, segments come and go; the embedding never jumps."""
    torch.manual_seed(seed)
    first, last = torch.randn(2, 1, 25, PHONEMES) * 4
    way = first + torch.linspace(0, 1, 800)[:, None, None] * (last - first)
    with torch.no_grad():
        read, _ = encoder.branch(way.softmax(-1), torch.ones(800, 25, 1))
    read = nn.functional.normalize(read, dim=-1)
    assert (read[0] - read[-1]).norm() > 0.05
    assert (read[1:] - read[:-1]).norm(dim=-1).max() < 0.03


@settings(max_examples=20, deadline=None)
@given(frames=st.lists(st.integers(1, 30), min_size=1, max_size=4), extra=st.integers(0, 12), seed=st.integers(0, 99))
def test_padding_never_changes_the_slots(frames: list[int], extra: int, seed: int) -> None:
    torch.manual_seed(seed)
    posteriors = (torch.randn(len(frames), max(frames) + extra, PHONEMES) * 6).softmax(-1)
    mask = (torch.arange(posteriors.shape[1])[None, :] < torch.tensor(frames)[:, None]).float()[..., None]
    together, reached, possible = segments(posteriors, mask)
    for row, count in enumerate(frames):
        alone, *own = segments(posteriors[row : row + 1, :count], mask[row : row + 1, :count])
        assert (together[row, : alone.shape[1]] - alone[0]).abs().max() < 1e-6
        assert not together[row, alone.shape[1] :].any()
        for whole, part in zip((reached, possible), own, strict=True):
            assert (whole[row, : part.shape[1]] - part[0]).abs().max() < 1e-4
            assert not whole[row, part.shape[1] :].any()


def test_windows_are_a_convolution() -> None:
    torch.manual_seed(0)
    windows = Windows(6, 9, 5)
    x = torch.randn(2, 11, 6)
    weight = windows.linear.weight.unflatten(1, (5, 6)).transpose(1, 2)
    wanted = nn.functional.conv1d(x.transpose(1, 2), weight, windows.linear.bias, padding=2).transpose(1, 2)
    assert (windows(x) - wanted).abs().max() < 1e-5


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(400, 9000), min_size=1, max_size=4), extra=st.integers(0, 3000))
def test_padding_never_changes_a_spoken_embedding(encoder: SpeechEncoder, lengths: list[int], extra: int) -> None:
    rng = np.random.default_rng(sum(lengths))
    padded = torch.from_numpy(rng.standard_normal((len(lengths), max(lengths) + extra)).astype(np.float32) * 0.1)
    with torch.no_grad():
        together = encoder(padded, torch.tensor(lengths, dtype=torch.int32))
        for row, length in enumerate(lengths):
            alone = encoder(padded[row : row + 1, :length], torch.tensor([length], dtype=torch.int32))
            assert (together[row] - alone[0]).abs().max() < 1e-5


def test_both_paths_count_alike_where_phonemes_are_clear(encoder: SpeechEncoder) -> None:
    wave, length = torch.randn(2, 8000), torch.tensor([8000, 6000], dtype=torch.int32)
    with torch.no_grad():
        log_mel, valid = encoder.tower.front(wave, length)
        direct, states = encoder.tower.features(log_mel, valid)
        mask = encoder.tower.frame_mask(valid)
        read, clarity = encoder.branch(encoder.tower.phoneme_scores(states).softmax(-1), mask)
        assert (clarity > CLEAR).all()
        both = nn.functional.normalize(direct, dim=-1) + nn.functional.normalize(read, dim=-1)
        assert (encoder(wave, length) - nn.functional.normalize(both, dim=-1)).abs().max() < 1e-6
        unclear = encoder.branch(torch.full((1, 30, PHONEMES), 1 / PHONEMES), torch.ones(1, 30, 1))[1]
        assert unclear.item() < CLEAR, "no phoneme more than another"


def test_folding_changes_nothing(encoder: SpeechEncoder) -> None:
    waves, length = torch.randn(4, 8000), torch.tensor([8000, 7000, 4000, 8000], dtype=torch.int32)
    encoder.train()
    for _ in range(3):
        encoder(waves, length)  # moves the running statistics away from their start
    encoder.eval()
    with torch.no_grad():
        wanted = encoder(waves, length)
        assert (encoder.fold()(waves, length) - wanted).abs().max() < 1e-5
        assert (encoder.fold()(waves, length) - wanted).abs().max() < 1e-5, "folded once, not again"
    assert not any(isinstance(module, nn.BatchNorm1d) for module in encoder.modules())
