"""Inputs: recordings and pictures, checked, decoded and brought into the form an encoder takes."""

from __future__ import annotations

from sayclip.inputs.audio import AudioSettings, read_audio
from sayclip.inputs.pictures import PictureSettings, read_picture

__all__ = ["AudioSettings", "PictureSettings", "read_audio", "read_picture"]
