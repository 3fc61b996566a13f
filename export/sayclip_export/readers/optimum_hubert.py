"""HuBERT out of a folder of ``optimum-cli export onnx``, for SpeechCLIP checkpoints that were stored without theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import layer_norm

from sayclip_export.models.hubert import EPS, KERNELS, STRIDES, Hubert, HubertConfig
from sayclip_export.readers import optimum
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.fairseq_hubert import fold_position
from sayclip_export.readers.settings import Settings, read_json
from sayclip_export.readers.state import Filling, State

_LAYER = {
    "attention.q_proj": "attention.q_proj",
    "attention.k_proj": "attention.k_proj",
    "attention.v_proj": "attention.v_proj",
    "attention.out_proj": "attention.out_proj",
    "attention_norm": "layer_norm",
    "expand": "feed_forward.intermediate_dense",
    "contract": "feed_forward.output_dense",
    "final_norm": "final_layer_norm",
}
_POSITION = "encoder.pos_conv_embed.conv"
_NORM = "encoder.layer_norm"
_REMEDY = "name the folder that `optimum-cli export onnx --task feature-extraction` wrote of a HuBERT"


def read_optimum_hubert(folder: Path) -> Hubert:
    """The HuBERT in ``folder``, which takes waves as they are; held against its own graph.

    Raises CheckpointError for another model, a graph that is damaged, optimised or quantised, or gives something else.
    """
    config = hubert_config(Settings(read_json(folder / "config.json"), str(folder / "config.json")))
    path = folder / optimum.GRAPH
    state = State(optimum.read_graph(path), path)
    filling = Filling(state, lambda: Hubert(config))
    for i in range(len(KERNELS)):
        conv = f"feature_extractor.conv_layers.{i}"
        filling.copy(f"extractor.convs.{i}", f"{conv}.conv")
        filling.copy(f"extractor.layer_norms.{i}", f"{conv}.layer_norm")
    filling.copy("extractor.group_norm", "feature_extractor.conv_layers.0.layer_norm")
    filling.copy("norm", "feature_projection.layer_norm")
    filling.copy("projection", "feature_projection.projection")
    filling.copy("position.bias", f"{_POSITION}.bias")
    fold_position(filling, *(f"{_POSITION}.parametrizations.weight.original{i}" for i in (0, 1)))
    last = [state.take(f"{_NORM}.{kind}", (config.width,)) for kind in ("weight", "bias")]
    if not config.large:
        filling.put("encoder_norm.weight", last[0])
        filling.put("encoder_norm.bias", last[1])
    for i in range(config.layers):
        for ours, theirs in _LAYER.items():
            filling.copy(f"layers.{i}.{ours}", f"encoder.layers.{i}.{theirs}")
    state.drop(lambda key: key == "masked_spec_embed")
    state.finish()
    hubert = filling.load()
    assert isinstance(hubert, Hubert)
    _hold(path, hubert, last)
    return hubert


def hubert_config(config: Settings) -> HubertConfig:
    """Sizes from a ``config.json``; what it leaves out is that of the base model. Raises CheckpointError."""
    if config.data.get("model_type") != "hubert":
        raise refuse(f"{config.where}: model_type is {config.data.get('model_type')!r}, wanted 'hubert'", _REMEDY)
    fixed = {
        "conv_kernel": list(KERNELS),
        "conv_stride": list(STRIDES),
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "feat_proj_layer_norm": True,
        "conv_pos_batch_norm": False,
    }
    for key, value in fixed.items():
        if config.data.get(key, value) != value:
            raise config.wrong(key, repr(value))
    large = config.flag("do_stable_layer_norm", False)
    if config.choice("feat_extract_norm", "group", ("group", "layer")) != ("layer" if large else "group"):
        raise config.wrong("feat_extract_norm", f"'{'layer' if large else 'group'}', as do_stable_layer_norm says")
    channels = config.data.get("conv_dim", [512] * len(KERNELS))
    if not isinstance(channels, list) or len(channels) != len(KERNELS) or len({*map(repr, channels)}) > 1:
        raise config.wrong("conv_dim", f"one number, {len(KERNELS)} times")
    sizes = Settings({"conv_dim": channels[0]}, config.where)
    width, heads = config.integer("hidden_size", 768), config.integer("num_attention_heads", 12)
    groups = config.integer("num_conv_pos_embedding_groups", 16)
    if width % heads or width % groups:
        raise config.wrong("hidden_size", f"a multiple of {heads} heads and of {groups} groups")
    return HubertConfig(
        width=width,
        layers=config.integer("num_hidden_layers", 12, 256),
        heads=heads,
        hidden=config.integer("intermediate_size", 3072),
        channels=sizes.integer("conv_dim", 512),
        position_kernel=config.integer("num_conv_pos_embeddings", 128),
        position_groups=groups,
        large=large,
        conv_bias=config.flag("conv_bias", False),
    )


def _hold(path: Path, hubert: Hubert, last: list[Tensor]) -> None:
    """Noise through the graph and through ``hubert``; the graph ends with a norm that large models leave out."""
    waves = np.random.default_rng(0).normal(0, 0.3, (2, 4000)).astype(np.float32)
    with torch.inference_mode():
        states, _ = hubert(torch.from_numpy(waves), torch.full((2,), waves.shape[1], dtype=torch.int32))
    ours = states[-1]
    if hubert.config.large:
        ours = layer_norm(ours, ours.shape[-1:], last[0], last[1], EPS)
    feeds: dict[str, NDArray[Any]] = {"input_values": waves, "attention_mask": np.ones(waves.shape, np.int64)}
    optimum.hold_outputs(path, feeds, {"last_hidden_state": ours.numpy()})
