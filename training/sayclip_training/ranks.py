"""Data-parallel training on one machine: processes of one thread each, whose gradients are averaged (gloo).

A second process pays better than a second thread: with layers this small the time goes into what one thread does alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn


@dataclass(frozen=True)
class Rank:
    """One process ``number`` of ``of``; the first leads: it evaluates, logs and saves."""

    number: int = 0
    of: int = 1

    @property
    def leads(self) -> bool:
        return self.number == 0

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by its mean over all processes."""
        if self.of == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.of
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def launch(count: int, function: Callable[..., object], *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` in ``count`` new processes and wait; one that fails ends all."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_join, (count, Path(folder) / "store", function, arguments), count)


def _join(number: int, count: int, store: Path, function: Callable[..., object], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=count)
    try:
        function(Rank(number, count), *arguments)
    finally:
        distributed.destroy_process_group()
    # Threads of gloo and of autograd may still hold Python objects. One that wants the interpreter while it shuts down
    # is unwound through code that must not be, and ends the process by SIGABRT: leave without shutting down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
