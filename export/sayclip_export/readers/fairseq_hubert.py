"""HuBERT from fairseq's names, base and large told apart by the norms of the extractor."""

from __future__ import annotations

import torch

from sayclip_export.models.hubert import KERNELS, Hubert, HubertConfig
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.state import Filling, State

HEADS = {768: 12, 1024: 16}  # base and large as published, by width; no weight shows them
_LAYER = {
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "expand": "fc1",
    "contract": "fc2",
    "final_norm": "final_layer_norm",
}
# Of training: the mask's vector and the targets. Of large: a norm whose output nobody reads.
_UNUSED = ("mask_emb", "label_embs_concat", "final_proj.weight", "final_proj.bias")
_UNUSED_LARGE = ("encoder.layer_norm.weight", "encoder.layer_norm.bias")


def hubert_config(state: State, prefix: str, normalise: bool | None, overrides: Overrides) -> HubertConfig:
    """Sizes of the HuBERT below ``prefix``. ``normalise``: whether waves are normalised; None: as its kind is used."""
    convs = f"{prefix}feature_extractor.conv_layers"
    kernels = tuple(state.shape(f"{convs}.{i}.0.weight", 3)[2] for i in range(state.count(f"{convs}.{{}}.0.weight")))
    if kernels != KERNELS:
        raise refuse(f"{state.where}: {convs} has kernels {kernels}, wanted HuBERT's {KERNELS}")
    large = state.has(f"{convs}.0.2.1.")
    width, group_width, kernel = state.shape(f"{prefix}encoder.pos_conv.0.weight_v", 3)
    if width % group_width:
        raise refuse(
            f"{state.where}: {prefix}encoder.pos_conv.0.weight_v is {[width, group_width, kernel]}, wanted whole groups"
        )
    return HubertConfig(
        width=width,
        layers=state.count(f"{prefix}encoder.layers.{{}}."),
        heads=_heads(width, state, overrides),
        hidden=state.shape(f"{prefix}encoder.layers.0.fc1.weight", 2)[0],
        channels=state.shape(f"{convs}.0.0.weight", 3)[0],
        position_kernel=kernel,
        position_groups=width // group_width,
        large=large,
        conv_bias=state.has(f"{convs}.0.0.bias"),
        normalise=large if normalise is None else normalise,
    )


def read_hubert(state: State, prefix: str, config: HubertConfig) -> Hubert:
    """Take the HuBERT below ``prefix`` out of ``state``; the weight norm of its positions is folded."""
    filling = Filling(state, lambda: Hubert(config))
    convs = f"{prefix}feature_extractor.conv_layers"
    for i in range(len(KERNELS)):
        filling.copy(f"extractor.convs.{i}", f"{convs}.{i}.0")
        filling.copy(f"extractor.layer_norms.{i}", f"{convs}.{i}.2.1")
    filling.copy("extractor.group_norm", f"{convs}.0.2")
    filling.copy("norm", f"{prefix}layer_norm")
    filling.copy("projection", f"{prefix}post_extract_proj")
    filling.copy("encoder_norm", f"{prefix}encoder.layer_norm")
    position = f"{prefix}encoder.pos_conv.0"
    filling.copy("position.bias", f"{position}.bias")
    fold_position(filling, f"{position}.weight_g", f"{position}.weight_v")
    for i in range(config.layers):
        for ours, theirs in _LAYER.items():
            filling.copy(f"layers.{i}.{ours}", f"{prefix}encoder.layers.{i}.{theirs}")
    unused = {prefix + name for name in (*_UNUSED, *(_UNUSED_LARGE if config.large else ()))}
    state.drop(unused.__contains__)
    hubert = filling.load()
    assert isinstance(hubert, Hubert)
    return hubert


def fold_position(filling: Filling, gain_key: str, direction_key: str) -> None:
    """Put the weight of the positions' convolution, whose weight norm is over its last axis, into ``filling``."""
    state, shape = filling.state, filling.wanted["position.weight"]
    gain = state.take(gain_key, (1, 1, shape[2])).double()
    direction = state.take(direction_key, shape).double()
    norm = torch.sqrt((direction * direction).sum((0, 1), keepdim=True))
    filling.put("position.weight", state.finite(direction_key, (direction * (gain / norm)).float()))


def _heads(width: int, state: State, overrides: Overrides) -> int:
    number = overrides.integer("hubert.heads", HEADS.get(width))
    if number is None:
        known = " and ".join(map(str, HEADS))
        number = overrides.require_integer(
            "hubert.heads", f"{state.where}: this HuBERT is {width} wide, and heads are known for {known} alone"
        )
    if width % number:
        raise refuse(
            f"{state.where}: hubert.heads is {number}, wanted a divisor of the width, {width}", "correct hubert.heads"
        )
    return number
