"""Models of the Hugging Face hub that were downloaded before: their place in the local cache, never the network."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sayclip_export.readers.errors import refuse

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_hub_id(source: str) -> bool:
    """Whether ``source`` reads like ``openai/clip-vit-base-patch32``."""
    return _ID.fullmatch(source) is not None and "--" not in source and ".." not in source


def cache_folder() -> Path:
    """Where the hub's library keeps models: ``HF_HUB_CACHE``, or ``hub`` in ``HF_HOME``, by default in ``~/.cache``."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def snapshot(hub_id: str) -> Path:
    """The folder of ``hub_id`` in the local cache, at ``main`` or at the only revision that is there.

    Raises CheckpointError, saying how to download it, where there is none.
    """
    cache = cache_folder()
    model = cache / f"models--{hub_id.replace('/', '--')}"
    remedy = f"download it with `hf download {hub_id}`, or name a folder or file that is there"
    try:
        found = [path for path in (model / "snapshots").iterdir() if path.is_dir()]
    except OSError:
        found = []
    if not found:
        raise refuse(
            f"{hub_id} is no folder or file here, nor in the Hugging Face cache {cache}, and nothing is downloaded",
            remedy,
        )
    main = _main(model / "refs" / "main")
    if main is None and len(found) == 1:
        return found[0]
    chosen = [path for path in found if path.name == main]
    if not chosen:
        raise refuse(
            f"the Hugging Face cache {cache} holds {len(found)} revisions of {hub_id}, and none of them is main", remedy
        )
    return chosen[0]


def _main(path: Path) -> str | None:
    """The revision that ``refs/main`` names; None where it names none."""
    try:
        with path.open(encoding="ascii") as file:
            name = file.read(200).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if _SNAPSHOT.fullmatch(name) else None
