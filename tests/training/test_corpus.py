"""Which voices speak, that shards resume, and that augmentation keeps its shapes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sayclip.errors import InputError
from sayclip_export.models.hubert import inside
from sayclip_training import corpus
from sayclip_training.augment import FLOOR, STEP, augment, rounded
from sayclip_training.losses import bank_loss, recall
from sayclip_training.synthesis import distort, flite
from sayclip_training.synthesis.espeak import VARIANTS, Espeak, EspeakSettings, held_back

WORDS = ["red apple", "guitar", '"', "full moon"]


def test_training_hears_neither_the_held_out_nor_the_held_back_voices() -> None:
    jobs = corpus.plan(WORDS, [40] * 4, [200] * 4)
    said_by_flite = {job.voice.voice for job in jobs if isinstance(job.voice, flite.FliteSettings)}
    assert said_by_flite == {"kal16", "awb", "rms"}
    variants = {job.voice.voice.partition("+")[2] for job in jobs if isinstance(job.voice, EspeakSettings)}
    assert not any(held_back(variant) for variant in variants)
    checks = corpus.validation_plan(WORDS * 20, range(80))
    for job in checks:
        assert isinstance(job.voice, EspeakSettings)
        assert held_back(job.voice.voice.partition("+")[2])
        assert not job.distorted
    assert 5 <= sum(map(held_back, VARIANTS)) <= 20


def test_the_plan_depends_on_the_strings_alone() -> None:
    whole, part = corpus.plan(WORDS, [3] * 4, [3] * 4), corpus.plan(WORDS[1:2], [3], [3])
    assert [(j.text, j.voice, j.seed) for j in whole if j.string == 1] == [(j.text, j.voice, j.seed) for j in part]


@pytest.mark.skipif(shutil.which("flite") is None and "CI" not in os.environ, reason="Debian's flite")
def test_shards_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD", 5)
    jobs = corpus.plan(WORDS, [1] * 4, [2] * 4)
    whole = corpus.build(jobs, tmp_path, 1)
    assert len(whole) < len(jobs)  # a quotation mark has no sound
    assert whole.offsets[-1] == len(whole.frames)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    victim = sorted(stamps)[0]
    victim.unlink()
    again = corpus.build(jobs, tmp_path, 1)
    assert np.array_equal(again.strings, whole.strings)  # espeak-ng itself is not the same to the sample each time
    assert abs(len(again.frames) - len(whole.frames)) < 0.1 * len(whole.frames)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path != victim)
    with np.load(victim) as data:
        np.savez(victim, **{key: value for key, value in data.items() if key != "said"})
    with pytest.raises(InputError, match=r"holds no phonemes: an older recipe made it: remove "):
        corpus.build(jobs, tmp_path, 1)


def test_espeak_speaks_and_refuses_unknown_voices() -> None:
    espeak = Espeak()
    slow, rate = espeak.say("red apple", EspeakSettings("en-us+f2", rate=110))
    fast, _ = espeak.say("red apple", EspeakSettings("en-us+f2", rate=220))
    assert rate == 22050
    assert 0.2 < len(fast) / rate < len(slow) / rate < 3
    assert np.abs(slow).max() > 0.05
    with pytest.raises(ValueError, match="no voice"):
        espeak.say("red apple", EspeakSettings("xx-nowhere"))


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(8, 200), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_augmented_batches_are_finite_and_hold_their_frames(counts: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    log_mel = torch.randn(len(counts), max(counts), 80) - 6
    total = torch.tensor(counts)
    log_mel[~inside(total, max(counts))] = FLOOR
    mixed, frames = augment(log_mel, total)
    assert torch.isfinite(mixed).all()
    assert mixed.shape[1] % STEP == 0
    assert mixed.shape[1] >= frames.max() > 0
    assert rounded(log_mel).shape[1] % STEP == 0


def test_trim_cuts_silence_and_resampling_shifts_pitch() -> None:
    rate = 16000
    tone = np.sin(2 * np.pi * 200 * np.arange(rate) / rate).astype(np.float32)
    padded = np.concatenate([np.zeros(rate, np.float32), tone, np.zeros(rate, np.float32)])
    assert abs(len(distort.trim(padded, rate)) - 1.08 * rate) < 400
    higher = distort.resample(tone, rate * 1.25, rate)
    peak = np.abs(np.fft.rfft(higher)).argmax() * rate / len(higher)
    assert abs(peak - 250) < 3


def test_recall_and_bank_loss_by_hand() -> None:
    scores = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
    right = np.array([[True, False, False], [False, True, False]])
    assert recall(scores, right, 1) == 0.5
    assert recall(scores, right, 2) == 1.0
    logits, target = torch.tensor([[0.0, 0.0, 50.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    hidden = torch.tensor([[False, False, True]])
    assert bank_loss(logits, target, hidden).item() == pytest.approx(np.log(2), abs=1e-5)
