"""A published state dict under its own names, every key of which is taken, dropped by name, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.tensors import as_float32

_REMEDY = "download the checkpoint again, or name another one"


class State:
    """Tensors by their published keys. On the meta device shapes alone are checked, and no value is looked at."""

    def __init__(self, tensors: Mapping[str, Tensor], where: Path) -> None:
        self.where = where
        self._left = dict(tensors)
        self.shapes_only = any(tensor.is_meta for tensor in tensors.values())

    def has(self, prefix: str) -> bool:
        """Whether any key that was not taken yet begins so."""
        return any(key.startswith(prefix) for key in self._left)

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        """The shape of ``key``. Raises CheckpointError where it is missing or has other than ``dimensions``."""
        tensor = self._left.get(key)
        if tensor is None:
            raise refuse(f"{self.where} lacks {key}", _REMEDY)
        if tensor.ndim != dimensions or 0 in tensor.shape:
            raise refuse(f"{self.where}: {key} has the shape {list(tensor.shape)}, wanted {dimensions} dimensions")
        return tuple(tensor.shape)

    def count(self, pattern: str) -> int:
        """How many of ``pattern`` with {} = 0, 1, 2 … there are, without a gap."""
        found = 0
        while self.has(pattern.format(found)):
            found += 1
        return found

    def take(self, key: str, shape: Sequence[int], why: str = "") -> Tensor:
        """``key`` in fp32; ``why`` says what wants that shape. Raises CheckpointError unless it is there and finite."""
        if key not in self._left:
            raise refuse(f"{self.where} lacks {key}, wanted {list(shape)}", _REMEDY)
        tensor = self._left.pop(key)
        if list(tensor.shape) != list(shape):
            reason = f" ({why})" if why else ""
            raise refuse(
                f"{self.where}: {key} has the shape {list(tensor.shape)}, wanted {list(shape)}{reason}", _REMEDY
            )
        return tensor if tensor.is_meta else as_float32(key, tensor, self.where)

    def finite(self, key: str, value: Tensor) -> Tensor:
        """``value``, which was computed from ``key``. Raises CheckpointError where it is not finite."""
        return value if value.is_meta else as_float32(key, value, self.where)

    def drop(self, test: Callable[[str], bool]) -> None:
        """Forget the keys that ``test`` names."""
        self._left = {key: tensor for key, tensor in self._left.items() if not test(key)}

    def drop_aliases(self, prefix: str, original: str) -> None:
        """Forget second names ``prefix…`` of ``original…``, once seen to be equal. Raises CheckpointError."""
        for key in [key for key in self._left if key.startswith(prefix)]:
            alias, known = self._left.pop(key), self._left.get(original + key.removeprefix(prefix))
            wanted = original + key.removeprefix(prefix)
            if known is None:
                raise refuse(f"{self.where} lacks {wanted}, of which {key} is a copy", _REMEDY)
            if alias.shape != known.shape or not (self.shapes_only or _equal(alias, known)):
                raise refuse(f"{self.where}: {key} differs from {wanted}, wanted a copy", _REMEDY)

    def finish(
        self, remedy: str = "this version knows the published SpeechCLIP and SpeechCLIP+ models; name one of these"
    ) -> None:
        """Refuse what is left over. Raises CheckpointError."""
        left = sorted(self._left)
        if left:
            more = f" and {len(left) - 1} more keys" if left[1:] else ""
            raise CheckpointError(
                f"{self.where} holds {left[0]} {list(self._left[left[0]].shape)}{more} that no part of the model takes",
                remedy,
            )


class Filling:
    """The tensors of one module on their way in: ours by theirs, each checked against the shape that ours has."""

    def __init__(self, state: State, make: Callable[[], nn.Module]) -> None:
        self.state = state
        with torch.device("meta"):
            self.module = make()
        self.wanted = {key: tuple(value.shape) for key, value in self.module.state_dict().items()}
        self._found: dict[str, Tensor] = {}

    def copy(self, ours: str, theirs: str, why: str = "") -> None:
        """A tensor ``ours``, or every tensor below the module ``ours``, under the name ``theirs``."""
        for key, shape in self.wanted.items():
            if key == ours or key.startswith(f"{ours}."):
                self._found[key] = self.state.take(theirs + key.removeprefix(ours), shape, why)

    def put(self, ours: str, value: Tensor) -> None:
        """A tensor ``ours`` that was computed."""
        self._found[ours] = value

    def attention(self, ours: str, theirs: str) -> None:
        """An ``Attention`` from torch's packed form: rows of q, then k, then v."""
        width = self.wanted[f"{ours}.q_proj.weight"][1]
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            packed = self.state.take(f"{theirs}.in_proj_{kind}", shape)
            for name, part in zip("qkv", packed.chunk(3), strict=True):
                self._found[f"{ours}.{name}_proj.{kind}"] = part
        self.copy(f"{ours}.out_proj", f"{theirs}.out_proj")

    def load(self) -> nn.Module:
        """The module, in evaluation mode and without gradients."""
        self.module.load_state_dict(self._found, assign=True)
        return self.module.requires_grad_(False).eval()


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What ``tensors`` hold under ``prefix``, without it; all of them where none begins so."""
    found = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    return found or dict(tensors)


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.data_ptr() == second.data_ptr() or torch.equal(first, second)
