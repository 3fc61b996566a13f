"""Our CLIP towers, read from every layout of a Hugging Face folder, equal transformers' CLIPModel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayclip_export.models.layers import QuickGELU
from sayclip_export.parts import space_id, text_feed
from sayclip_export.readers.hugging_face import ClipCheckpoint, read_clip

SOT, EOT = 49406, 49407


def sequences(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [[SOT, *rng.integers(0, SOT, length - 2).tolist(), EOT] for length in lengths]


def differences(checkpoint: ClipCheckpoint, answers: Callable[..., Any]) -> tuple[float, float]:
    """Largest absolute difference to transformers over pictures, and over texts of 3, 10 and 77 tokens."""
    pixels = np.random.default_rng(2).standard_normal((3, 3, 32, 32)).astype(np.float32)
    texts = sequences(3, 10, 77)
    feed = [torch.from_numpy(value) for value in text_feed(texts, 0).values()]
    with torch.inference_mode():
        image = checkpoint.image(torch.from_numpy(pixels)).numpy()
        text = checkpoint.text(*feed).numpy()
    wanted_image, wanted_text = answers(checkpoint.source, pixels, texts)
    assert image.shape == wanted_image.shape == (3, 48)
    assert text.shape == wanted_text.shape == (3, 48)
    return float(np.abs(image - wanted_image).max()), float(np.abs(text - wanted_text).max())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_equal_transformers(
    activation: str, dtype: torch.dtype, write_clip: Callable[..., Path], answers: Callable[..., Any], tmp_path: Path
) -> None:
    checkpoint = read_clip(write_clip(tmp_path / "clip", activation=activation, dtype=dtype))
    assert {parameter.dtype for parameter in checkpoint.image.parameters()} == {torch.float32}
    image, text = differences(checkpoint, answers)
    assert image < 1e-5
    assert text < 1e-5
    kinds = {QuickGELU, torch.nn.GELU} & {type(module) for module in checkpoint.text.modules()}
    assert kinds == {QuickGELU if activation == "quick_gelu" else torch.nn.GELU}


def test_the_wrong_activation_would_show(clip_folder: Path, answers: Callable[..., Any]) -> None:
    checkpoint = read_clip(clip_folder)
    config = json.loads((clip_folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part]["hidden_act"] = "gelu"
    (clip_folder / "config.json").write_text(json.dumps(config))
    assert min(differences(checkpoint, answers)) > 1e-4


def test_weights_in_shards(write_clip: Callable[..., Path], answers: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", max_shard_size="2MB")
    checkpoint = read_clip(folder)
    assert checkpoint.weights_format == "model.safetensors.index.json"
    shards = {path.name for path in folder.glob("model-*.safetensors")}
    assert len(shards) > 1
    assert shards < set(checkpoint.files)
    assert max(differences(checkpoint, answers)) < 1e-5


def test_weights_in_a_pickle_with_what_old_files_held(clip_folder: Path, answers: Callable[..., Any]) -> None:
    from safetensors.torch import load_file

    before = read_clip(clip_folder)
    state = load_file(clip_folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    torch.save(state, clip_folder / "pytorch_model.bin")
    (clip_folder / "model.safetensors").unlink()
    checkpoint = read_clip(clip_folder)
    assert checkpoint.weights_format == "pytorch_model.bin"
    assert max(differences(checkpoint, answers)) < 1e-5
    assert space_id(checkpoint) == space_id(before)


def test_a_folder_as_the_library_saves_it(
    clip_folder: Path, transformers: Any, answers: Callable[..., Any], tmp_path: Path
) -> None:
    """Its version 5 writes ``processor_config.json`` and ``tokenizer.json`` in place of the older files."""
    saved = tmp_path / "saved"
    transformers.CLIPModel.from_pretrained(clip_folder).save_pretrained(saved)
    image_processor = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    transformers.CLIPProcessor(image_processor, tokenizer).save_pretrained(saved)
    checkpoint = read_clip(saved)
    assert set(checkpoint.files) == {"config.json", "processor_config.json", "tokenizer.json", "model.safetensors"}
    assert max(differences(checkpoint, answers)) < 1e-5
    assert space_id(checkpoint) == space_id(read_clip(clip_folder))


def test_the_space_follows_image_weights_and_preprocessing_alone(clip_folder: Path) -> None:
    first = space_id(read_clip(clip_folder))
    assert first.startswith("clip-")
    assert len(first) == len("clip-") + 12

    def changed(name: str, change: Callable[[dict[str, Any]], object]) -> str:
        path = clip_folder / name
        before = path.read_text()
        data = json.loads(before)
        change(data)
        path.write_text(json.dumps(data))
        space = space_id(read_clip(clip_folder))
        path.write_text(before)
        return space

    assert changed("config.json", lambda data: data["text_config"].update(hidden_act="gelu")) == first
    assert changed("config.json", lambda data: data["vision_config"].update(hidden_act="gelu")) != first
    assert changed("config.json", lambda data: data["vision_config"].update(num_attention_heads=2)) != first
    assert changed("preprocessor_config.json", lambda data: data.update(image_mean=[0.5, 0.5, 0.5])) != first
    assert space_id(read_clip(clip_folder)) == first


def test_the_class_token_alone_leaves_the_last_block(clip_folder: Path) -> None:
    """The shortened last block gives what the whole block gives at position 0."""
    image = read_clip(clip_folder).image
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    last: Any = image.blocks[-1]
    seen: list[torch.Tensor] = []
    handle = image.ln_post.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    kept: list[torch.Tensor] = []
    second = image.blocks[-2].register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.inference_mode():
        image(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
        whole = last(kept[0])[:, 0]
    handle.remove()
    second.remove()
    assert kept[0].shape == x.shape
    assert float((seen[0] - whole).abs().max()) < 1e-5
