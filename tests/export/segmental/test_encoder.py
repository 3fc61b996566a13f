"""The whole encoder: outputs by name, times in seconds, padding, and what is left of the tower."""

from __future__ import annotations

import pytest
import torch
from segmental_parts import SPEECH, VARIANTS, encoder, head, random_waves

from sayclip_export.models.segmental import SegmentalSpeech
from sayclip_export.models.segmental.encoder import seconds
from sayclip_export.models.speech import SpeechTower
from sayclip_export.speechclip_export import wave_feed

NAMES = {
    "parallel": ("embedding",),
    "cascaded": ("embedding", "keyword_ids", "keyword_scores"),
    "hybrid": ("embedding", "parallel_embedding", "cascaded_embedding", "keyword_ids", "keyword_scores"),
    "cif": ("embedding", "keyword_ids", "keyword_scores", "keyword_count", "boundaries"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: str) -> None:
    made = encoder(variant)
    assert made.outputs == NAMES.get(variant, NAMES["cif"])
    waves = random_waves(9000, 400, 6200, 1500)
    feed = [torch.from_numpy(value) for value in wave_feed(waves, 11_000).values()]
    with torch.no_grad():
        together = dict(zip(made.outputs, made(*feed), strict=True))
        for row, wave in enumerate(waves):
            alone = made(torch.from_numpy(wave)[None], torch.tensor([len(wave)], dtype=torch.int32))
            for name, value in zip(made.outputs, alone, strict=True):
                assert torch.allclose(together[name][row].float(), value[0].float(), atol=1e-4), name
    for name, value in together.items():
        if name.endswith("embedding"):
            assert torch.allclose(value.norm(dim=1), torch.ones(4), atol=1e-5)
    if variant == "hybrid":
        assert torch.equal(together["embedding"], together["parallel_embedding"])
    if "boundaries" in together:
        times, lengths = together["boundaries"], torch.tensor([len(wave) / 16_000 for wave in waves])
        assert (times[:, 0] == 0).all()
        assert torch.allclose(times[:, -1], lengths)
        assert (times.diff(dim=1) >= 0).all()


def test_an_edge_lies_between_the_centres_of_its_frames() -> None:
    edges = torch.tensor([[0.0, 2.0, 2.5, 5.0, 5.0]])
    times = seconds(edges, torch.tensor([5], dtype=torch.int32), torch.tensor([2400], dtype=torch.int32), SPEECH)
    centre = [i * 0.03 + 0.0125 for i in range(5)]
    assert times[0].tolist() == pytest.approx([0, (centre[1] + centre[2]) / 2, centre[2], 0.15, 0.15])


def test_no_edge_lies_behind_the_end() -> None:
    """A recording of 80 samples less than whole frames: the edge of its last frame is nearer than its end."""
    length = 480 * 4 - 80
    edges = torch.tensor([[0.0, 3.999, 4.0]])
    times = seconds(edges, torch.tensor([4], dtype=torch.int32), torch.tensor([length], dtype=torch.int32), SPEECH)
    assert times.max().item() == pytest.approx(length / 16_000)


def test_the_tower_is_copied_frozen_and_ends_at_its_frames() -> None:
    torch.manual_seed(0)
    tower = SpeechTower(SPEECH)
    made = SegmentalSpeech(tower, head("segmental")).train()
    assert not made.tower.training
    assert not any(p.requires_grad for p in made.tower.parameters())
    assert all(p.requires_grad for p in tower.parameters())
    assert not any(key.startswith(("tower.head", "tower.shortcut", "tower.phonemes")) for key in made.state_dict())
    feed = [torch.from_numpy(value) for value in wave_feed(random_waves(9000, 2000)).values()]
    with torch.no_grad():
        frames, count = made.frames(*feed)
        assert torch.equal(frames, tower.eval().mixed(*tower.front(*feed))[0])
    assert count.tolist() == [18, 4]
    assert count.dtype == torch.int32


def test_a_tower_that_learns_is_a_copy_too_and_hears_the_same() -> None:
    torch.manual_seed(0)
    tower = SpeechTower(SPEECH)
    frozen, made = (SegmentalSpeech(tower, head("segmental"), frozen=kept) for kept in (True, False))
    feed = [torch.from_numpy(value) for value in wave_feed(random_waves(9000, 2000)).values()]
    frames, _ = made.train().frames(*feed)
    assert not made.tower.training
    assert torch.equal(frames.detach(), frozen.frames(*feed)[0])
    (frames * torch.randn_like(frames)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.tower.parameters())
    assert all(p.grad is None for p in tower.parameters())
