"""What is wrong with a published checkpoint."""

from __future__ import annotations

from sayclip.errors import SayclipError

SUPPORTED = (
    "this version reads a local folder of a Hugging Face CLIPModel (config.json; model.safetensors, pytorch_model.bin "
    "or optimum's model.onnx; preprocessor_config.json; tokenizer.json, or vocab.json with merges.txt), a hub id that "
    "is in the local cache, OpenAI's .pt, and open_clip's folder, .pt, .bin or .safetensors"
)


class CheckpointError(SayclipError):
    """A checkpoint cannot be converted: not of a kind that is read, damaged, or its parts disagree."""


def refuse(problem: str, remedy: str = "download the model's folder again, or name another model") -> CheckpointError:
    """The error for a checkpoint that cannot be used."""
    return CheckpointError(problem, remedy)
