"""Every published format of CLIP, recognised from its contents."""

from __future__ import annotations

import os
from pathlib import Path

from sayclip_export.readers import hugging_face, open_clip, state_dict
from sayclip_export.readers.clip_checkpoint import ClipCheckpoint
from sayclip_export.readers.errors import SUPPORTED, refuse
from sayclip_export.readers.hub import is_hub_id, snapshot
from sayclip_export.readers.overrides import Overrides


def read_clip(
    source: str | os.PathLike[str], overrides: Overrides | None = None, vocabulary: Path | None = None
) -> ClipCheckpoint:
    """Read the CLIP at ``source``: a folder, a file, or a hub id that lies in the local cache; the network is not used.

    ``overrides`` settle what a state dict leaves open: ``architecture``, ``activation``, ``image.heads``,
    ``text.heads``, ``image.normalisation``, ``image.resize``. ``vocabulary``: CLIP's byte-pair encoding, for formats
    that come without it. Raises CheckpointError or InputError, one line with the value seen and that wanted.
    """
    overrides = overrides or Overrides()
    path, name = Path(source).expanduser(), ""
    if not os.path.lexists(path) and is_hub_id(os.fspath(source)):
        path, name = snapshot(os.fspath(source)), os.fspath(source).rpartition("/")[2]
    if path.is_file():
        return state_dict.read_file(path, overrides, vocabulary)
    if not path.is_dir():
        raise refuse(f"{path} does not exist, and is no hub id such as openai/clip-vit-base-patch32", SUPPORTED)
    if (path / hugging_face.CONFIG).is_file():
        overrides.finish()
        return hugging_face.read_clip(path, vocabulary=vocabulary, name=name)
    if (path / open_clip.CONFIG).is_file():
        return open_clip.read_folder(path, overrides, vocabulary, name)
    other = next((p.name for pattern in ("*.pt", "*.safetensors", "*.bin") for p in path.glob(pattern)), None)
    holds = f"{other} but no {hugging_face.CONFIG}" if other else f"no {hugging_face.CONFIG}"
    raise refuse(f"{path} holds {holds}", f"name {path / other} itself" if other else SUPPORTED)
