"""Storing int8 graphs: weights in one external data file, structures beside it, all or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, external_data_helper

from sayclip.errors import BundleError

INLINE_BYTES = 1024  # smaller floats stay in the structure, where shape inference and constant folding see them
LARGE_BYTES = 1 << 20
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@contextmanager
def publish(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a draft folder to write ``names`` into, and put all of them in place once every one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=folder) as drafts:
        yield Path(drafts)
        for name in names:
            os.replace(Path(drafts) / name, folder / name)


def write_data(model: ModelProto, path: Path) -> None:
    """Move the int8 weights and the large floats of ``model``, in place, to a data file beside its structure.

    The order is that of the graph, so the same graph gives the same bytes. Large tensors start on a page, for memory
    mapping; the others on 64 bytes.
    """
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            raw = tensor.raw_data
            large = tensor.data_type in _FLOATS and len(raw) >= INLINE_BYTES
            if not tensor.dims or not (large or tensor.data_type == TensorProto.INT8):
                continue
            file.write(bytes(-file.tell() % (4096 if len(raw) >= LARGE_BYTES else 64)))
            offset = file.tell()
            file.write(raw)
            external_data_helper.set_external_data(tensor, path.name, offset, len(raw))
            tensor.ClearField("raw_data")


def write_structure(model: ModelProto, path: Path) -> None:
    """Write a graph whose large tensors are already external, and check the result."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=False)
    except onnx.checker.ValidationError as error:
        problem = f"the int8 graph is not valid ONNX ({' '.join(str(error).split())[:200]})"
        raise BundleError(problem, "report this graph") from error
