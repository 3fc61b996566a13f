"""Heads of every kind: the same face, padding that changes nothing, units that are real tokens, gradients to frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from segmental_parts import CONFIG, ROBERTA, TEXT, VARIANTS, frames_of, head, text_side, text_tower
from torch import Tensor, nn

from sayclip_export.models.layers import unit
from sayclip_export.models.segmental import KINDS, Heard, build_head

CASCADED = [name for name in VARIANTS if name != "parallel"]
SNAPPING = [name for name in CASCADED if name not in ("segmental", "roberta")]


def tensors(heard: Heard) -> dict[str, Tensor]:
    named = {
        name: getattr(heard, name) for name in ("parallel", "cascaded", "units", "ids", "scores", "count", "edges")
    }
    return {name: value for name, value in named.items() if value is not None}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gives_what_the_face_promises(variant: str) -> None:
    kind, config = VARIANTS[variant]
    frames, count = frames_of([30, 1, 2, 17])
    with torch.no_grad():
        found = tensors(head(variant).eval()(frames, count))
    slots = config.slots if kind in ("cif", "segmental") else config.keywords
    shapes = {"units": (4, slots, 24), "ids": (4, slots), "scores": (4, slots), "count": (4,), "edges": (4, slots + 1)}
    has = {"parallel": ["parallel"], "hybrid": ["parallel", "cascaded"]}.get(kind, ["cascaded"])
    has += [] if kind == "parallel" else ["units", "ids", "scores"]
    has += ["count", "edges"] if kind in ("cif", "segmental") else []
    assert set(found) == set(has)
    for name, value in found.items():
        assert tuple(value.shape) == shapes.get(name, (4, 16)), name
        assert value.dtype == (torch.int32 if name in ("ids", "count") else torch.float32), name
        assert torch.isfinite(value.float()).all()
    if "count" in found:
        past = torch.arange(slots)[None] >= found["count"][:, None]
        assert found["count"].min() >= 1
        assert not found["ids"][past].any()
        assert not found["scores"][past].any()
        assert (found["edges"].diff(dim=1) >= 0).all()
        assert (found["edges"][:, 0] == 0).all()
        assert torch.equal(found["edges"][:, -1], count.float())


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: str) -> None:
    made = head(variant).eval()
    frames, count = frames_of([25, 1, 2, 13], seed=3, extra=6)
    with torch.no_grad():
        together = tensors(made(frames, count))
        for row, length in enumerate(count.tolist()):
            alone = tensors(made(frames[row : row + 1, :length], count[row : row + 1]))
            real = int(alone["count"][0]) if "count" in alone else None
            for name, value in alone.items():
                one, two = together[name][row].float(), value[0].float()
                if name == "units":  # past the count they mean nothing
                    one, two = one[:real], two[:real]
                assert torch.allclose(one, two, atol=1e-5), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_the_frames_and_are_finite(variant: str) -> None:
    made = head(variant).train()
    for constant in (False, True):
        frames, count = frames_of([30, 1, 2, 17], seed=1)
        frames = torch.ones_like(frames) if constant else frames
        frames.requires_grad_()
        heard = made(frames, count, torch.tensor([4.0, 1.0, 1.0, 3.0]))
        weights = torch.Generator().manual_seed(0)
        embeddings = [value for value in (heard.parallel, heard.cascaded) if value is not None]
        sum((value * torch.randn(value.shape, generator=weights)).sum() for value in embeddings).backward()  # type: ignore
        assert frames.grad is not None
        assert torch.isfinite(frames.grad).all()
        assert constant or frames.grad[0].abs().sum() > 0
        assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("variant", CASCADED)
def test_the_text_side_is_frozen(variant: str) -> None:
    made, text = head(variant), text_side(VARIANTS[variant][1])
    assert not any(p.requires_grad for p in made.reader.text.parameters())
    assert not made.train().reader.text.training
    assert all(torch.equal(value, text.state_dict()[key]) for key, value in made.reader.text.state_dict().items())


@pytest.mark.parametrize("variant", [name for name in CASCADED if name != "roberta"])
@pytest.mark.parametrize("training", [False, True])
def test_snapped_units_read_as_the_text_of_their_ids(variant: str, training: bool) -> None:
    """Start, the tokens, end, through the tower as typed text goes; unsnapped ones are read as they are."""
    made, text = head(variant).train(training), text_tower()
    frames, count = frames_of([30, 9, 2, 17])
    with torch.no_grad():
        heard = made(frames, count)
        for row in range(4):
            real = heard.ids.shape[1] if heard.count is None else int(heard.count[row])
            ids = torch.tensor([[made.reader.sot, *heard.ids[row, :real].tolist(), made.reader.eot]])
            typed = text(ids, torch.tensor([real + 2], dtype=torch.int32))
            away = (unit(heard.cascaded[row]) - typed[0]).abs().max()
            assert (away < 1e-5) == (variant in SNAPPING)
            table = text.token_embedding.weight
            cosines = unit(heard.units[row, :real]) @ unit(table).T
            assert torch.allclose(cosines[:, :-2].amax(-1), heard.scores[row, :real], atol=1e-5)
            assert torch.equal(cosines[:, :-2].argmax(-1), heard.ids[row, :real].long())


def test_barred_tokens_are_never_chosen() -> None:
    made = head("cascaded").eval()
    frames, count = frames_of([20, 11])
    made.reader.bar(range(5, TEXT.vocabulary))
    with torch.no_grad():
        assert int(made(frames, count).ids.max()) < 5


@pytest.mark.parametrize("variant", SNAPPING)
def test_the_quantiser_passes_the_gradient_of_soft_attention(variant: str) -> None:
    made = head(variant).train()
    frames, count = frames_of([20, 11])
    heard = made(frames, count)
    grown = torch.autograd.grad(heard.cascaded.sum(), heard.units, retain_graph=True)[0]
    soft = torch.autograd.grad(heard.extras["attended"].sum(), heard.units)[0]
    assert grown.abs().sum() > 0
    assert soft.abs().sum() > 0


@pytest.mark.parametrize("variant", CASCADED)
def test_the_norm_counts_real_units_alone_and_folds(variant: str) -> None:
    made = head(variant)
    norm = made.reader.norm.batch_norm
    table = made.reader.text.token_embedding.weight
    assert torch.allclose(norm.weight[:24], table.std(0))
    assert torch.allclose(norm.bias[:24], table.mean(0))
    frames, count = frames_of([30, 20, 25, 17])
    made.train()
    heard = made(frames, count)
    real = (
        heard.units
        if heard.count is None
        else heard.units[torch.arange(heard.ids.shape[1])[None] < heard.count[:, None]]
    )
    rows = real.detach().reshape(-1, 24) if heard.count is not None else real.detach().flatten(1)
    assert torch.allclose(rows.mean(0), norm.bias, atol=1e-4)
    assert torch.allclose(rows.std(0, unbiased=False), norm.weight, atol=1e-2)
    made.eval()
    with torch.no_grad():
        wanted = tensors(made(frames, count))
        for _ in range(2):  # folding twice changes nothing more
            for name, value in tensors(made.fold()(frames, count)).items():
                assert torch.allclose(value.float(), wanted[name].float(), atol=1e-5), name
    assert not any(isinstance(module, nn.BatchNorm1d) for module in made.modules())


def test_a_single_unit_has_no_variance() -> None:
    made = head("segmental").train()
    before = made.reader.norm.batch_norm.running_mean.clone()
    heard = made(*frames_of([2]))
    assert torch.isfinite(heard.cascaded).all()
    assert torch.equal(made.reader.norm.batch_norm.running_mean, before)


def test_cif_is_taught_how_many_there_are() -> None:
    made = head("cif")
    frames, count = frames_of([30, 20, 25, 9])
    target = torch.tensor([4, 1, 7, 2])
    heard = made.train()(frames, count, target)
    assert torch.equal(heard.count, target.to(torch.int32))
    assert torch.allclose(heard.extras["alpha"].sum(1), heard.extras["alpha_sum"])
    assert (heard.extras["alpha_sum"] - target).abs().max() > 0.1, "the loss sees the sum before scaling"
    with torch.no_grad():
        evaluated = made.eval()
        assert torch.equal(evaluated(frames, count, target).edges, evaluated(frames, count).edges)


@pytest.mark.parametrize("variant", ["segmental", "quantised"])
def test_autocast_changes_no_segment(variant: str) -> None:
    made = head(variant).eval()
    frames, count = frames_of([30, 20, 25, 9])
    with torch.no_grad():
        plain = made(frames, count)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = made(frames, count)
    assert torch.equal(plain.edges, cast.edges)
    if variant == "segmental":  # a snapped unit may become another token
        assert (unit(plain.cascaded) * unit(cast.cascaded.float())).sum(-1).min() > 0.999


def test_learning_by_chance_moves_no_boundary() -> None:
    """What a learnt detector looks at has dropout of its own, for its own lesson only."""
    made = head("quantised")
    still = made.eval()(*frames_of([30, 20])).extras
    busy = made.train()(*frames_of([30, 20])).extras
    assert made.training
    assert still["starts"].sum() > 0
    assert torch.equal(still["prominence"], busy["prominence"])


def test_more_peaks_than_slots_fill_every_slot() -> None:
    made = build_head("segmental", replace(CONFIG, slots=3), text_tower()).eval()
    with torch.no_grad():
        heard = made(*frames_of([60, 40]))
    assert heard.count.tolist() == [3, 3]
    assert (heard.edges[:, -1] == torch.tensor([60, 40])).all()


def test_sizes_that_do_not_go_together_are_refused() -> None:
    for wrong, message in (
        ({"slots": 19}, "slots is 19, wanted 1 to 18"),
        ({"keywords": 0}, "keywords is 0, wanted 1 to 18"),
        ({"heads": 5}, "width is 32 for 5 heads"),
        ({"vocabulary": "some"}, "vocabulary is 'some'"),
        ({"cif_kernel": 4}, "cif_kernel is 4, wanted an odd number"),
        ({"eps": 0.0}, "eps 0, wanted"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **wrong)  # type: ignore[arg-type]
    for other, message in (
        (replace(TEXT, width=32), "the text side has width 32, the head wants 24"),
        (replace(TEXT, context=30), "the text side has context 30, the head wants 20"),
        (ROBERTA, "the text side has kind roberta, the head wants clip"),
    ):
        with pytest.raises(ValueError, match=message):
            build_head("segmental", CONFIG, text_side(replace(CONFIG, text=other)))
    build_head("segmental", CONFIG, text_side(replace(CONFIG, text=replace(TEXT, dropout=0.5))))
    with pytest.raises(ValueError, match="kind is 'other', wanted one of parallel, cascaded, hybrid, cif, segmental"):
        build_head("other", CONFIG)
    assert {VARIANTS[name][0] for name in VARIANTS} == set(KINDS)
