"""Named architectures at full size, by shapes alone, and what weights leave open."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sayclip.errors import InputError
from sayclip_export.readers.architectures import ARCHITECTURES, QUICK, Sizes, resolve
from sayclip_export.readers.clip_checkpoint import empty_towers
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.open_clip import configs
from sayclip_export.readers.openai_keys import mapped, measure, plain_names
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.state_dict import read_file

State = dict[str, Tensor]
WHERE = Path("weights.pt")
# Keys of a state dict, parameters in all, of the image tower and of the text tower, as published.
COUNTS = {
    "ViT-B-32": (302, 151_277_313, 87_849_216, 63_428_096),
    "ViT-B-16": (302, 149_620_737, 86_192_640, 63_428_096),
    "ViT-L-14": (446, 427_616_513, 303_966_208, 123_650_304),
    "ViT-L-14-336": (446, 427_944_193, 304_293_888, 123_650_304),
    "ViT-H-14": (686, 986_109_441, 632_076_800, 354_032_640),
}


def shapes(sizes: Sizes) -> State:
    """A state dict under OpenAI's names, of shapes without memory."""
    image, text = sizes
    tokens = (image.size // image.patch) ** 2 + 1
    found: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (image.width,),
        "visual.conv1.weight": (image.width, 3, image.patch, image.patch),
        "visual.positional_embedding": (tokens, image.width),
        "visual.proj": (image.width, image.embedding),
        "token_embedding.weight": (text.vocabulary, text.width),
        "positional_embedding": (text.context, text.width),
        "text_projection": (text.width, text.embedding),
        "logit_scale": (),
    }
    for name, width in (("visual.ln_pre", image.width), ("visual.ln_post", image.width), ("ln_final", text.width)):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    for prefix, width, hidden, layers in (
        ("visual.", image.width, image.hidden, image.layers),
        ("", text.width, text.hidden, text.layers),
    ):
        for block in (f"{prefix}transformer.resblocks.{number}" for number in range(layers)):
            for norm in ("ln_1", "ln_2"):
                found[f"{block}.{norm}.weight"] = found[f"{block}.{norm}.bias"] = (width,)
            found |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            found |= {f"{block}.attn.out_proj.weight": (width, width), f"{block}.attn.out_proj.bias": (width,)}
            found |= {f"{block}.mlp.c_fc.weight": (hidden, width), f"{block}.mlp.c_fc.bias": (hidden,)}
            found |= {f"{block}.mlp.c_proj.weight": (width, hidden), f"{block}.mlp.c_proj.bias": (width,)}
    return {key: torch.empty(shape, device="meta") for key, shape in found.items()}


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if not name.endswith(QUICK)])
def test_full_size_state_dicts_map_with_no_key_left(name: str) -> None:
    state = shapes(ARCHITECTURES[name])
    sizes, found = resolve(measure(state, WHERE), False, Overrides({"architecture": name}), "x")
    assert (sizes, found) == (ARCHITECTURES[name], name)
    image, text = empty_towers(*sizes)
    states = mapped(image, text, state, WHERE)
    for tower, part in zip((image, text), states, strict=True):
        assert {key: value.shape for key, value in part.items()} == {k: v.shape for k, v in tower.state_dict().items()}
    if name in COUNTS:
        in_towers = [sum(parameter.numel() for parameter in tower.parameters()) for tower in (image, text)]
        assert (len(state), sum(in_towers) + 1, *in_towers) == COUNTS[name]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if not name.endswith(QUICK)])
