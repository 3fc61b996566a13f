"""What a checkpoint of SpeechCLIP may say, what it leaves open, and how a wrong one is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speechclip_parts import SET, Golden, loaded, named, random_waves, read_state, save, without_aliases
from torch import Tensor

from sayclip.errors import BundleError, InputError
from sayclip_export.graphs import require, verify
from sayclip_export.models.hubert import normalise_wave
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.speechclip import read_speechclip
from sayclip_export.speechclip_export import wave_feed

Get = Callable[[str], Golden]
State = dict[str, Tensor]
Config = dict[str, Any]
HUBERT = "audio_encoder.encoder."


def refused(state: State, config: Config, **more: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_state(state, config, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def changed(state: State, key: str, change: Callable[[Tensor], Tensor]) -> State:
    return state | {key: change(state[key].clone())}


@pytest.mark.parametrize(
    "key",
    [
        f"{HUBERT}encoder.layers.1.fc2.bias",
        f"{HUBERT}encoder.pos_conv.0.weight_g",
        f"{HUBERT}feature_extractor.conv_layers.0.2.bias",
        "audio_encoder.weightedsum_layer.weights",
        "clip.model.ln_final.weight",
        "clip.model.visual.transformer.resblocks.0.attn.in_proj_bias",
        "clip.original_text_emb_weight",
        "cascaded_branch.cls",
        "cascaded_branch.linear_proj.bias",
        "cascaded_branch.bn_layer.bn_layer.running_var",
        "cascaded_branch.downsampling.weight_proj.1.weight",
        "cascaded_branch.parallel_proj.bias",
        "cascaded_branch.self_att.multihead_attn_layer.in_proj_weight",
    ],
)
def test_a_missing_key(key: str, golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("plus_base_hybrid_plus"))
    state = without_aliases(state)
    del state[key]
    assert f"some.ckpt lacks {key}" in refused(state, config)


@pytest.mark.parametrize("name", ["parallel_cls", "cascaded_cls"])
def test_a_missing_token_of_a_hybrid(name: str, golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_cascaded"))
    state, config = without_aliases(state), copy.deepcopy(config)
    hybrid(state, config)
    del state[f"cascaded_branch.{name}"]
    wanted = "cascaded_branch.cascaded_cls hold 8 tokens, wanted 9" if name[0] == "p" else "lacks cascaded_branch.casc"
    assert wanted in refused(state, config)


def test_the_missing_token_of_a_parallel_head(golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_parallel"))
    del state["parallel_branch.cls"]
    assert "parallel_branch.cls hold 0 tokens, wanted 1" in refused(state, config)


def test_a_whole_part_missing(golden_speechclip: Get) -> None:
    """What is left is a model of another kind, which the configuration contradicts."""
    state, config = loaded(golden_speechclip("plus_base_hybrid_plus"))
    state = {key: value for key, value in state.items() if "downsampling" not in key}
    assert "type is 'HybridBranch_dynamic', wanted that of hybrid, as the keys" in refused(state, config)
    state = {key: value for key, value in state.items() if not key.startswith("cascaded_branch")}
    assert "holds neither parallel_branch nor cascaded_branch" in refused(state, config)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (
            "cascaded_branch.parallel_proj.weight",
            lambda x: x[:16],
            "parallel_proj.weight has the shape [16, 48], wanted [32, 48] (the width of CLIP's embedding",
        ),
        ("cascaded_branch.linear_proj.weight", lambda x: x[:, :40], "has the shape [32, 40], wanted [32, 48]"),
        (
            "cascaded_branch.cls",
            lambda x: x[..., :40],
            "cascaded_branch.cls has the shape [1, 1, 40], wanted [1, 1, 48]",
        ),
        ("cascaded_branch.cls", lambda x: x.repeat(1, 2, 1), "cascaded_branch.cls hold 2 tokens, wanted 1"),
        ("cascaded_branch.downsampling.conv.0.weight", lambda x: x[..., :2], "conv.0.weight is 2 wide, wanted odd"),
        (
            "cascaded_branch.downsampling.conv.0.weight",
            lambda x: x[:40],
            "has the shape [40, 48, 3], wanted [48, 48, 3]",
        ),
        ("cascaded_branch.cls", lambda x: x[0], "cascaded_branch.cls has the shape [1, 48], wanted 3 dimensions"),
        ("audio_encoder.weightedsum_layer.weights", lambda x: x[:3], "has the shape [3], wanted [4]"),
        ("cascaded_branch.bn_layer.bn_layer.weight", lambda x: x[:31], "bn_layer has no whole number of norms"),
        (f"{HUBERT}encoder.pos_conv.0.weight_v", lambda x: x[:, :11], "wanted whole groups"),
        (
            f"{HUBERT}feature_extractor.conv_layers.3.0.weight",
            lambda x: x[..., :2],
            "wanted HuBERT's (10, 3, 3, 3, 3, 2, 2)",
        ),
        ("clip.model.token_embedding.weight", lambda x: x[:, :31], "token_embedding.weight has the shape [8112, 31]"),
        ("clip.model.visual.proj", lambda x: x[:, :31], "clip.model.visual.proj gives 31, wanted 32"),
        ("clip.model.visual.positional_embedding", lambda x: x[:4], "wanted square patches"),
        (
            "clip.model.token_embedding.weight",
            lambda x: x + 1,
            "8112 of 8112 rows of clip.model.token_embedding.weight",
        ),
        ("clip.model.token_embedding.weight", lambda x: torch.cat([x[:3], x[3:4] * 2, x[4:]]), "the first of them 3,"),
        (
            "clip.model.token_embedding.weight",
            lambda x: x.flip(0),
            "row 0 of clip.model.token_embedding.weight is token",
        ),
        ("clip.model.token_embedding.weight", lambda x: torch.cat([x, x[7:8]]), "stands for two tokens"),
        ("clip.model.ln_final.bias", lambda x: x * float("nan"), "clip.model.ln_final.bias holds NaN or infinity"),
        ("clip.model.ln_final.bias", lambda x: x.to(torch.int32), "ln_final.bias is int32, wanted floating point"),
        (f"{HUBERT}encoder.pos_conv.0.weight_v", torch.zeros_like, "pos_conv.0.weight_v holds NaN or infinity"),
    ],
)
def test_a_key_that_does_not_fit(
    key: str, change: Callable[[Tensor], Tensor], message: str, golden_speechclip: Get
) -> None:
    state, config = loaded(golden_speechclip("plus_base_hybrid_plus"))
    assert message in refused(changed(without_aliases(state), key, change), config)


def test_two_equal_rows_of_clip(golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_parallel"))
    full = state["clip.original_text_emb_weight"].clone()
    full[99] = full[320]  # the token of row 1, "a"
    message = refused(state | {"clip.original_text_emb_weight": full}, config)
    assert "holds a row that stands for two tokens, number 1," in message


def test_keys_that_nobody_takes(golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_parallel"))
    message = refused(state | {"p_branch_proj_net.sequential.0.weight": torch.zeros(3, 2), "z": torch.ones(1)}, config)
    assert (
        "holds p_branch_proj_net.sequential.0.weight [3, 2] and 1 more keys that no part of the model takes" in message
    )


def test_a_copy_that_is_none(golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_cascaded"))
    key = "cascaded_branch.clip.model.ln_final.bias"
    assert f"{key} differs from clip.model.ln_final.bias" in refused(changed(state, key, lambda x: x + 1), config)
    assert "of which cascaded_branch.clip.extra is a copy" in refused(
        state | {"cascaded_branch.clip.extra": torch.ones(1)}, config
    )


def at(config: Config, path: str) -> Config:
    for key in path.split("."):
        config = config[key]
    return config


CIF = "model_settings.cascaded_branch.downsampling.cif"


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("audio_encoder", {"type": "s3prl"}, "audio_encoder: type is 's3prl', wanted 'FairseqHubert' or 's3prl_plus'"),
        ("audio_encoder", {"name": "hubert_large_ll60k"}, "name is 'hubert_large_ll60k', wanted that of a base HuBERT"),
        ("audio_encoder", {"feat_select_idx": "last_hidden_state"}, "wanted 'weighted_sum'"),
        ("audio_encoder", {"normalize_hiddenstates": True, "normalize_type": "method1"}, "wanted 's3prl'"),
        ("model_settings.cascaded_branch", {"type": "KW_CascadedBranch"}, "wanted that of hybrid+"),
        (
            "model_settings.cascaded_branch.transformer_args",
            {"nhead": 7},
            "has 7 heads, wanted a divisor of its width, 48",
        ),
        (CIF, {"cif_threshold": 0.8}, "cif_threshold is 0.8, wanted 1.0"),
        (CIF, {"apply_tail_handling": False}, "apply_tail_handling is False, wanted true"),
        (CIF, {"produce_weight_type": "dense"}, "produce_weight_type is 'dense', wanted 'conv'"),
    ],
)
def test_a_configuration_that_does_not_fit(
    path: str, values: dict[str, object], message: str, golden_speechclip: Get
) -> None:
    state, config = loaded(golden_speechclip("plus_base_hybrid_plus"))
    config = copy.deepcopy(config)
    at(config, path).update(values)
    assert message in refused(without_aliases(state), config)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "hubert.heads",
            "this HuBERT is 48 wide, and heads are known for 768 and 1024 alone: say it with --set hubert.heads=",
        ),
        (
            "text.heads",
            "the text tower is 32 wide, no multiple of 64, so its heads are open: say it with --set text.heads=",
        ),
    ],
)
def test_what_is_open_is_named(key: str, message: str, golden_speechclip: Get) -> None:
    path = golden_speechclip("base_parallel").path
    with pytest.raises(CheckpointError) as caught:
        read_speechclip(path, Overrides({name: value for name, value in SET.items() if name != key}))
    assert message in str(caught.value)


def test_heads_that_the_configuration_leaves_out(golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_parallel"))
    config = copy.deepcopy(config)
    del at(config, "model_settings.parallel_branch.transformer_args")["nhead"]
    assert "says no nhead, and no weight shows it: say it with --set head.heads=NUMBER" in refused(state, config)
    found = read_state(state, config, head__heads="6")
    assert found.speech_config.branches[0].heads == 6


@pytest.mark.parametrize("key", ["hubert.heads", "image.heads", "text.heads", "head.heads"])
def test_heads_must_divide_the_width(key: str, golden_speechclip: Get) -> None:
    state, config = loaded(golden_speechclip("base_parallel"))
    message = refused(state, config, **{key.replace(".", "__"): "5"})
    assert "wanted a divisor of" in message
    assert key in message


def test_settings_that_mean_nothing(golden_speechclip: Get) -> None:
    with pytest.raises(InputError, match=r"--set decoder\.heads means nothing for this checkpoint"):
        read_speechclip(golden_speechclip("base_parallel").path, Overrides(SET | {"decoder.heads": "2"}))


def test_waves_are_normalised_as_in_training(golden_speechclip: Get) -> None:
    """The base of SpeechCLIP+ by its configuration; the large one always; and what is said otherwise wins."""
    plus, large, base = (
        loaded(golden_speechclip(n)) for n in ("plus_base_hybrid_plus", "large_parallel", "base_parallel")
    )
    assert read_state(*plus).speech_config.hubert.normalise is True
    assert read_state(*plus, waveform_normalisation="false").speech_config.hubert.normalise is False
    assert read_state(*large).speech_config.hubert.normalise is True
    assert read_state(*base).speech_config.hubert.normalise is False
    assert read_state(*base, waveform_normalisation="yes").speech_config.hubert.normalise is True
    assert read_state(*base, hidden_state_normalisation="true").speech_config.normalise_states is True


def test_a_normalised_wave() -> None:
    wave = torch.from_numpy(wave_feed(random_waves(1000), longest=1500)["waveform"]) * 3 + 1
    valid = (torch.arange(1500) < 1000).float()[None]
    got = normalise_wave(wave * valid, valid, torch.tensor([1000], dtype=torch.int32))
    wanted = torch.nn.functional.layer_norm(wave[:, :1000], (1000,))
    assert torch.allclose(got[:, :1000], wanted, atol=1e-5)
    assert not got[:, 1000:].any()


def cascaded_plus(state: State, config: Config) -> None:
    for key in [key for key in state if "parallel_proj" in key or key == "cascaded_branch.cls"]:
        del state[key]
    at(config, "model_settings.cascaded_branch")["type"] = "KW_CascadedBranch_plus"


def hybrid(state: State, config: Config) -> None:
    state["cascaded_branch.cascaded_cls"] = state.pop("cascaded_branch.cls")
    state["cascaded_branch.parallel_cls"] = torch.full((1, 1, 48), 0.1)
    state["cascaded_branch.parallel_proj.weight"] = state["cascaded_branch.linear_proj.weight"].flip(0)
    state["cascaded_branch.parallel_proj.bias"] = torch.zeros(32)
    at(config, "model_settings.cascaded_branch")["type"] = "HybridBranch"


def mlp(state: State, config: Config) -> None:
    for last in ("weight", "bias"):
        out = state.pop(f"cascaded_branch.linear_proj.{last}")
        state[f"cascaded_branch.linear_proj.sequential.3.{last}"] = out
    state["cascaded_branch.linear_proj.sequential.0.weight"] = torch.eye(48)
    state["cascaded_branch.linear_proj.sequential.0.bias"] = torch.full((48,), 0.05)


def apart(state: State, config: Config) -> None:
    """The same batch norm as eight modules: channel d * 8 + k becomes channel d of module k."""
    for last in ("weight", "bias", "running_mean", "running_var"):
        joined = state.pop(f"cascaded_branch.bn_layer.bn_layer.{last}").view(32, 8)
        for k in range(8):
            state[f"cascaded_branch.bn_layer.bn_layers.{k}.{last}"] = joined[:, k].clone()
    del state["cascaded_branch.bn_layer.bn_layer.num_batches_tracked"]


def no_norm(state: State, config: Config) -> None:
    for key in [key for key in state if "bn_layer" in key]:
        del state[key]
    del at(config, "model_settings.cascaded_branch.keyword")["batchnorms"]


@pytest.mark.parametrize(
    ("name", "change", "kind", "keywords"),
    [
        ("plus_base_hybrid_plus", cascaded_plus, "cascaded+", 75),
        ("base_cascaded", hybrid, "hybrid", 8),
        ("base_cascaded", mlp, "cascaded", 8),
        ("base_cascaded", apart, "cascaded", 8),
        ("base_cascaded", no_norm, "cascaded", 8),
    ],
)
def test_other_kinds(
    name: str, change: Callable[[State, Config], None], kind: str, keywords: int, golden_speechclip: Get
) -> None:
    state, config = loaded(golden_speechclip(name))
    state, config = without_aliases(state), copy.deepcopy(config)
    change(state, config)
    found = read_state(state, config)
    assert found.kind == kind
    waves = random_waves(16000, 9000)
    got, alone = named(found.speech, wave_feed(waves, longest=20000)), named(found.speech, wave_feed(waves[1:]))
    assert got["keyword_ids"].shape == (2, keywords)
    assert ("parallel_embedding" in got) == (kind == "hybrid")
    assert np.array_equal(got["keyword_ids"][1], alone["keyword_ids"][0])
    assert np.abs(got["embedding"][1] - alone["embedding"][0]).max() <= 1e-5
    assert set(got["keyword_ids"][got["keyword_scores"] != 0].tolist()) <= set(found.vocabulary)
    known, found_again = (
        named(model, wave_feed(waves))["keyword_scores"]
        for model in (golden_speechclip(name).checkpoint.speech, found.speech)
    )
    assert np.allclose(known, found_again, atol=1e-6) == (change is apart)


def test_both_heads_of_speechclip(golden_speechclip: Get) -> None:
    """A model trained with both objectives: its heads do not see each other."""
    parallel, cascaded = golden_speechclip("base_parallel"), golden_speechclip("base_cascaded")
    state, config = loaded(cascaded)
    state |= {key: value for key, value in loaded(parallel)[0].items() if key.startswith("parallel_branch.")}
    found = read_state(state, config)
    assert found.kind == "parallel and cascaded"
    waves = random_waves(16000)
    got, known = named(found.speech, wave_feed(waves)), named(cascaded.checkpoint.speech, wave_feed(waves))
    assert np.array_equal(got["cascaded_embedding"], known["embedding"])
    assert np.array_equal(got["keyword_ids"], known["keyword_ids"])
    assert np.array_equal(got["embedding"], got["parallel_embedding"])
    assert not np.allclose(got["embedding"], known["embedding"], atol=0.1)
    heads = read_state(state, config, parallel__heads="2", cascaded__heads="3").speech_config.branches
    assert [head.heads for head in heads] == [2, 3]


def test_hubert_through_s3prl(golden_speechclip: Get) -> None:
    golden = golden_speechclip("base_parallel")
    state, config = loaded(golden)
    state = {key.replace(HUBERT, f"{HUBERT}model."): value for key, value in state.items()}
    config = copy.deepcopy(config)
    config["audio_encoder"]["type"] = "s3prl_plus"
    waves = wave_feed(golden.waves("single0"))
    got = named(read_state(state, config).speech, waves)["embedding"]
    assert np.array_equal(got, named(golden.checkpoint.speech, waves)["embedding"])


def test_a_file_written_again(golden_speechclip: Get, tmp_path: Path) -> None:
    """With the large eye matrices of released files; and its sum is that of the file."""
    import hashlib

    state, config = loaded(golden_speechclip("large_parallel"))
    state["criterion.eye_mat"] = torch.eye(1024, dtype=torch.bool)
    path = save(tmp_path / "again.ckpt", state, config)
    found = read_speechclip(path, Overrides(dict(SET)))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.format == "SpeechCLIP parallel, HuBERT large, keywords of Flickr8k, Lightning 1.5.10"
    assert found.picture.size == 32
    assert found.speech_config.hubert.large


def test_a_damaged_file(golden_speechclip: Get, tmp_path: Path) -> None:
    whole = golden_speechclip("base_parallel").path.read_bytes()
    path = tmp_path / "broken.ckpt"
    for broken in (whole[:-1000], whole[:100_000], whole[:3_000_000] + b"\x00\xff" + whole[3_000_002:]):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="is damaged or cut short"):
            read_speechclip(path, Overrides(dict(SET)))


def test_another_function_is_noticed(golden_speechclip: Get, speech_graph: Callable[[str], Path]) -> None:
    """A graph of one head count held against another: shows that verification can fail."""
    state, config = loaded(golden_speechclip("base_cascaded"))
    other = read_state(without_aliases(state), config, hubert__heads="2").speech
    agreement = verify(speech_graph("base_cascaded"), other, [wave_feed(random_waves(16000))], other.outputs)
    with pytest.raises(BundleError, match=r"differs from torch by .*, wanted at most 1e-04"):
        require(agreement, speech_graph("base_cascaded"))
