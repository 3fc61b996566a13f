"""The full-size models by keys and shapes alone: the 15 published ones, and what released files differ in."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from speechclip_parts import golden_path
from torch import Tensor

from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.speechclip import SpeechClipCheckpoint, from_state
from sayclip_export.readers.state import State

TYPES = {
    "cascaded": "KW_CascadedBranch",
    "cascaded_plus": "CascadedBranch_dynamic",
    "hybrid": "HybridBranch",
    "hybrid_plus": "HybridBranch_dynamic",
    "parallel": "KW_CascadedBranch",
}
# Heads of the attention block in the published configurations, where they are not those of the kind.
HEADS = {"parallel": 8, "cascaded": 1, "cascaded_plus": 8, "hybrid": 1, "hybrid_plus": 8}
VARIANTS = (
    *("base_parallel", "base_cascaded", "large_flickr_parallel", "large_flickr_cascaded"),
    *("large_coco_parallel", "large_coco_cascaded"),
    *(f"plus_{data}_{kind}" for data in ("base", "large_flickr", "large_coco") for kind in list(TYPES)[1:4]),
)


@lru_cache(maxsize=1)
def key_lists() -> dict[str, list[list[Any]]]:
    with gzip.open(golden_path("keys", "speechclip_full_size.json.gz"), "rt") as file:
        lists = json.load(file)
    assert set(lists) == set(VARIANTS)
    return dict(lists)


def kind_of(variant: str) -> str:
    return next(kind for kind in sorted(TYPES, key=len, reverse=True) if variant.endswith(kind))


def shapes(variant: str) -> dict[str, Tensor]:
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in key_lists()[variant]
    }


def config(variant: str, type_: str = "FairseqHubert") -> dict[str, Any]:
    kind = kind_of(variant)
    heads = 1 if variant == "plus_base_cascaded_plus" else HEADS[kind]
    args = {"nhead": heads, "layer_norm_eps": 1e-5, "activation": "gelu"}
    branch = {"type": TYPES[kind], "transformer_args": args, "keyword": {"batchnorms": {"type": "eachKw"}}}
    large = "large" in variant
    return {
        "audio_encoder": {
            "type": type_,
            "name": "hubert_large_ll60k" if large else "hubert",
            "normalize_hiddenstates": large,
        },
        "data": {"dataset": {"normalize_waveform": variant.startswith("plus_base")}},
        "model_settings": {"parallel_branch": {"transformer_args": args}, "cascaded_branch": branch},
    }


def read(variant: str, state: dict[str, Tensor], settings: dict[str, Any] | None = None) -> SpeechClipCheckpoint:
    return from_state(State(state, Path(f"{variant}.ckpt")), settings or config(variant), Overrides())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_key_is_accounted_for(variant: str) -> None:
    found = read(variant, shapes(variant))
    kind, large, coco = kind_of(variant), "large" in variant, "coco" in variant
    assert found.kind == kind.replace("_plus", "+")
    hubert, branch = found.speech_config.hubert, found.speech_config.branches[0]
    assert (hubert.width, hubert.layers, hubert.heads) == ((1024, 24, 16) if large else (768, 12, 12))
    assert (hubert.position_kernel, hubert.position_groups, hubert.conv_bias) == (128, 16, False)
    assert hubert.large is large
    assert hubert.normalise is (large or variant.startswith("plus_base"))
    assert found.speech_config.normalise_states is large
    assert (found.image_config.patch, found.image_config.size) == ((14, 224) if large else (32, 224))
    assert (found.image_config.heads, found.text_config.heads) == ((16, 12) if large else (12, 8))
    assert branch.embedding == found.text_config.embedding == (768 if large else 512)
    assert len(found.vocabulary) == (19787 if coco else 8112)
    assert ("SpokenCOCO" if coco else "Flickr8k") in found.format
    if kind != "parallel":
        assert branch.keywords == (75 if kind.endswith("plus") else 8)
        assert branch.norms == (1 if kind.endswith("plus") else 8)
        assert (branch.cif_layers, branch.cif_kernel) == (
            (2, 5) if variant == "plus_large_coco_cascaded_plus" else (1, 3) if kind.endswith("plus") else (0, 3)
        )
    assert branch.hidden == (
        {True: 4096, False: 3072}[large] if kind == "parallel" else 4096 if variant == "plus_large_coco_hybrid" else 0
    )


def test_parameters_are_those_of_the_papers_table() -> None:
    """The trainable part of base parallel: the head and the weights of the layers."""
    found = read("base_parallel", shapes("base_parallel"))
    trainable = [*found.speech.branches.parameters(), *found.speech.weighted_sum.parameters()]
    assert sum(parameter.numel() for parameter in trainable) == 7_483_917
    # The positions' weight norm is folded, and what only training reads is left out.
    kept = sum(p.numel() for p in found.speech.hubert.parameters())
    assert 94_371_712 - 500_000 < kept <= 94_371_712


@pytest.mark.parametrize("variant", ["large_flickr_cascaded", "large_coco_cascaded"])
def test_the_keyword_mlp_of_released_files(variant: str) -> None:
    state = shapes(variant)
    for last in ("weight", "bias"):
        out = state.pop(f"cascaded_branch.linear_proj.{last}")
        inner = torch.empty((1024,) * (2 if last == "weight" else 1), device="meta")
        state[f"cascaded_branch.linear_proj.sequential.0.{last}"] = inner
        state[f"cascaded_branch.linear_proj.sequential.3.{last}"] = out
    state["criterion.eye_mat"] = torch.empty((1024, 1024), dtype=torch.bool, device="meta")
    found = read(variant, state)
    assert found.speech_config.branches[0].keyword_hidden == 1024


def test_hubert_through_s3prl() -> None:
    state = {
        key.replace("audio_encoder.encoder.", "audio_encoder.encoder.model."): value
        for key, value in shapes("base_parallel").items()
    }
    assert read("base_parallel", state, config("base_parallel", "s3prl_plus")).kind == "parallel"