def test_architectures_are_those_of_open_clip(name: str) -> None:
    """Its own configurations, which the package that brings the vocabulary holds too."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip_torch is not installed")
    folder = Path(spec.origin).parent / "model_configs"
    model = json.loads((folder / f"{name}.json").read_text())
    assert configs(Settings({"model_cfg": model}, "x")) == ARCHITECTURES[name]
    quick = folder / f"{name}{QUICK}.json"
    if quick.is_file():
        model = json.loads(quick.read_text())
        assert configs(Settings({"model_cfg": model}, "x")) == ARCHITECTURES[f"{name}{QUICK}"]


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14", "ViT-H-14"])
def test_the_activation_follows_the_name(name: str) -> None:
    seen = measure(shapes(ARCHITECTURES[name]), WHERE)
    for named, activation in ((name, "gelu"), (f"{name}{QUICK}", "quick_gelu")):
        for given in ({"architecture": named}, {"activation": activation}):
            sizes, found = resolve(seen, False, Overrides(given), "x")
            assert found == named
            assert {sizes[0].activation, sizes[1].activation} == {activation}
    # H/14's heads are 80 wide, and no shape tells.
    assert sizes[0].heads == {"ViT-B-32": 12}.get(name, 16)


def test_openais_own_needs_no_name() -> None:
    seen = measure(shapes(ARCHITECTURES["ViT-L-14"]), WHERE)
    sizes, name = resolve(seen, True, Overrides(), "x")
    assert (sizes, name) == (ARCHITECTURES[f"ViT-L-14{QUICK}"], f"ViT-L-14{QUICK}")


SMALL = (
    replace(ARCHITECTURES["ViT-B-32"][0], width=96, layers=2, hidden=100, embedding=48),
    replace(ARCHITECTURES["ViT-B-32"][1], width=160, layers=1, hidden=90, embedding=48),
)


@pytest.mark.parametrize(
    ("sizes", "openai", "given", "message"),
    [
        ("ViT-B-32", False, {}, "x is a ViT-B-32 by its sizes, and weights do not tell whether it computes GELU or "
         "QuickGELU: say --set architecture=ViT-B-32 for GELU (LAION-2B, DataComp) or ViT-B-32-quickgelu"),
        ("ViT-B-32", False, {"architecture": "ViT-L-14"}, "x is no ViT-L-14: its image tower has patch 32, wanted 14"),
        ("ViT-L-14", False, {"architecture": "ViT-L-14-336"}, "x is no ViT-L-14-336: its image tower has size 224"),
        ("ViT-B-32", True, {"architecture": "ViT-B-32"}, "OpenAI's own checkpoint, which computes QuickGELU, and "
         "ViT-B-32 computes GELU: say --set architecture=ViT-B-32-quickgelu, or none"),
        ("ViT-B-32", False, {"architecture": "ViT-B-32-quickgelu", "activation": "gelu"},
         "--set activation=gelu contradicts ViT-B-32-quickgelu, which has quick_gelu"),
        ("ViT-H-14", False, {"architecture": "ViT-H-14", "image.heads": "20"}, "--set image.heads=20 contradicts"),
        (SMALL, False, {}, "is of no known architecture (image 96 wide, 2 layers; text 160 wide, 1 layers), and "
         "weights tell neither heads nor activation: say --set image.heads=NUMBER --set text.heads=NUMBER --set "
         "activation=quick_gelu"),
        (SMALL, False, {"activation": "gelu", "text.heads": "4"}, "say --set image.heads=NUMBER --set activation="),
        ((replace(SMALL[0], width=48), SMALL[1]), True, {}, "x: image.heads is 0, wanted a divisor of the width, 48"),
        (SMALL, False, {"activation": "gelu", "text.heads": "7", "image.heads": "4"},
         "x: text.heads is 7, wanted a divisor of the width, 160: say --set text.heads=NUMBER"),
    ],
)  # fmt: skip
def test_what_stays_open_is_asked_for(sizes: Any, openai: bool, given: dict[str, str], message: str) -> None:
    seen = measure(shapes(ARCHITECTURES[sizes] if isinstance(sizes, str) else sizes), WHERE)
    with pytest.raises(CheckpointError) as caught:
        resolve(seen, openai, Overrides(given), "x")
    assert message in str(caught.value)


def test_a_wrong_name_is_refused_with_the_right_ones() -> None:
    with pytest.raises(InputError, match=r"--set architecture=ViT-B-23, wanted .*ViT-B-32.* or ViT-bigG-14-quickgelu"):
        resolve(SMALL, False, Overrides({"architecture": "ViT-B-23"}), "x")


KEY = "visual.transformer.resblocks.1.attn.in_proj_weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(KEY), f"lacks {KEY}, wanted [192, 64]"),
        (lambda s: s.pop("visual.proj"), "lacks visual.proj, wanted it with 2 dimensions"),
        (lambda s: s.pop("visual.conv1.weight"), "holds no visual.conv1.weight, but ln_final.bias"),
        (lambda s: s.update({KEY: torch.zeros(64, 64)}), f"{KEY} has the shape [64, 64], wanted [192, 64]"),
        (lambda s: s.update({"text_projection": torch.zeros(48, 64)}), "text_projection has the shape [48, 64]"),
        (lambda s: s.update({"visual.positional_embedding": torch.zeros(6, 64)}), "has 6 rows, wanted a square"),
        (lambda s: s.update({"visual.conv1.weight": torch.zeros(64, 4, 16, 16)}), "wanted [64, 3, N, N]"),
        (lambda s: s.update(extra=torch.zeros(1), more=torch.zeros(1)), "holds extra and 1 more keys that no CLIP"),
        (lambda s: s.update({"positional_embedding": torch.zeros(5000, 64)}), "has 5000 rows, wanted at most 4096"),
        (lambda s: s.update(input_resolution=torch.tensor(224)), "input_resolution is 224, the weights are of 32"),
        (lambda s: s["ln_final.bias"][3:4].fill_(float("nan")), "ln_final.bias holds NaN or infinity"),
        (lambda s: s["visual.proj"][0].fill_(float("inf")), "projection.weight holds NaN or infinity"),
        (lambda s: s.update({"ln_final.bias": torch.zeros(64, dtype=torch.int64)}), "ln_final.bias is int64, wanted"),
        (lambda s: s.update({"ln_final.bias": torch.zeros(1).expand(64)}), "fewer values than its shape [64]"),
        (lambda s: s.update({"visual.layer1.0.conv1.weight": torch.zeros(1)}), "the mark of a ResNet, wanted OpenAI's"),
        (lambda s: s.update({"visual.trunk.stem.weight": torch.zeros(1)}), "an image tower of timm"),
        (lambda s: s.update({"text.transformer.encoder.x": torch.zeros(1)}), "a text tower of Hugging Face"),
        (lambda s: s.update({"logit_bias": torch.zeros(())}), "logit_bias, the mark of SigLIP"),
        (lambda s: s.update({"text_decoder.x": torch.zeros(1)}), "the mark of CoCa"),
        (lambda s: s.update({"visual.transformer.resblocks.0.ls_1.gamma": torch.zeros(1)}), "the mark of layer scale"),
        (lambda s: s.update({"text_model.final_layer_norm.bias": torch.zeros(1)}), "the mark of Hugging Face's names"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(
    change: Callable[[State], object], message: str, state: State, heads: dict[str, str], tmp_path: Path
) -> None:
    change(state)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as caught:
        read_file(tmp_path / "x.pt", Overrides({**heads, "activation": "gelu"}), None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("ViT-L-14", "image.normalisation", "inception"),
        ("ViT-H-14-quickgelu", "image.resize", "squash"),
    ],
)
def test_how_pictures_are_seen_is_asked_for_where_weights_differ(
    architecture: str, key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = shapes(ARCHITECTURES[architecture])
    given: list[Any] = []
    monkeypatch.setattr("sayclip_export.readers.state_dict.load", lambda path: (state, "state dict"))
    monkeypatch.setattr("sayclip_export.readers.state_dict.assemble", lambda *arguments: given.append(arguments))
    with pytest.raises(CheckpointError, match=f"say --set {key}={value} for"):
        read_file(tmp_path / "x.pt", Overrides({"architecture": architecture}), None)
    read_file(tmp_path / "x.pt", Overrides({"architecture": architecture, key: value}), None)
    picture = given[0][4]
    assert (picture.mean[0], picture.resize) in ((0.5, "shortest"), (0.48145466, "squash"))


def test_prefixes_go_only_where_all_keys_have_them() -> None:
    state = shapes(SMALL)
    assert plain_names({f"module.{key}": value for key, value in state.items()}, WHERE).keys() == state.keys()
    mixed = {**state, "module.x": state["logit_scale"]}
    assert "module.x" in plain_names(mixed, WHERE)
