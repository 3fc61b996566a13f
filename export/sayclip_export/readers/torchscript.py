"""Weights out of a TorchScript archive, as OpenAI published CLIP: its pickled module tree alone, by an allow-list.

``torch.jit.load`` would hand the archive's ``code/`` to a compiler and ``torch.load`` refuses the format. The tree in
``data.pkl`` needs neither: module classes become inert holders of attributes, and the only functions that it may call
rebuild a tensor from a member ``data/<key>`` or make an ordered dictionary.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sayclip_export.readers.archive import damaged, open_archive
from sayclip_export.readers.errors import CheckpointError, refuse

REMEDY = "download the checkpoint again"
_TREE, _STORAGES, _CONSTANTS = "data.pkl", "data", "constants.pkl"
_MAX_TREE = 64 << 20  # that of ViT-L/14 has less than 1 MB
_MAX_TENSORS, _MAX_DEPTH = 100_000, 64
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2")


def is_torchscript(path: Path) -> bool:
    """Whether a zip was written by ``torch.jit.save``; ``torch.save`` writes no ``constants.pkl``."""
    with open_archive(path, REMEDY, content=False) as archive:
        return any(name.partition("/")[2] == _CONSTANTS for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Every parameter and buffer of the module tree by its dotted name, in the types of the file.

    Raises CheckpointError for an archive that is damaged, or whose pickle names anything but tensors and modules;
    nothing that is in it is ever run.
    """
    with open_archive(path, REMEDY) as archive:
        root = archive.namelist()[0].partition("/")[0]
        try:
            data = _member(archive, f"{root}/{_TREE}", _MAX_TREE)
            if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
                raise refuse(f"{path} is of a big-endian machine, wanted little-endian weights", REMEDY)
            _check_memo(data)
            tree = _Unpickler(data, archive, root).load()
            return dict(_tensors(tree, "", 0, [_MAX_TENSORS]))
        except CheckpointError:
            raise
        except _Refused as error:
            raise refuse(f"{path} holds something else than tensors ({error}) and was not run", REMEDY) from None
        except MemoryError:
            raise
        except Exception as error:  # what a damaged or hostile pickle raises is not foreseeable
            raise damaged(path, f"{_TREE}: {error or type(error).__name__}", REMEDY) from None


class _Refused(Exception):
    """The pickle asks for something outside the allow-list."""


class _Module:
    """What stands for every module of the archive: it keeps attributes and can do nothing."""

    __slots__ = ("attributes",)

    def __new__(cls, *arguments: object) -> _Module:
        if arguments:
            raise _Refused("a module with arguments")
        module = super().__new__(cls)
        module.attributes = {}
        return module

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise _Refused("a module whose state is no dictionary of names")
        self.attributes = state


class _Fixed:
    """A value that the pickle may pass on and cannot change: a dtype, a storage, a tensor, or an allowed function."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        raise _Refused(f"a changed {type(self).__name__.strip('_').lower()}")


class _Kind(_Fixed):
    __slots__ = ()


class _Storage(_Fixed):
    __slots__ = ()


class _View(_Fixed):
    __slots__ = ()


class _Function(_Fixed):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> object:
        return self.value(*arguments)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._root = archive, root
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _Kind(_DTYPES[name])
        if module == "torch._utils" and name in _REBUILDERS:
            return _Function(_rebuild)
        if (module, name) == ("collections", "OrderedDict"):
            return _Function(OrderedDict)
        raise _Refused(f"GLOBAL {module[:60]}.{name[:60]}")

    def persistent_load(self, reference: object) -> _Storage:
        """The storage ``('storage', type, key, location, count)`` as a tensor [count]; the location is ignored."""
        match reference:
            case ("storage", _Kind(value=dtype), str(key), str(), int(count)):
                pass
            case _:
                raise _Refused(f"the reference {str(reference)[:60]}")
        if key not in self._storages:
            name, size = f"{self._root}/{_STORAGES}/{key}", count * dtype.itemsize
            raw = bytearray(_member(self._archive, name, size))
            if len(raw) != size:
                raise ValueError(f"{name} has {len(raw)} bytes, wanted {size}")
            self._storages[key] = _Storage(torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype))
        storage = self._storages[key]
        if storage.value.dtype != dtype or storage.value.numel() != count:
            raise ValueError(f"the storage {key} is told in two ways")
        return storage


def _rebuild(storage: object, offset: object, size: object, stride: object, *rest: object) -> _View:
    """A view of ``storage``, refused where it leaves it or repeats its elements."""
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without storage")
    numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"a tensor at {str(offset)[:20]} of size {str(size)[:40]} and stride {str(stride)[:40]}")
    view = torch.as_strided(storage.value, size, stride, offset)  # type: ignore[arg-type]
    if view.numel() > storage.value.numel():
        raise ValueError(f"a tensor of {view.numel()} elements in a storage of {storage.value.numel()}")
    return _View(view)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise ValueError(f"{name} is missing") from None
    if size > most:
        raise ValueError(f"{name} has {size} bytes, wanted at most {most}")
    return archive.read(name)


def _check_memo(data: bytes) -> None:
    """Places of the pickle's memo are counted from 0; a far one would make the unpickler reserve memory up to it."""
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and argument is not None and int(argument) > len(data):
            raise ValueError(f"a memo of {argument} places in {len(data)} bytes")


def _tensors(node: object, prefix: str, depth: int, room: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the tree. ``room`` counts down, so that a tree that refers to itself comes to an end."""
    if depth > _MAX_DEPTH or room[0] <= 0:
        raise ValueError("a tree without end")
    room[0] -= 1
    if isinstance(node, _View):
        yield prefix, node.value
    elif isinstance(node, _Module):
        for name, value in node.attributes.items():
            yield from _tensors(value, f"{prefix}.{name}" if prefix else name, depth + 1, room)
