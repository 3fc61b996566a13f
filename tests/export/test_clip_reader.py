"""What a Hugging Face folder may say, and how a wrong one is refused: one line with the value seen and that wanted."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sayclip.text.tokenizer import Tokenizer
from sayclip_export.models.clip import ClipImageConfig, ClipTextConfig
from sayclip_export.readers.errors import CheckpointError
from sayclip_export.readers.hugging_face import configs, read_clip
from sayclip_export.readers.picture_settings import MEAN, STD, picture_settings
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.tensors import read_tensors
from sayclip_export.readers.vocabulary import TEXTS, read_vocabulary

Change = Callable[[dict[str, Any]], object]


def edit(folder: Path, name: str, change: Change) -> None:
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


def edit_weights(folder: Path, change: Change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_clip(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


KEY = "text_model.encoder.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(KEY), f"model.safetensors lacks {KEY}, wanted [64, 64]"),
        (
            lambda state: state.update({KEY: torch.zeros(64, 32)}),
            f"{KEY} has the shape [64, 32], wanted [64, 64]",
        ),
        (
            lambda state: state.update({"visual_projection.weight": torch.zeros(64, 48)}),
            "visual_projection.weight has the shape [64, 48], wanted [48, 64]",
        ),
        (
            lambda state: state.update(
                {"vision_model.encoder.layers.2.mlp.fc1.bias": torch.zeros(3), "z": torch.ones(1)}
            ),
            "holds vision_model.encoder.layers.2.mlp.fc1.bias and 1 more keys that config.json does not account for",
        ),
        (lambda state: state[KEY].view(-1)[7:8].fill_(float("nan")), f"{KEY} holds NaN or infinity"),
        (lambda state: state.update({KEY: torch.zeros(64, 64, dtype=torch.int8)}), f"{KEY} is int8, wanted floating"),
    ],
)
def test_weights_that_do_not_fit(change: Change, message: str, clip_folder: Path) -> None:
    edit_weights(clip_folder, change)
    assert message in refused(clip_folder)


@pytest.mark.parametrize("keep", [0, 4, 5000, -1000])
def test_truncated_safetensors(keep: int, clip_folder: Path) -> None:
    path = clip_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors is damaged or no safetensors file" in refused(clip_folder)


class Hostile:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_not_run(zipped: bool, clip_folder: Path, tmp_path: Path) -> None:
    (clip_folder / "model.safetensors").unlink()
    state = {"logit_scale": torch.ones(()), "x": Hostile(tmp_path / "made")}
    torch.save(state, clip_folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    message = refused(clip_folder)
    assert "pytorch_model.bin is damaged or holds something else than tensors" in message
    assert "mkdir" in message
    assert "weights_only=False" not in message
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a pickle at all"])
def test_a_damaged_pickle(content: bytes, clip_folder: Path) -> None:
    (clip_folder / "model.safetensors").unlink()
    (clip_folder / "pytorch_model.bin").write_bytes(content)
    assert "and was not run: use the model's safetensors file" in refused(clip_folder)


def test_a_script_in_place_of_weights(clip_folder: Path) -> None:
    """It never comes to torch, which would hand it over to ``torch.jit.load``."""
    (clip_folder / "model.safetensors").unlink()
    torch.jit.save(torch.jit.script(torch.nn.Identity()), clip_folder / "pytorch_model.bin")
    assert "pytorch_model.bin is a TorchScript archive and was not run" in refused(clip_folder)


def test_a_pickle_of_something_else(clip_folder: Path) -> None:
    (clip_folder / "model.safetensors").unlink()
    torch.save({"state_dict": {}, "epoch": 3}, clip_folder / "pytorch_model.bin")
    assert "wanted a state dict of tensors by name" in refused(clip_folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../outside.safetensors"}, "names the shard '../outside.safetensors', wanted a file beside it"),
        ({"a": "gone.safetensors"}, "names the shard 'gone.safetensors', which is not there"),
        ({"a": "part.safetensors"}, "part.safetensors lacks a, which model.safetensors.index.json says is in it"),
        ({}, "has no weight_map"),
    ],
)
def test_an_index_that_lies(weight_map: dict[str, str], message: str, clip_folder: Path) -> None:
    (clip_folder / "model.safetensors").rename(clip_folder / "part.safetensors")
    (clip_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert message in refused(clip_folder)


def test_no_weights(clip_folder: Path) -> None:
    (clip_folder / "model.safetensors").unlink()
    assert "holds none of model.safetensors, model.safetensors.index.json, pytorch_model.bin" in refused(clip_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="siglip"), "model_type is 'siglip', wanted 'clip'"),
        (lambda c: c.pop("model_type"), "model_type is None, wanted 'clip'"),
        (lambda c: c["vision_config"].update(hidden_act="gelu_new"), "hidden_act is 'gelu_new', wanted 'quick_gelu'"),
        (lambda c: c["vision_config"].update(image_size=[32, 32]), "image_size is [32, 32], wanted a whole number"),
        (lambda c: c["vision_config"].update(image_size=33), "image_size is 33, wanted a multiple of patch_size, 16"),
        (lambda c: c["vision_config"].update(num_channels=4), "num_channels is 4, wanted 3"),
        (lambda c: c["text_config"].update(num_attention_heads=5), "num_attention_heads is 5, wanted a divisor of"),
        (lambda c: c["text_config"].update(eos_token_id=7), "eos_token_id is 7, wanted 49407"),
        (lambda c: c["text_config"].update(num_hidden_layers=10**6), "num_hidden_layers is 1000000, wanted a whole"),
        (lambda c: c["text_config"].update(vocab_size=49410), "the token table has 49410 rows"),
        (lambda c: c["text_config"].update(num_hidden_layers=3), "lacks text_model.encoder.layers.2."),
        (lambda c: c.update(vision_config="x"), "vision_config is 'x', wanted an object"),
        (lambda c: c["text_config"].update(max_position_embeddings=10**6), "max_position_embeddings is 1000000"),
    ],
)  # fmt: skip
def test_configurations_that_are_refused(change: Change, message: str, clip_folder: Path) -> None:
    edit(clip_folder, "config.json", change)
    assert message in refused(clip_folder)


def test_what_a_configuration_leaves_out_is_the_smallest_clip() -> None:
    image, text = configs(Settings({"model_type": "clip"}, "config.json"))
    assert image == ClipImageConfig()
    assert text == ClipTextConfig()


def test_an_old_configuration_overrides_with_its_defaults(transformers: Any) -> None:
    data = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {"hidden_size": 64, "num_attention_heads": 4},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
        "vision_config": {"patch_size": 14, "num_hidden_layers": 3, "hidden_act": "gelu"},
        "vision_config_dict": None,
    }
    image, text = configs(Settings(data, "config.json"))
    theirs = transformers.CLIPConfig(**{key: value for key, value in data.items() if key != "model_type"})
    for seen, wanted in ((image, theirs.vision_config), (text, theirs.text_config)):
        assert seen.width == wanted.hidden_size
        assert seen.layers == wanted.num_hidden_layers
        assert seen.heads == wanted.num_attention_heads
        assert seen.hidden == wanted.intermediate_size
        assert seen.activation == wanted.hidden_act
    assert image.embedding == text.embedding == theirs.projection_dim
    assert image.patch == theirs.vision_config.patch_size


def test_the_legacy_end_of_text_is_taken(clip_folder: Path) -> None:
    edit(clip_folder, "config.json", lambda config: config["text_config"].update(eos_token_id=2))
    assert read_clip(clip_folder).merges.eot == 49407


def picture_file(folder: Path, data: dict[str, Any], name: str = "preprocessor_config.json") -> Path:
    (folder / name).write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("data", "resample", "resize"),
    [
        ({}, "bicubic", "shortest"),
        (
            {"size": 224, "crop_size": 224, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"},
            "bicubic", "shortest",
        ),
        (
            {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 2,
             "rescale_factor": 0.00392156862745098, "image_processor_type": "CLIPImageProcessor"},
            "bilinear", "shortest",
        ),
        ({"size": {"height": 224, "width": 224}, "do_center_crop": False}, "bicubic", "squash"),
    ],
)  # fmt: skip
def test_both_layouts_of_preprocessing(data: dict[str, Any], resample: str, resize: str, tmp_path: Path) -> None:
    seen, name = picture_settings(picture_file(tmp_path, data), 224)
    assert (seen.size, seen.mean, seen.std, seen.resample, seen.resize) == (224, MEAN, STD, resample, resize)
    assert name == "preprocessor_config.json"
    # Nested in a processor's file, it counts before the other.
    nested = {"image_processor": {**data, "image_mean": [0.5, 0.5, 0.5]}, "processor_class": "CLIPProcessor"}
    seen, name = picture_settings(picture_file(tmp_path, nested, "processor_config.json"), 224)
    assert (seen.mean, seen.std, seen.resize, name) == ((0.5, 0.5, 0.5), STD, resize, "processor_config.json")
    # A processor's file of older versions says nothing about pictures.
    seen, name = picture_settings(picture_file(tmp_path, {"processor_class": "C"}, "processor_config.json"), 224)
    assert (seen.mean, name) == (MEAN, "preprocessor_config.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"size": 256}, "crop_size is None, wanted that of size, 256 pixels"),
        ({"size": 336, "crop_size": 336}, "size is 336, wanted the image_size of the model, 224 pixels"),
        ({"do_center_crop": False}, "do_center_crop is False, wanted true where size is the shortest edge"),
        ({"do_rescale": False}, "do_rescale is False, wanted true"),
        ({"rescale_factor": 1}, "rescale_factor is 1, wanted 1/255"),
        ({"resample": 9}, "resample is 9, wanted a number from 0 to 5"),
        ({"resample": [3]}, "resample is [3]"),
        ({"image_mean": [0.5]}, "image_mean is [0.5], wanted three numbers"),
        ({"image_std": [0, 1, 1]}, "image_std is [0, 1, 1], wanted three numbers above 0"),
        ({"size": {"height": 224, "width": 200}}, "wanted whole pixels, the same for height and width"),
        ({"image_processor_type": "ViTImageProcessor"}, "the image processor is 'ViTImageProcessor', wanted one of"),
    ],
)
def test_preprocessing_that_is_refused(data: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        picture_settings(picture_file(tmp_path, data), 224)
    assert message in str(caught.value)


def test_no_preprocessing(clip_folder: Path) -> None:
    (clip_folder / "preprocessor_config.json").unlink()
    assert "holds neither preprocessor_config.json nor a processor_config.json" in refused(clip_folder)


def test_the_vocabulary_is_clips(clip_master: Path, transformers: Any, tmp_path: Path) -> None:
    """From either layout the same merges, and from them the ids of transformers' tokenizer."""
    merges = read_vocabulary(clip_master, 49408, 77)
    assert merges.files == ("vocab.json", "merges.txt")
    theirs = transformers.CLIPTokenizer.from_pretrained(clip_master)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    whole = read_vocabulary(tmp_path, 49408, 77)
    assert whole.files == ("tokenizer.json",)
    assert whole.pairs == merges.pairs
    merges.write(tmp_path / "tokenizer.txt")
    ours = Tokenizer.from_file(tmp_path / "tokenizer.txt")
    assert ours.encode("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, truncation=True, max_length=77)["input_ids"]


def swap(folder: Path) -> None:
    def change(vocabulary: dict[str, Any]) -> None:
        vocabulary["cat</w>"], vocabulary["dog</w>"] = vocabulary["dog</w>"], vocabulary["cat</w>"]

    edit(folder, "vocab.json", change)


def lines(change: Callable[[list[str]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        found = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        change(found)
        (folder / "merges.txt").write_text("\n".join(found), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "'dog</w>' has the id 2368, CLIP's order wants 1929"),
        (lambda folder: (folder / "merges.txt").unlink(), "holds no tokenizer.json and no merges.txt"),
        (lines(lambda found: found.pop(100)), "49408 tokens, its merges make 49407 and the token table has 49408 rows"),
        (lines(lambda found: found.insert(5, "a b c")), "merge 4 is 'a b c', wanted two tokens"),
        (lambda folder: (folder / "vocab.json").write_text("{"), "vocab.json is not JSON"),
        (lambda folder: edit(folder, "vocab.json", lambda data: data.update({"<|endoftext|>": 0})), "has the id 0"),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}'),
            "no byte-pair encoding",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text(
                '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'
            ),
            "end_of_word_suffix is None, wanted '</w>'",
        ),
    ],
)
def test_vocabularies_that_are_refused(change: Callable[[Path], object], message: str, clip_folder: Path) -> None:
    change(clip_folder)
    assert message in refused(clip_folder)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2000),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=3),
)
NAMES = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers", "image_size", "patch_size")
SECTION = st.dictionaries(st.sampled_from((*NAMES, "hidden_act", "layer_norm_eps", "vocab_size")), VALUES)


@settings(deadline=None, max_examples=200)
@given(st.fixed_dictionaries({"model_type": st.just("clip")}, optional={
    "projection_dim": VALUES, "vision_config": SECTION | VALUES, "text_config": SECTION, "text_config_dict": SECTION,
}))  # fmt: skip
def test_any_configuration_is_read_or_refused(data: dict[str, Any]) -> None:
    with contextlib.suppress(CheckpointError):
        image, text = configs(Settings(data, "config.json"))
        assert image.width % image.heads == text.width % text.heads == image.size % image.patch == 0
        assert image.embedding == text.embedding > 0


def test_the_refusal_of_a_pickle_does_not_say_how_to_run_it(tmp_path: Path) -> None:
    torch.save({"weight": Path("anything")}, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match=r"GLOBAL pathlib\.\w+\) and was not run") as caught:
        read_tensors([tmp_path / "model.bin"])
    assert "safe_globals" not in str(caught.value)
    assert "torch.se" not in str(caught.value)
