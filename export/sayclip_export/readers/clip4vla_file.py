"""The file of a CLIP4VLA checkpoint, ``pytorch_model.bin.*``: checksums first, then tensors and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.tensors import read_tensors

REMEDY = "fetch the checkpoint again; wanted is a state dict of CLIP4VLA, such as pytorch_model.bin.4"
_WRAPPER = "module."


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Every tensor of ``path`` by its key, on the CPU, in the type of the file. Raises CheckpointError.

    Of the older format, which is no zip archive, there are no checksums to look at.
    """
    if path.is_dir():
        raise refuse(f"{path} is a folder, wanted the file of a checkpoint", REMEDY)
    try:
        tensors = read_tensors([path])
    except CheckpointError as error:
        raise refuse(error.problem, REMEDY) from None
    for key, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise refuse(f"{path}: {key} is {tensor.layout} on {tensor.device}, wanted plain values", REMEDY)
        # A view may claim any size; copying it would ask for all of that.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise refuse(f"{path}: {key} has the shape {list(tensor.shape)}, more than the file holds of it", REMEDY)
    if tensors and all(key.startswith(_WRAPPER) for key in tensors):
        return {key[len(_WRAPPER) :]: tensor for key, tensor in tensors.items()}
    return tensors
