"""Files of our own training: safetensors, with all that makes an encoder of them in the metadata, which is strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sayclip_export.readers.errors import refuse


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write both to ``path``, which is replaced only when all of it is written."""
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    save_file(dict(tensors), str(part), dict(metadata))
    part.replace(path)


def read_metadata(path: Path, format: str, remedy: str) -> dict[str, str]:
    """The metadata of ``path``. Raises CheckpointError for a file that is damaged or not of ``format``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise refuse(f"{path} is damaged or no safetensors file ({error})", remedy) from None
    if metadata.get("format") != format:
        raise refuse(f"{path} has the format {metadata.get('format', 'none')!r:.60}, wanted {format!r}", remedy)
    return metadata


def json_object(metadata: Mapping[str, str], key: str, path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object that the metadata of ``path`` holds under ``key``. Raises CheckpointError."""
    try:
        value = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise refuse(f"{path}: {key} is no JSON object", remedy)
    return value
