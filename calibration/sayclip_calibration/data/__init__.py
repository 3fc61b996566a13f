"""Real inputs to calibrate with: found, chosen by seed, read through the runtime's own preprocessing, split in two."""

from __future__ import annotations

from .samples import FEWEST, Inputs, Sample, Source, choose, read_all
from .sources import OPTIONS, Given, find_sources

__all__ = ["FEWEST", "OPTIONS", "Given", "Inputs", "Sample", "Source", "choose", "find_sources", "read_all"]
