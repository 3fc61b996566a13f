"""PyTorch-Lightning's ``.ckpt``: a zip of one pickle and its tensors, read without running anything in it.

Only torch's own allow-list is unpickled. What SpeechCLIP's files hold beside tensors, the namespace of its
configuration and a logger, comes as inert stand-ins that keep their state and do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sayclip_export.readers.archive import check_archive
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.tensors import why_refused
from sayclip_export.readers.torchscript import is_torchscript

SUPPORTED = "this version reads Lightning checkpoints (.ckpt) of SpeechCLIP and SpeechCLIP+"
# Classes and functions below these names are stood in for, whatever they are; all others are refused.
INERT = ("avssl.", "pytorch_lightning.", "wandb.", "numpy.mean")
_DEEPEST = 64  # levels of the configuration; published ones have 6


class _Inert:
    """Takes the place of a class or function of a checkpoint. It accepts any arguments and any state."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


@dataclass(frozen=True)
class LightningFile:
    """``tensors``: the state dict as stored, mapped from the file. ``config``: ``hyper_parameters.config`` as plain
    dictionaries. ``version``: of Lightning."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    version: str


def read_lightning(path: Path) -> LightningFile:
    """Read ``path``. Raises CheckpointError for what is no such file, is damaged, or would run code."""
    _check_zip(path)
    found = _unpickle(path)
    if not isinstance(found, Mapping):
        raise refuse(
            f"{path} holds a {type(found).__name__}, wanted the dictionary of a Lightning checkpoint", SUPPORTED
        )
    tensors = found.get("state_dict")
    if not isinstance(tensors, Mapping) or not tensors:
        raise refuse(f"{path} has no state_dict, wanted the weights under that name", SUPPORTED)
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise refuse(f"{path}: state_dict holds {str(key)[:80]!r}, wanted names of tensors alone", SUPPORTED)
    parameters = _plain(found.get("hyper_parameters"), path)
    config = parameters.get("config") if isinstance(parameters, dict) else None
    if not isinstance(config, dict):
        raise refuse(f"{path} has no hyper_parameters.config, wanted the configuration of the training", SUPPORTED)
    return LightningFile(tensors, config, str(found.get("pytorch-lightning_version", "unknown"))[:40])


def _check_zip(path: Path) -> None:
    """Refuse a damaged file by the sums in it, which torch does not compare, and any TorchScript archive."""
    if not path.is_file():
        raise refuse(f"{path} is no file", SUPPORTED)
    check_archive(path, SUPPORTED)
    if is_torchscript(path):
        raise refuse(f"{path} is a TorchScript archive and was not run, wanted a Lightning checkpoint", SUPPORTED)


def _unpickle(path: Path) -> Any:
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        known = [name for name in named if name.startswith(INERT)]
        foreign = sorted(set(named) - set(known))
        if foreign:
            raise CheckpointError(
                f"{path} names {foreign[0][:120]}, which no SpeechCLIP checkpoint needs, and was not run",
                "name a checkpoint from a source you trust; " + SUPPORTED,
            )
        # A stand-in of its own for each name: torch tells allowed classes apart by identity.
        stands = [(type("Inert", (_Inert,), {}), name) for name in known]
        with torch.serialization.safe_globals(stands):  # type: ignore[arg-type]  # pairs are taken, its hint is narrower
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # what a damaged or hostile pickle raises is not foreseeable
        raise refuse(f"{path} is damaged or no Lightning checkpoint ({why_refused(error)}) and was not run") from None


def _plain(value: object, path: Path, depth: int = 0) -> Any:
    """Dictionaries and lists out of stand-ins; what is neither of these, a number, a text nor a truth becomes None."""
    if depth > _DEEPEST:
        raise refuse(f"{path}: hyper_parameters has more than {_DEEPEST} levels")
    if isinstance(value, _Inert):
        value = value.state
    if isinstance(value, Mapping):
        return {str(key): _plain(item, path, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, path, depth + 1) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else None
