"""The torch definitions compute what their papers say, and padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sayclip_export.models.picture import PictureConfig, PictureTower
from sayclip_export.models.speech import LogMel, ParallelHead, SpeechConfig, SpeechTower, mel_matrix
from sayclip_export.models.text import PronunciationTower, TextConfig, TextTower

SPEECH = SpeechConfig(width=32, layers=2, heads=4, hidden=48, head_heads=4, head_hidden=48, embedding=16)


@pytest.fixture(scope="module")
def speech() -> SpeechTower:
    torch.manual_seed(0)
    return SpeechTower(SPEECH).eval()


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(400, 9000), min_size=1, max_size=4), extra=st.integers(0, 3000))
def test_padding_never_changes_a_spoken_embedding(speech: SpeechTower, lengths: list[int], extra: int) -> None:
    rng = np.random.default_rng(sum(lengths))
    padded = torch.from_numpy(rng.standard_normal((len(lengths), max(lengths) + extra)).astype(np.float32) * 0.1)
    with torch.no_grad():
        together = speech(padded, torch.tensor(lengths, dtype=torch.int32))
        for row, length in enumerate(lengths):
            alone = speech(padded[row : row + 1, :length], torch.tensor([length], dtype=torch.int32))
            assert (together[row] - alone[0]).abs().max() < 2e-6


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(2, 20), min_size=1, max_size=4), extra=st.integers(0, 5))
def test_padding_never_changes_a_text_embedding(lengths: list[int], extra: int) -> None:
    torch.manual_seed(0)
    tower = TextTower(TextConfig(50, width=32, layers=2, heads=4, hidden=64, embedding=16)).eval()
    ids = torch.randint(0, 50, (len(lengths), max(lengths) + extra), dtype=torch.int32)
    with torch.no_grad():
        together = tower(ids, torch.tensor(lengths, dtype=torch.int32))
        for row, length in enumerate(lengths):
            alone = tower(ids[row : row + 1, :length], torch.tensor([length], dtype=torch.int32))
            assert (together[row] - alone[0]).abs().max() < 2e-6


def test_level_never_changes_a_spoken_embedding(speech: SpeechTower) -> None:
    wave = torch.randn(1, 8000) * 0.2
    length = torch.tensor([8000], dtype=torch.int32)
    with torch.no_grad():
        assert (speech(wave, length) - speech(wave * 0.05, length)).abs().max() < 1e-4


def test_log_mel_equals_an_fft() -> None:
    front = LogMel(SpeechConfig())
    wave = np.random.default_rng(0).standard_normal(5000)
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    wanted = np.log(power @ mel_matrix(201, 80, 16000).double().numpy() + 1e-8)
    got, valid = front(torch.from_numpy(wave[None].astype(np.float32)), torch.tensor([3000], dtype=torch.int32))
    assert np.abs(got[0].numpy() - wanted).max() < 1e-3
    assert valid[0].sum() == (3000 - 400) // 160 + 1


def test_every_mel_filter_hears_something() -> None:
    assert (mel_matrix(201, 80, 16000).amax(0) > 0.1).all()


def test_parallel_head_equals_torch_transformer_layer() -> None:
    """SpeechCLIP's head is a whole TransformerEncoderLayer and a LayerNorm, read at position 0 (speechclip, 2.4)."""
    torch.manual_seed(0)
    head = ParallelHead(SPEECH).eval()
    layer = nn.TransformerEncoderLayer(
        SPEECH.width, SPEECH.head_heads, SPEECH.head_hidden, activation="gelu", batch_first=True
    )
    with torch.no_grad():
        own = head.attention
        layer.self_attn.in_proj_weight.copy_(torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight]))
        layer.self_attn.in_proj_bias.copy_(torch.cat([own.q_proj.bias, own.k_proj.bias, own.v_proj.bias]))
        layer.self_attn.out_proj.load_state_dict(own.out_proj.state_dict())
        for name in ("linear1", "linear2", "norm1", "norm2"):
            getattr(layer, name).load_state_dict(getattr(head, name).state_dict())
        layer.eval()
        frames = torch.randn(2, 11, SPEECH.width)
        hidden = torch.arange(11)[None, :] >= torch.tensor([[11], [6]])
        mask = (hidden.float() * -1e4)[:, None, None, :]
        sequence = torch.cat([head.cls.expand(2, -1, -1), frames], dim=1)
        whole = layer(sequence, src_key_padding_mask=nn.functional.pad(hidden, (1, 0)))
        wanted = head.projection(head.norm(whole)[:, 0])
        assert (head(frames, mask) - wanted).abs().max() < 1e-5


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    tower = PictureTower(PictureConfig(size=32, channels=(8, 8, 16, 16), embedding=16))
    pixels = torch.randn(4, 3, 32, 32)
    tower.train()
    for _ in range(3):
        tower(pixels)  # moves the running statistics away from their start
    tower.eval()
    with torch.no_grad():
        wanted = tower(pixels)
        assert (tower.fold()(pixels) - wanted).abs().max() < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in tower.modules())


def test_folding_the_shortcut_changes_nothing() -> None:
    torch.manual_seed(0)
    tower = SpeechTower(SPEECH)
    waves, length = torch.randn(4, 8000), torch.tensor([8000, 7000, 4000, 8000], dtype=torch.int32)
    tower.train()
    for _ in range(3):
        tower(waves, length)  # moves the running statistics away from their start
    tower.eval()
    with torch.no_grad():
        wanted = tower(waves, length)
        assert (tower.fold()(waves, length) - wanted).abs().max() < 1e-5
        assert (tower.fold()(waves, length) - wanted).abs().max() < 1e-5, "folded once, not again"
    assert not any(isinstance(module, nn.BatchNorm1d) for module in tower.modules())


def test_folded_phoneme_table_computes_the_same() -> None:
    torch.manual_seed(0)
    attributes = torch.rand(30, 12)
    config = TextConfig(30, width=32, layers=2, heads=4, hidden=64, embedding=16)
    student = PronunciationTower(config, attributes).eval()
    nn.init.normal_(student.phonemes.residual, std=0.1)
    ids, length = torch.randint(0, 30, (3, 9), dtype=torch.int32), torch.tensor([9, 4, 7], dtype=torch.int32)
    with torch.no_grad():
        assert (student.folded()(ids, length) - student(ids, length)).abs().max() < 1e-6


def test_student_starts_as_its_teacher_but_for_the_table() -> None:
    config = TextConfig(40, width=32, layers=2, heads=4, hidden=64, embedding=16)
    teacher, student = TextTower(config), PronunciationTower(config, torch.rand(40, 12))
    student.start_from(teacher)
    for name, value in teacher.state_dict().items():
        if not name.startswith("token_embedding"):
            assert torch.equal(student.tower.state_dict()[name], value)
