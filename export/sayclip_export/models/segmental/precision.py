"""Where decisions are made, nothing may be computed in half precision."""

from __future__ import annotations

import contextlib

import torch


def single(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast off inside, where it is on. Elsewhere nothing: an exporter would take the switch for an operation."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
