"""Calibration: an fp32 encoder becomes int8 by explicit Q/DQ, with a gate on what that may cost."""

from __future__ import annotations

from .calibrate import Int8Report, quantise_encoder
from .cosine import CosineReport, compare
from .minmax import Range, collect_ranges
from .placement import Placement, Site, place
from .qdq import Int8Files, write_int8
from .sensitivity import LayerDamage, SensitivityReport, choose_exclusions
from .unsigned import to_unsigned

__all__ = [
    "CosineReport",
    "Int8Files",
    "Int8Report",
    "LayerDamage",
    "Placement",
    "Range",
    "SensitivityReport",
    "Site",
    "choose_exclusions",
    "collect_ranges",
    "compare",
    "place",
    "quantise_encoder",
    "to_unsigned",
    "write_int8",
]
