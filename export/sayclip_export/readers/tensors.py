"""Weights from files, without running anything that is in them: safetensors, or pickles of tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sayclip_export.readers.archive import MAGIC, check_archive
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.settings import read_json
from sayclip_export.readers.torchscript import is_torchscript

# In the order of preference; an index names the shards of a model too large for one file.
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INDEX = ".index.json"
SAFER = "use the model's safetensors file"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of ``folder``, the index first where there is one. Raises CheckpointError."""
    name = next((name for name in FILES if (folder / name).is_file()), None)
    if name is None:
        raise refuse(f"{folder} holds none of {', '.join(FILES)}, wanted one with the weights")
    if not name.endswith(_INDEX):
        return [folder / name]
    return [folder / name, *(folder / shard for shard in dict.fromkeys(_weight_map(folder / name).values()))]


def read_tensors(files: list[Path]) -> dict[str, Tensor]:
    """Every tensor of ``files`` as they come from ``weight_files``, on the CPU, in the type of the file.

    Raises CheckpointError for files that are damaged or hold anything else than tensors.
    """
    if not files[0].name.endswith(_INDEX):
        return _read(files[0])
    by_shard = {path.name: _read(path) for path in files[1:]}
    found: dict[str, Tensor] = {}
    for key, shard in _weight_map(files[0]).items():
        if key not in by_shard[shard]:
            raise refuse(f"{files[0].parent / shard} lacks {key}, which {files[0].name} says is in it")
        found[key] = by_shard[shard][key]
    return found


def as_float32(key: str, tensor: Tensor, path: Path) -> Tensor:
    """``tensor`` as contiguous fp32. Raises CheckpointError where it holds no floating point, or NaN or infinity."""
    if tensor.dtype not in _FLOATS:
        raise refuse(f"{path}: {key} is {str(tensor.dtype).removeprefix('torch.')}, wanted floating point")
    if tensor.layout is not torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise refuse(f"{path}: {key} has fewer values than its shape {list(tensor.shape)}, wanted all of them")
    value = tensor.to(torch.float32).contiguous()
    if not bool(torch.isfinite(value).all()):
        raise refuse(f"{path}: {key} holds NaN or infinity, wanted finite weights")
    return value


def _weight_map(index: Path) -> dict[str, str]:
    """Key to shard; shards are files beside the index."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise refuse(f"{index} has no weight_map, wanted one from keys to files")
    for shard in found.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise refuse(f"{index} names the shard {shard!r}, wanted a file beside it")
        if shard.endswith(_INDEX) or not (index.parent / shard).is_file():
            raise refuse(f"{index} names the shard {shard!r}, which is not there")
    return found


def _read(path: Path) -> dict[str, Tensor]:
    return read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise refuse(f"{path} is damaged or no safetensors file ({error})") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    return state_dict(load_pickle(path, SAFER), path)


def load_pickle(path: Path, remedy: str) -> Any:
    """What ``torch.save`` wrote to ``path``, on the CPU, with nothing run that is in it. Raises CheckpointError."""
    if first_bytes(path).startswith(MAGIC):
        check_archive(path, remedy)  # before the load, which does not look at CRCs
        if is_torchscript(path):  # which the load would hand over to torch.jit.load
            raise refuse(f"{path} is a TorchScript archive and was not run, wanted a state dict of torch.save", remedy)
    try:
        # Refuses every class and function but those that tensors are made of.
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what a damaged or hostile pickle raises is not foreseeable
        raise refuse(
            f"{path} is damaged or holds something else than tensors ({why_refused(error)}) and was not run", remedy
        ) from None


def why_refused(error: Exception) -> str:
    """What ``torch.load`` has against a pickle, in a few words, without its advice on how to run it all the same."""
    line = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), type(error).__name__)
    return line.partition(" was not an allowed global")[0][:160]


def first_bytes(path: Path) -> bytes:
    """The first nine bytes of ``path``, which tell its kind. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", "name a file that can be read") from None


def state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """``loaded`` from ``path``, where it is tensors by name. Raises CheckpointError."""
    if not isinstance(loaded, Mapping) or not all(
        isinstance(v, Tensor) and isinstance(k, str) for k, v in loaded.items()
    ):
        raise refuse(f"{path} holds a {type(loaded).__name__}, wanted a state dict of tensors by name", SAFER)
    return dict(loaded)
