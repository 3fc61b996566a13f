"""The small CLIP of random weights in the layouts of OpenAI and open_clip, written from their descriptions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

HEADS = {"image.heads": "4", "text.heads": "4"}  # 16 wide: neither OpenAI's rule nor any known architecture
Write = Callable[[Path, Mapping[str, Tensor]], Path]


class Node(nn.Module):
    """A module that only holds what is below it, as far as an archive is concerned."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def module_tree(state: Mapping[str, Tensor]) -> nn.Module:
    """Modules whose parameters, and buffers where they are integers, have the names of ``state``."""
    root = Node()
    for key, tensor in state.items():
        node: nn.Module = root
        *path, last = key.split(".")
        for name in path:
            below = dict(node.named_children())
            if name not in below:
                node.add_module(name, Node())
            node = dict(node.named_children())[name]
        if tensor.is_floating_point():
            node.register_parameter(last, nn.Parameter(tensor.clone()))
        else:
            node.register_buffer(last, tensor.clone())
    return root


def write_archive(path: Path, state: Mapping[str, Tensor]) -> Path:
    """A TorchScript archive, as OpenAI's ``.pt``."""
    torch.jit.save(torch.jit.script(module_tree(state)), path)
    return path


def write_pickle(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save(dict(state), path)
    return path


def write_safetensors(path: Path, state: Mapping[str, Tensor]) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


@pytest.fixture(scope="session")
def state_master(clip_master: Path) -> dict[str, Tensor]:
    """The weights of ``clip_master`` under OpenAI's names, in float32."""
    theirs = load_file(clip_master / "model.safetensors")
    blocks = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
              "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
    ours = {
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": theirs["visual_projection.weight"].t(),
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
        "text_projection": theirs["text_projection.weight"].t(),
        "logit_scale": theirs["logit_scale"],
    }
    for last in ("weight", "bias"):
        ours[f"visual.ln_pre.{last}"] = theirs[f"vision_model.pre_layrnorm.{last}"]
        ours[f"visual.ln_post.{last}"] = theirs[f"vision_model.post_layernorm.{last}"]
        ours[f"ln_final.{last}"] = theirs[f"text_model.final_layer_norm.{last}"]
        for prefix, tower in (("visual.", "vision_model"), ("", "text_model")):
            for number in range(2):
                layer, block = f"{tower}.encoder.layers.{number}", f"{prefix}transformer.resblocks.{number}"
                stack = [theirs[f"{layer}.self_attn.{part}_proj.{last}"] for part in "qkv"]
                ours[f"{block}.attn.in_proj_{last}"] = torch.cat(stack)
                for one, other in blocks.items():
                    ours[f"{block}.{other}.{last}"] = theirs[f"{layer}.{one}.{last}"]
    assert len(ours) == 12 * 4 + 14
    return ours


@pytest.fixture
def state(state_master: dict[str, Tensor]) -> dict[str, Tensor]:
    """As ``state_master``; free to be changed, tensors included."""
    return {key: tensor.clone() for key, tensor in state_master.items()}


@pytest.fixture(scope="session")
def marks() -> dict[str, Tensor]:
    """The scalars that OpenAI's own checkpoints hold beside their weights."""
    return {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }


@pytest.fixture(scope="session")
def writers() -> dict[str, Write]:
    return {"archive": write_archive, "pickle": write_pickle, "safetensors": write_safetensors}


@pytest.fixture(scope="session")
def heads() -> dict[str, str]:
    """The overrides that tell the small CLIP's heads."""
    return dict(HEADS)


@pytest.fixture(scope="session")
def archive_master(
    state_master: dict[str, Tensor], marks: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small CLIP as OpenAI's TorchScript archive; tests must leave it as it is."""
    return write_archive(tmp_path_factory.mktemp("openai") / "tiny.pt", {**state_master, **marks})


@pytest.fixture
def archive(archive_master: Path, tmp_path: Path) -> Path:
    """A copy of ``archive_master``, free to be damaged."""
    return Path(shutil.copy(archive_master, tmp_path / "tiny.pt"))
