"""Inputs: recordings and pictures, checked, decoded and brought into the form an encoder takes."""

from __future__ import annotations

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
