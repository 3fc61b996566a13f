"""Inputs: recordings and pictures, checked, decoded and brought into the form an encoder takes.

Names are imported at their first use: a spoken query takes nothing of what reads pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sayclip.inputs.audio import AudioSettings, read_audio, read_stereo
    from sayclip.inputs.log_mel import LogMelSettings, log_mel_images
    from sayclip.inputs.pictures import PictureSettings, read_picture

__all__ = [
    "AudioSettings",
    "LogMelSettings",
    "PictureSettings",
    "log_mel_images",
    "read_audio",
    "read_picture",
    "read_stereo",
]

_HOMES = {
    **dict.fromkeys(("AudioSettings", "read_audio", "read_stereo"), "sayclip.inputs.audio"),
    **dict.fromkeys(("LogMelSettings", "log_mel_images"), "sayclip.inputs.log_mel"),
    **dict.fromkeys(("PictureSettings", "read_picture"), "sayclip.inputs.pictures"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
